"""Reinforcement (GRPO): answers drawn from the model that learns, each rewarded by how it compares with its own group.

rewards.py    an answer's rewards against the truth; nothing of torch
questions.py  what is asked: questions for points of a mixture, with their truths
groups.py     answers and rewards to the tensors of a pass
source.py     questions -> answers of the model as it is now -> passes of a step
objective.py  what comes of a pass: advantages, and how far the model went from where it began
"""
