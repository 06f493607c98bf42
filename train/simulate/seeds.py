"""Which seeds are whose: bench scenes and training scenes come from ranges that cannot meet.

A scene is drawn from (seed, index). Training uses small seeds (nano's trainer: 1, 1_000_004 and 2_000_004 for its first
recipe), the bench those of `BENCH_SEEDS`, one for each kind of split.
"""

import numpy as np

from edge_runtime.errors import ConfigError

TRAINING_SEEDS = range(3_000_000_000)
BENCH_SEEDS = range(3_000_000_000, 4_000_000_000)
# The splits of bench s draw their scenes from BENCH_SEEDS[s * SEEDS_PER_BENCH + k].
SEEDS_PER_BENCH = 1000
# Streams of randomness beside that of the scene itself, which is [seed, index]; noise needs one for each view.
LENS_STREAM, QUESTION_STREAM, NOISE_STREAM = 1, 2, 3


def bench_seed(bench: int, split: int) -> int:
    """The seed of the scenes of one split.

    Args:
        bench: Number of the bench, from 0; what the command line calls its seed.
        split: Number of the split, from 0.

    Raises:
        ConfigError: There is no bench of that number.
    """
    limit = len(BENCH_SEEDS) // SEEDS_PER_BENCH
    if not 0 <= bench < limit:
        raise ConfigError(f"the seed of a bench is a number from 0 to {limit - 1}, not {bench}")
    return BENCH_SEEDS[bench * SEEDS_PER_BENCH + split]


def training_seed(seed: int) -> int:
    """The seed, if training data may be drawn from it.

    Raises:
        ConfigError: It is none, or kept for benches.
    """
    if seed not in TRAINING_SEEDS:
        raise ConfigError(
            f"training scenes have seeds from 0 to {TRAINING_SEEDS[-1]}, not {seed}; larger are a bench's"
        )
    return seed


def stream(seed: int, index: int, purpose: int) -> np.random.Generator:
    """Randomness for one purpose of one scene, independent of the scene's own."""
    return np.random.default_rng(np.random.SeedSequence([seed, index, purpose]))
