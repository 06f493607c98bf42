"""Simulated tabletop scenes in MuJoCo: RGB, metric depth, instance masks and the scene graph, all exact."""
