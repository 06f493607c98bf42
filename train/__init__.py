"""Owns the torch model: its definition, its checkpoints, its data and its training."""
