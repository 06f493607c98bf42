"""The network in torch: two SigLIP towers, two projectors and a Qwen2 decoder, composed in `vlm.py`."""
