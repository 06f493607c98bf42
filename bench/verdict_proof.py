"""Can a verdict of `bench compare` be trusted? Shown with damage of known size, and with pairs that are equally good.

    python -m bench.verdict_proof BUNDLE --data DATA --out OUT [--levels 0.01,0.02,0.05,0.1] [--runs 20]

Three proofs. *Noise*: the more noise on the decoder's matrices, the worse the verdict, never the other way round.
*Itself*: a bundle asked twice, compared on pictures drawn anew for each run, is never worse than itself. *Exchanged*:
for each picture a coin decides which of two bundles that do differ is called the reference, so that neither side is
better; a verdict of "worse" is false then, and may come up in one run of twenty. Exits with 6 if a proof fails.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np

from bench.accuracy import AccuracyRequest, measure, write_report
from bench.compare import Comparison, compare
from bench.compare_report import answer_set
from bench.datasets import Dataset, open_dataset
from bench.noisy_decoder import write_noisy
from bench.pairing import AnswerSet
from bench.samples import SampleKey
from bench.subjects import SubjectChoice
from edge_runtime.bundle import open_bundle
from edge_runtime.errors import BudgetExceeded, ConfigError, EdgeError

LEVELS: Final = (0.01, 0.02, 0.05, 0.1)
RUNS: Final = 20
MOST_FALSE: Final = 2  # of 20 runs; a test at 95 % is wrong in one of them, now and then in two
_RANK: Final = {"better": 0, "same": 0, "worse": 1}
ANSWERS: Final = "answers.jsonl"


@dataclass(frozen=True)
class ProofRequest:
    """What is asked whom, and where it goes."""

    bundle: Path
    data: Path
    out: Path
    levels: tuple[float, ...] = LEVELS
    runs: int = RUNS


def prove(request: ProofRequest, *, on_step: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Ask, compare, judge. A run that was stopped goes on where it was.

    Args:
        request: What to do.
        on_step: Called with what begins.

    Returns:
        What `OUT/verdict_proof.json` holds.

    Raises:
        EdgeError: The bundle or the data cannot be used.
    """
    levels = sorted(request.levels)
    if not levels or levels[0] <= 0:
        raise ConfigError(f"--levels are shares of a matrix's spread above 0, got {request.levels}")
    dataset = open_dataset(request.data)
    clean = _asked(request, request.bundle, "clean", dataset, on_step)
    again = _asked(request, request.bundle, "again", dataset, on_step)
    noisy = {level: _noisy(request, level, dataset, on_step) for level in levels}
    ladder = [_row(level, compare(clean, side, dataset.samples)) for level, side in noisy.items()]
    pair = (clean, noisy[levels[0]])
    itself = [_verdict(clean, again, dataset, run) for run in range(request.runs)]
    exchanged = [_verdict(*_exchanged(pair, dataset, run), dataset, run) for run in range(request.runs)]
    ranks = [_RANK[row["verdict"]] for row in ladder]
    report = {
        "kind": "verdict_proof",
        "questions": len(dataset.samples),
        "noise": ladder,
        "itself": dict(Counter(itself)),
        "exchanged": dict(Counter(exchanged)),
        "holds": {
            "noise": ranks == sorted(ranks),
            "itself": itself.count("worse") <= MOST_FALSE * request.runs / RUNS,
            "exchanged": exchanged.count("worse") <= MOST_FALSE * request.runs / RUNS,
        },
    }
    write_report(request.out / "verdict_proof.json", report)
    return report


def lines_of(report: dict[str, Any]) -> Iterator[str]:
    """The report for a person."""
    yield f"{report['questions']} questions; noise on each decoder matrix, as a share of its spread:"
    for row in report["noise"]:
        low, high = row["interval"]
        yield (
            f"  {row['noise']:>6.1%}  {100 * row['difference']:+6.2f} points ({100 * low:+.2f} to {100 * high:+.2f})"
            f"  shift p95 {row['shift_p95_px']:.1f} px  {row['verdict']}"
        )
    for name, words in (("itself", "against itself"), ("exchanged", "two bundles, exchanged by a coin")):
        yield f"{words}: " + ", ".join(f"{verdict} {n}" for verdict, n in sorted(report[name].items()))
    for name, holds in report["holds"].items():
        yield f"{name}: {'holds' if holds else 'FAILS'}"


