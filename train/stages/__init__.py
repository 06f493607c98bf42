"""RoboRefer's stages of training on one trainer, from one CPU to many nodes.

verbs.py, command.py     flags; what the verbs do with them
presets.toml, presets.py the published numbers; read, overridden, compared with a checkpoint
settings.py              every number of a run, checked
arithmetic.py            global batch = per device x processes x accumulation; steps
init_depth.py            an RGB-only checkpoint given what depth needs
conversation.py          sample -> token ids, labels, tiles, through the robot's own stages
collate.py, examples.py  passes of mixed RGB and RGB-D sequences; who learns from what at which step
source.py                a mixture of data sets as the steps of a run
lessons.py               which source and which objective a stage has
network.py               one pass -> log-probability of every learnt token
side_by_side.py, drawing.py  several answers to one prompt: in one sequence, and drawn from the model
rft/                     the third stage: questions, rewards, groups
objective.py             what a stage makes of that
learning.py, adapters.py what learns; LoRA and 4 bits; merged again
engine.py                processes together: accelerate, fully_shard
trainer.py, schedule.py  the loop of every stage; its rate
keeping.py, run_folder.py checkpoints, whole or absent; how a run goes on
memory.py                out of memory, said with the knob that helps
launch/                  accelerate configs, SLURM and multi-host scripts
"""
