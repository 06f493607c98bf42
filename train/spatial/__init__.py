"""One spatial language for simulated and scanned scenes: scene graph in, unambiguous questions with true masks out."""