# --- asking ---------------------------------------------------------------------------------------------


def _noisy(request: ProofRequest, level: float, dataset: Dataset, on_step: Callable[[str], None]) -> AnswerSet:
    bundle = request.out / f"bundle-{level:g}"
    if not bundle.exists():
        write_noisy(open_bundle(request.bundle), bundle, spread=level)
    return _asked(request, bundle, f"noise-{level:g}", dataset, on_step)


def _asked(
    request: ProofRequest, bundle: Path, name: str, dataset: Dataset, on_step: Callable[[str], None]
) -> AnswerSet:
    on_step(f"asking {name}")
    out = request.out / name
    measure(AccuracyRequest(request.data, SubjectChoice(bundle=bundle), out=out))
    return answer_set(out / ANSWERS, dataset)


# --- judging --------------------------------------------------------------------------------------------


def _row(level: float, found: Comparison) -> dict[str, Any]:
    difference = found.whole.difference
    return {
        "noise": level,
        "verdict": found.verdict,
        "difference": round(found.whole.subject - found.whole.reference, 6),
        "interval": [round(difference.low, 6), round(difference.high, 6)],
        "shift_p95_px": found.shift_px()["p95"],
    }


def _verdict(reference: AnswerSet, subject: AnswerSet, dataset: Dataset, run: int) -> str:
    """On half of the pictures, drawn for this run."""
    names = sorted({sample.image.name for sample in dataset.samples})
    rng = np.random.default_rng([1, run])
    drawn = set(rng.choice(names, size=max(1, len(names) // 2), replace=False).tolist())
    samples = [sample for sample in dataset.samples if sample.image.name in drawn]
    keys = {sample.key for sample in samples}
    return compare(_only(reference, keys), _only(subject, keys), samples, seed=run).verdict


def _exchanged(pair: tuple[AnswerSet, AnswerSet], dataset: Dataset, run: int) -> tuple[AnswerSet, AnswerSet]:
    """The same answers, a coin per picture deciding whose is called the reference's."""
    first, second = pair
    names = sorted({sample.image.name for sample in dataset.samples})
    heads = dict(zip(names, np.random.default_rng([2, run]).random(len(names)) < 0.5, strict=True))
    turned = {sample.key for sample in dataset.samples if heads[sample.image.name]}
    return _mixed(first, second, turned), _mixed(second, first, turned)


def _mixed(one: AnswerSet, other: AnswerSet, turned: set[SampleKey]) -> AnswerSet:
    return replace(one, answers={key: (other if key in turned else one).answers[key] for key in one.answers})


def _only(side: AnswerSet, keys: set[SampleKey]) -> AnswerSet:
    return replace(side, answers={key: line for key, line in side.answers.items() if key in keys})


# --- command line ---------------------------------------------------------------------------------------


def _say(words: str, stream: TextIO) -> None:
    stream.write(f"{words}\n")
    stream.flush()


def main(arguments: Sequence[str]) -> int:
    """Do it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.verdict_proof", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("bundle", type=Path, help="full-precision bundle, as export writes it")
    parser.add_argument("--data", type=Path, required=True, help="questions in RefSpatial-Bench's layout")
    parser.add_argument("--out", type=Path, required=True, help="where answers and the report go")
    parser.add_argument("--levels", default=",".join(map(str, LEVELS)), help="noise as shares of a matrix's spread")
    parser.add_argument("--runs", type=int, default=RUNS)
    asked = parser.parse_args(arguments)
    try:
        levels = tuple(float(level) for level in asked.levels.split(","))
        request = ProofRequest(asked.bundle, asked.data, asked.out, levels, asked.runs)
        report = prove(request, on_step=lambda step: _say(step, sys.stderr))
        _say("\n".join(lines_of(report)), sys.stdout)
        if failed := [name for name, holds in report["holds"].items() if not holds]:
            raise BudgetExceeded(f"the proof by {', '.join(failed)} fails; see {asked.out / 'verdict_proof.json'}")
    except EdgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
