"""`doctor --tune`: the search against known costs, children that crash or hang, golden answers, one real tuning."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError

from edge_runtime import tune_bench, tune_trial
from edge_runtime.bundle import Bundle, open_bundle, shipped_bundle
from edge_runtime.manifest import Tolerance
from edge_runtime.providers import CPU, CUDA, OPENVINO
from edge_runtime.tune import TuneReport, search, tune
from edge_runtime.tune_bench import STEPS, TuneBench
from edge_runtime.tune_search import (
    LEAST_GAIN,
    Spread,
    Trial,
    better,
    encoder_candidates,
    faster_first,
    rounds,
    thread_candidates,
    thread_counts,
    ubatch_candidates,
)
from edge_runtime.tuning import Tuning, tuned
from tests.contracts.readme_tree import REPOSITORY

USUAL = Tuning(provider=CPU)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """The shipped bundle under a name of this test's own, so that nothing is written beside the shipped one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "nano").symlink_to(shipped_bundle())
    return open_bundle(tmp_path / "nano")


def trial(median_ms: float, reason: str | None = None, tuning: Tuning = USUAL) -> Trial:
    return Trial("encoders", tuning, {"encode": (median_ms,)}, reason)


def measuring(cost_ms: Callable[[str, Tuning], dict[str, float]]) -> Callable[[str, Sequence[Tuning]], list[Trial]]:
    """Times from known costs."""

    def measure(step: str, candidates: Sequence[Tuning]) -> list[Trial]:
        return [Trial(step, t, {k: (ms,) for k, ms in cost_ms(step, t).items()}) for t in candidates]

    return measure


def cost_ms(_step: str, tuning: Tuning) -> dict[str, float]:
    """A machine whose best settings are known: 4 encoder threads in turn, 2 and 8 for the decoder, 128 rows, q8_0."""
    decode = 10.0 + abs((tuning.decode_threads or 8) - 2)
    prefill = 50.0 + abs((tuning.prefill_threads or 1) - 8) + abs((tuning.ubatch or 512) - 128) / 10
    encode = 30.0 + abs((tuning.encoder_threads or 8) - 4) + 5.0 * tuning.side_by_side
    faster = 0.9 if tuning.kv_type == "q8_0" else 1.0
    return {"encode": encode, "prefill": prefill, "decode": decode, "both": (prefill + decode) * faster}


def found_with(*, keeps_answers: bool) -> Tuning:
    return search(
        measuring(cost_ms),
        lambda _: keeps_answers,
        usual=USUAL,
        providers=[CPU],
        rows=300,
        has_depth=True,
        cores=8,
    )


def schema_of(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((REPOSITORY / f"docs/schema/{name}.json").read_text(encoding="utf-8")))


# --- the search -----------------------------------------------------------------------------------------


def test_the_search_finds_the_best_of_a_known_machine() -> None:
    assert found_with(keeps_answers=True) == Tuning(CPU, 4, False, 2, 8, 128, "q8_0")


def test_a_cache_type_that_changes_answers_is_refused_however_fast() -> None:
    assert found_with(keeps_answers=False).kv_type is None


def test_a_gain_within_the_noise_is_none() -> None:
    assert better([trial(100.0), trial(100.0 * (1 - LEAST_GAIN) + 0.1)], "encode").median_ms("encode") == 100.0
    assert better([trial(100.0), trial(90.0), trial(80.0), trial(95.0)], "encode").median_ms("encode") == 80.0


def test_what_crashed_or_was_not_measured_never_wins() -> None:
    usual, crashed, untried = trial(100.0), trial(1.0, "crashed with signal 6"), Trial("encoders", USUAL, {})
    assert better([usual, crashed, untried], "encode") is usual
    assert list(faster_first([untried, trial(1.0)], "encode")) == []  # nothing to be faster than


def test_candidates_start_with_the_default_and_none_comes_twice() -> None:
    encoders = encoder_candidates(CPU, [CUDA, CPU, OPENVINO], 4, has_depth=True)
    for candidates in (encoders, thread_candidates(4), ubatch_candidates(USUAL, 200)):
        assert len(set(candidates)) == len(candidates)
    assert encoders[0] == USUAL
    assert {t.provider for t in encoders} == {CPU, CUDA, OPENVINO}
    assert all(t.encoder_threads is None for t in encoders if t.provider == CUDA)
    assert [t.ubatch for t in ubatch_candidates(USUAL, 200)] == [None, 64, 128]
    assert all(t.side_by_side for t in encoder_candidates(CPU, [CPU], 4, has_depth=False))


@pytest.mark.parametrize(("cores", "counts"), [(1, [1]), (2, [2, 1]), (6, [6, 4, 3, 1]), (12, [12, 9, 6, 3])])
def test_thread_counts(cores: int, counts: list[int]) -> None:
    assert thread_counts(cores) == counts


