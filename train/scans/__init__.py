"""Questions from real RGB-D scans with 3D boxes and captions, through the simulator's spatial engine."""
