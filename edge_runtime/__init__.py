"""The robot side of RoboRefer Edge: from a camera frame and an instruction to a point in metres.

Importing this package loads no native library; each one is loaded at its own door when first used.
"""
