"""The machine: cameras, board, deployment. A leaf package: it imports nothing of ours."""
