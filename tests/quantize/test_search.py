"""Recipe auto: from the smallest on, the first bundle that keeps both limits; or what came nearest."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.bundle import RUN_LOG, Bundle, open_bundle
from edge_runtime.check import check_bundle
from edge_runtime.errors import BudgetExceeded, ConfigError
from quantize import assemble
from quantize import search as searching
from quantize.assemble import CalibrationRequest, QuantizeResult, quantize_bundle
from quantize.encoder_files import write_encoders
from quantize.preflight import expected_bytes
from quantize.search import Limits, candidates, search


@dataclass
class Tries:
    """The real work, with shifts that a trained model would have in place of a random one's."""

    shifts: Callable[[str], float | None]
    names: list[str]

    def __call__(self, *arguments: Any, **options: Any) -> QuantizeResult:
        result = quantize_bundle(*arguments, **options)
        name = result.bundle.manifest.recipe
        self.names.append(name)
        answers = {**result.report["answers"], "point_shift_px": {"p95": self.shifts(name)}}
        return replace(result, report={**result.report, "answers": answers})


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], float | None]], Tries]:
    def install(shifts: Callable[[str], float | None]) -> Tries:
        made = Tries(shifts, [])
        # fewer and plain candidates: what is searched is the same, and quick
        monkeypatch.setattr(searching, "_ENCODERS", {"cpu": ("int8-dynamic", "fp16"), "jetson": ("fp16",)})
        monkeypatch.setattr(searching, "_DECODERS", tuple((kind, "plain") for kind in ("Q4_0", "Q6_K", "Q8_0")))
        monkeypatch.setattr(searching, "quantize_bundle", made)
        return made

    return install


def mib(bundle: Bundle, share: float) -> float:
    return bundle.bytes * share / 2**20


def test_the_smallest_that_keeps_the_shift_wins(parent: Bundle, clip: Path, tmp_path: Path, tries: Any) -> None:
    tried = tries(lambda name: 3.0 if "Q6_K" in name else 20.0)
    limits = Limits(mib(parent, 0.9), 8.0)
    result = search(parent.path, tmp_path / "out", limits, CalibrationRequest(clip, count=4))
    assert tried.names[-1] == result.bundle.manifest.recipe == "auto-int8-dynamic-Q6_K"
    sizes = {c.name: expected_bytes(parent, c) for c in candidates(limits)}
    assert [sizes[name] for name in tried.names] == sorted(sizes[name] for name in tried.names)
    assert check_bundle(tmp_path / "out").ok
    assert open_bundle(tmp_path / "out").manifest.name == "out"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    trials = json.loads((tmp_path / "out" / RUN_LOG).read_text())["trials"]
    assert [trial["recipe"] for trial in trials] == tried.names
    assert result.bundle.bytes <= limits.budget_mib * 2**20


def test_encoders_are_made_once(
    parent: Bundle, clip: Path, tmp_path: Path, tries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    real = write_encoders

    def counted(bundle: Any, folder: Any, recipe: Any, data: Any) -> Any:
        made.append(recipe.encoders)
        return real(bundle, folder, recipe, data)

    monkeypatch.setattr(assemble, "write_encoders", counted)
    tried = tries(lambda name: 3.0 if name == "auto-fp16-Q6_K" else None)
    search(parent.path, tmp_path / "out", Limits(mib(parent, 0.9), 8.0), CalibrationRequest(clip, count=4))
    assert len(tried.names) >= 4
    assert sorted(made) == sorted(set(made))


@pytest.mark.slow
def test_when_none_keeps_them_the_nearest_is_named(parent: Bundle, clip: Path, tmp_path: Path, tries: Any) -> None:
    tries(lambda name: 9.5 if name == "auto-int8-dynamic-Q4_0" else 30.0)
    limits = Limits(mib(parent, 0.65), 8.0)
    with pytest.raises(BudgetExceeded, match=r"the nearest is auto-int8-dynamic-Q4_0 with .* 9\.5 px"):
        search(parent.path, tmp_path / "out", limits, CalibrationRequest(clip, count=4))
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_nothing_reaches_is_said_at_once(parent: Bundle, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(BudgetExceeded, match=r"as small as 0\.01 MiB"):
        search(parent.path, tmp_path / "out", Limits(0.01, 8.0), CalibrationRequest(clip, count=4))


def test_jetson_candidates_are_for_tensorrt() -> None:
    assert all(c.for_tensorrt and c.encoders in ("int8-static", "fp16") for c in candidates(Limits(1.0, 1.0, "jetson")))
    assert len({c.name for c in candidates(Limits(1.0, 1.0))}) == 4 * 7


@pytest.mark.parametrize(("budget", "shift"), [(0.0, 8.0), (-1.0, 8.0), (10.0, -1.0), (float("nan"), 1.0)])
def test_impossible_limits_are_refused(budget: float, shift: float) -> None:
    with pytest.raises(ConfigError, match="--budget-mib"):
        Limits(budget, shift)
