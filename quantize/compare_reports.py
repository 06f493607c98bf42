"""Two error reports of the same questions, paired: is one decoder closer to the parent than the other?

    python -m quantize.compare_reports A/error_report.json B/error_report.json

Prints the mean difference of the answers' KL divergence, B less A, with its 95 % interval (bootstrap over questions).
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_runtime.errors import DataError
from edge_runtime.records import F64

_DRAWS: Final = 10_000


@dataclass(frozen=True)
class PairedDifference:
    """Of two reports, second less first."""

    questions: int
    mean: float  # nats
    low: float  # 95 % interval
    high: float


def paired_difference(first: Path, second: Path, *, seed: int = 0) -> PairedDifference:
    """Compare the divergences of two reports question by question.

    Raises:
        DataError: A file is no report, has no calibration answers, or was made on other questions.
    """
    a, b = (_divergences(path) for path in (first, second))
    if len(a) != len(b):
        raise DataError(f"{first} has {len(a)} questions, {second} has {len(b)}: use the same data, count and seed")
    return interval_of_mean(b - a, seed=seed)


def interval_of_mean(differences: F64, *, seed: int = 0) -> PairedDifference:
    """Mean of paired differences with its bootstrap interval."""
    rng = np.random.default_rng(seed)
    draws = rng.choice(differences, (_DRAWS, len(differences))).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return PairedDifference(len(differences), float(differences.mean()), float(low), float(high))


def _divergences(path: Path) -> F64:
    try:
        report: Any = json.loads(path.read_text(encoding="utf-8"))
        answers = report["answers"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no error report ({error})") from error
    if not answers:
        raise DataError(f"{path} compares no answers: quantize with --calibration")
    return np.array(answers["kl_nats_of_each"], np.float64)


def main(arguments: list[str]) -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(prog="python -m quantize.compare_reports", description=__doc__.split("\n")[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    options = parser.parse_args(arguments)
    found = paired_difference(options.first, options.second)
    sys.stdout.write(
        f"{found.questions} questions: KL differs by {found.mean:+.5f} nats on average, "
        f"95 % interval {found.low:+.5f} to {found.high:+.5f}\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
