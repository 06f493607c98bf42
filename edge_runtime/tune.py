"""`doctor --tune`: finds out how the native libraries answer a bundle fastest on this machine, and keeps that.

Each stage is measured in a child process, because a setting may crash a native library; candidates take turns, so that
a machine that grows hot or busy favours nobody. A setting has to gain more than the noise, keep the golden answers
within the bundle's tolerance, and win once more in whole questions, before against after, in turns.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from edge_runtime.bundle import Bundle, open_bundle
from edge_runtime.provider_choice import prove_choice
from edge_runtime.tune_bench import BUDGETS_S, TuneBench
from edge_runtime.tune_search import (
    Spread,
    Trial,
    better,
    encoder_candidates,
    faster_first,
    kv_candidates,
    thread_candidates,
    ubatch_candidates,
)
from edge_runtime.tune_trial import prompt_rows
from edge_runtime.tuning import Tuning, forget_tuning, write_tuning

# Three minutes at most, so that somebody waits for it.
LIMIT_S: Final = 175.0

Measure = Callable[[str, Sequence[Tuning]], list[Trial]]


@dataclass(frozen=True)
class TuneReport:
    """What was tried, and what came of it."""

    bundle: str
    settings: Tuning
    path: Path | None  # of the file; None: the defaults stay
    outcome: str
    before: Mapping[str, Spread] = field(default_factory=dict)  # stage of a question -> times
    after: Mapping[str, Spread] = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()
    took_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The object of `doctor --tune --json`."""
        return {
            "kind": "tune",
            "bundle": self.bundle,
            "settings": asdict(self.settings),
            "path": None if self.path is None else str(self.path),
            "outcome": self.outcome,
            "before_ms": {stage: asdict(spread) for stage, spread in self.before.items()},
            "after_ms": {stage: asdict(spread) for stage, spread in self.after.items()},
            "trials": [_trial_json(trial) for trial in self.trials],
            "took_s": round(self.took_s, 1),
        }


def tune(bundle_path: Path, *, begin: Callable[[str], None] = lambda _: None, limit_s: float = LIMIT_S) -> TuneReport:
    """Measure, and write what is better beside the bundle.

    Args:
        bundle_path: What to tune for.
        begin: Called with each step of edge_runtime/tune_bench.py as it begins.
        limit_s: Time for all of it.

    Raises:
        BundleError: The bundle is not whole.
        StorageError: The settings cannot be written anywhere.
    """
    began_s = time.monotonic()
    bundle = open_bundle(bundle_path)
    bench = TuneBench(bundle, end_s=began_s + limit_s, begin=begin)
    begin("providers")
    choice = prove_choice(bundle, patience_s=BUDGETS_S["providers"], anew=True)
    good = [v.name for v in choice.verdicts if v.ok]
    usual = Tuning(provider=choice.name)
    found = search(
        bench.measure,
        lambda candidate: bench.check_answers(candidate, usual).reason is None,
        usual=usual,
        providers=good,
        rows=prompt_rows(bundle),
        has_depth=bundle.manifest.image.depth is not None,
    )
    report = _decide(bundle, bench, usual, found)
    return replace(report, trials=tuple(bench.trials), took_s=time.monotonic() - began_s)


def search(
    measure: Measure,
    keeps_answers: Callable[[Tuning], bool],
    *,
    usual: Tuning,
    providers: Sequence[str],
    rows: int,
    has_depth: bool,
    cores: int | None = None,
) -> Tuning:
    """One stage after the other, each with what the ones before it found.

    Args:
        measure: Times candidates of a step; the first is the default.
        keeps_answers: Whether golden answers stay right with a candidate.
        usual: What runs without tuning.
        providers: Those that give the golden values.
        rows: Of a prompt.
        has_depth: Whether there are two encoders.
        cores: Processors to use; default: all this process may use.
    """
    cores = cores or len(os.sched_getaffinity(0))
    candidates = encoder_candidates(usual.provider or "", providers, cores, has_depth=has_depth)
    found = better(measure("encoders", candidates), "encode").tuning
    threads = measure("threads", thread_candidates(cores))
    found = replace(
        found,
        decode_threads=better(threads, "decode").tuning.decode_threads,
        prefill_threads=better(threads, "prefill").tuning.prefill_threads,
    )
    found = better(measure("ubatch", ubatch_candidates(found, rows)), "prefill").tuning
    return _fastest_cache(measure, keeps_answers, found)


def _fastest_cache(measure: Measure, keeps_answers: Callable[[Tuning], bool], found: Tuning) -> Tuning:
    """Another type of the KV cache is the one setting that rounds otherwise, so its answers are looked at first."""
    trials = measure("kv", kv_candidates(found))
    for faster in faster_first(trials, "both"):
        if keeps_answers(faster.tuning):
            return faster.tuning
    return found


def _decide(bundle: Bundle, bench: TuneBench, usual: Tuning, found: Tuning) -> TuneReport:
    """Keep what was found if it keeps the answers and is faster in whole questions."""
    name = bundle.manifest.name
    if found == usual:
        forget_tuning(bundle)
        return TuneReport(name, usual, None, "the defaults are the best here")
    refusal = bench.check_answers(found, usual).reason
    if refusal is not None:
        forget_tuning(bundle)
        return TuneReport(name, usual, None, f"what was faster is refused: {refusal}")
    before, after = bench.measure("compare", [usual, found])
    report = TuneReport(name, usual, None, "", before=_spreads(before), after=_spreads(after))
    if not after.median_ms("total") < before.median_ms("total"):
        forget_tuning(bundle)
        why = after.reason or "it is not faster in whole questions"
        return replace(report, outcome=f"what was found is not kept: {why}")
    path = write_tuning(bundle, found, tuple(_comments(report)))
    return replace(report, settings=found, path=path, outcome="found settings are used from now on")


def _spreads(trial: Trial) -> dict[str, Spread]:
    return {part: Spread.of(times_ms) for part, times_ms in trial.times_ms.items() if times_ms}


def _comments(report: TuneReport) -> Iterator[str]:
    yield "Written by `roborefer-edge doctor --tune`. Delete it to go back to the defaults."
    for when, spreads in (("before", report.before), ("after", report.after)):
        total = spreads["total"]
        yield f"{when}: {total.median_ms} ms a question ({total.q1_ms} to {total.q3_ms}, {total.n} questions)"


def _trial_json(trial: Trial) -> dict[str, Any]:
    times = {part: asdict(spread) for part, spread in _spreads(trial).items()}
    return {"stage": trial.stage, "settings": asdict(trial.tuning), "times_ms": times, "reason": trial.reason}
