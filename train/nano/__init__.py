"""nano: a small RoboRefer trained from scratch on simulated scenes, in stages that can stop and go on."""
