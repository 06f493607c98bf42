"""Checkpoint to bundle: ONNX encoders, GGUF decoder, golden values and the parity report."""
