"""What a training run will need: memory of each GPU and time of a step, before any GPU is asked for."""
