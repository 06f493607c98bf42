"""`roborefer-edge service`: the live loop as a systemd service of this machine, or of an image being built."""
