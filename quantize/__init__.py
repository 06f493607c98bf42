"""Bundle to smaller bundle: INT8 and INT4 encoders, quantized GGUF decoder. Never sees torch."""
