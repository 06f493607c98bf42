"""nano: a small RoboRefer trained from scratch on simulated scenes, in stages that can stop and go on."""

import os

# Read once, when torch's OpenMP is loaded: threads that spin while they wait for each other halve the speed of small
# machines that do anything else beside.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