def test_candidates_take_turns_and_every_other_round_goes_backwards() -> None:
    assert list(rounds(3, lambda: 0.0, 1.0, most=2)) == [0, 1, 2, 2, 1, 0]
    clock = iter(range(100))
    assert list(rounds(3, lambda: float(next(clock)), 3.0, most=9)) == [0, 1]
    assert list(rounds(3, lambda: float(next(clock)), 0.0, most=9)) == [0]


def test_spread() -> None:
    assert Spread.of([1.0, 2.0, 3.0, 4.0, 100.0]) == Spread(median_ms=3.0, q1_ms=2.0, q3_ms=4.0, n=5)


def test_a_report_is_what_its_schema_says() -> None:
    trials = measuring(cost_ms)("threads", thread_candidates(4))
    crashed = Trial("kv", replace(USUAL, kv_type="q8_0"), {}, "crashed with signal 6")
    spreads = {"total": Spread.of([100.0, 101.0]), "decode": Spread.of([20.0])}
    report = TuneReport("nano", USUAL, Path("/b.tuning.toml"), "used", spreads, spreads, (*trials, crashed), 12.34)
    schema_of("doctor_tune").validate(report.to_json())
    for key in report.to_json():
        with pytest.raises(ValidationError):
            schema_of("doctor_tune").validate({k: v for k, v in report.to_json().items() if k != key})


# --- children -------------------------------------------------------------------------------------------


def bench(bundle: Bundle, *, limit_s: float = 60.0) -> TuneBench:
    return TuneBench(bundle, end_s=time.monotonic() + limit_s, module="tests.edge_runtime.scripted_trial")


def with_threads(*counts: int | None) -> list[Tuning]:
    return [Tuning(encoder_threads=n) for n in counts]


def test_a_crash_costs_its_candidate_and_no_other(bundle: Bundle) -> None:
    made = bench(bundle)
    trials = made.measure("encoders", with_threads(None, 9, 8, 2))
    assert [t.median_ms("encode") for t in trials] == [5.0, float("inf"), float("inf"), 2.0]
    assert trials[0].times_ms["encode"] == (5.0, 5.0)  # asked once more after the crash
    assert trials[1].reason == "crashed with signal 6"
    assert trials[2].reason == "no memory for a context"
    assert made.trials == trials


def test_an_error_of_the_child_is_the_candidate_s_reason(bundle: Bundle) -> None:
    (found,) = bench(bundle).measure("encoders", with_threads(6))
    assert found.reason == "failed: the bundle is gone"


@pytest.mark.slow  # a busy machine takes seconds to start the child, which has to be heard before it is ended
def test_a_child_that_hangs_is_ended_and_what_it_told_counts(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune_bench, "BUDGETS_S", dict.fromkeys(STEPS, 8.0))
    first, second = bench(bundle).measure("encoders", with_threads(7, 1))
    assert first.median_ms("encode") == 7.0
    assert second.reason == "not tried: the time was over"


def test_no_time_left_means_nothing_is_run(bundle: Bundle) -> None:
    (found,) = bench(bundle, limit_s=0.0).measure("encoders", with_threads(1))
    assert found.reason == "not tried: the time was over"


# --- answers, really ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "error", "share"), [(0.1, 0.05, 0.5), (0.1, 0.2, 2.0), (0.0, 0.0, 0.0), (0.0, 1e-9, float("inf"))]
)
def test_share_of_a_tolerance(limit: float, error: float, share: float) -> None:
    assert Tolerance(limit, measured=0.0).share(error) == share


def told(bundle: Bundle, candidates: Sequence[Tuning]) -> list[dict[str, object]]:
    lines: list[dict[str, object]] = []
    tune_trial.answers(bundle, candidates, 1.0, lambda event, index, **values: lines.append({"event": event, **values}))
    return [line for line in lines if line["event"] != "try"]


def test_golden_answers_are_compared_with_the_tolerance(bundle: Bundle) -> None:
    strict = {s: Tolerance(limit=t.measured / 100, measured=t.measured) for s, t in bundle.manifest.tolerances.items()}
    (kept,) = told(bundle, [USUAL])
    (lost,) = told(Bundle(bundle.path, replace(bundle.manifest, tolerances=strict)), [USUAL])
    assert isinstance(kept["share"], float)
    assert isinstance(lost["share"], float)
    assert kept["share"] <= 1.0 < lost["share"]
    assert kept["flips"] == 0


@pytest.mark.slow
def test_a_tuning_of_the_shipped_bundle(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune_bench, "BUDGETS_S", {**dict.fromkeys(STEPS, 2.0), "answers": 60.0, "providers": 60.0})
    monkeypatch.setattr(tune_bench, "_PATIENCE", 30.0)
    begun: list[str] = []
    report = tune(bundle.path, begin=begun.append)
    schema_of("doctor_tune").validate(report.to_json())
    assert set(begun) <= set(STEPS)
    usual = [t for t in report.trials if t.stage in ("encoders", "threads", "ubatch", "kv")]
    assert [t for t in usual if t.reason is not None] == []
    assert tuned(bundle) == (report.settings if report.path else Tuning())
