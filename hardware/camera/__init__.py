"""RGB-D cameras behind one protocol: live, recorded, replayed and simulated."""
