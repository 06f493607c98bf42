"""Recipe `auto`: the smallest bundle within a size that moves points by no more than so many pixels.

Candidates are tried from the smallest on; each is a whole bundle, compared with its parent on the calibration
questions. Encoders and decoders that candidates share are made once.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal

from edge_runtime.bundle import RUN_LOG, BundleWriter, open_bundle
from edge_runtime.errors import BudgetExceeded, BundleInvalid, ConfigError
from hardware.storage import storage_errors
from quantize.assemble import CalibrationRequest, QuantizeResult, quantize_bundle
from quantize.gguf_quants import DecoderType
from quantize.parts import Parts, link
from quantize.preflight import expected_bytes
from quantize.recipes import JETSON, DecoderMethod, EncoderScheme, Recipe
from quantize.run_log import add_trials

_log = logging.getLogger(__name__)

Machine = Literal["cpu", "jetson"]

_DECODERS: Final[tuple[tuple[DecoderType, DecoderMethod], ...]] = (
    ("IQ4_XS", "imatrix"), ("Q4_0", "gptq"), ("Q4_K_M", "imatrix"), ("Q5_K_M", "imatrix"), ("Q6_K", "imatrix"),
    ("Q8_0", "plain"), ("F16", "plain"),
)  # fmt: skip
_ENCODERS: Final[dict[Machine, tuple[EncoderScheme, ...]]] = {
    "cpu": ("int4", "int8-dynamic", "fp16", "fp32"),
    "jetson": ("int8-static", "fp16"),
}
# Expected sizes are rough: what is a little too large on paper may still fit.
_SLACK: Final = 1.1


@dataclass(frozen=True)
class Limits:
    """What a bundle has to keep.

    Raises:
        ConfigError: A limit that nothing can keep.
    """

    budget_mib: float
    max_shift_px: float  # 95th percentile, in a picture of 640x480
    machine: Machine = "cpu"
    max_tiles: int | None = None

    def __post_init__(self) -> None:
        """Refuse limits that nothing can keep."""
        if not self.budget_mib > 0 or not self.max_shift_px >= 0:
            raise ConfigError(
                f"auto needs a size above 0 MiB and a shift of 0 px or more, got {self.budget_mib} MiB and "
                f"{self.max_shift_px} px; name them with --budget-mib and --max-shift-px"
            )


@dataclass(frozen=True)
class Trial:
    """One candidate and how it did."""

    recipe: str
    mib: float
    shift_px: float | None  # 95th percentile; None: no points to compare, or refused for its golden errors

    def keeps(self, limits: Limits) -> bool:
        """Whether it is within both limits."""
        return self.mib <= limits.budget_mib and self.shift_px is not None and self.shift_px <= limits.max_shift_px

    def to_json(self) -> dict[str, Any]:
        """As the log shows it."""
        return {"recipe": self.recipe, "mib": round(self.mib, 2), "p95_shift_px": self.shift_px}


def search(
    parent_dir: Path,
    out: Path,
    limits: Limits,
    calibration: CalibrationRequest | None,
    *,
    name: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> QuantizeResult:
    """Try recipes from the smallest on and put the first that keeps the limits in place.

    Args:
        parent_dir: The full-precision bundle.
        out: The new bundle; an older bundle there is replaced at the end, in one move.
        limits: What it has to keep.
        calibration: The questions whose points are compared.
        name: Of the new bundle; default: the destination folder's.
        progress: Called with each candidate's name and steps.

    Raises:
        BudgetExceeded: No candidate keeps them; the nearest are named.
        ConfigError: There is no calibration data, or the destination is impossible.
        QuantizeError: As for `quantize_bundle`.
    """
    if calibration is None:
        raise ConfigError("recipe auto compares points on calibration data: name it with --calibration")
    parent = open_bundle(parent_dir)
    wanted = [c for c in candidates(limits) if expected_bytes(parent, c) <= _SLACK * limits.budget_mib * 2**20]
    wanted.sort(key=lambda candidate: expected_bytes(parent, candidate))
    trials: list[Trial] = []
    with BundleWriter(out) as writer, tempfile.TemporaryDirectory(dir=out.parent, prefix=".auto-") as work:
        parts = Parts(Path(work))
        for recipe in wanted:
            place = Path(work) / "bundles" / recipe.name
            result = _tried(parent_dir, place, recipe, calibration, parts, progress)
            trials.append(_trial(recipe, result, expected_bytes(parent, recipe)))
            _log.info("auto: %s", trials[-1])
            if result is not None and trials[-1].keeps(limits):
                add_trials(place, [trial.to_json() for trial in trials])
                return _put_in_place(result, writer, name or out.resolve().name)
    raise BudgetExceeded(_nearest(trials, limits))


def candidates(limits: Limits) -> Iterator[Recipe]:
    """Every combination that a machine can run."""
    providers = JETSON if limits.machine == "jetson" else ()
    for scheme, (kind, method) in product(_ENCODERS[limits.machine], _DECODERS):
        yield Recipe(
            name=f"auto-{scheme}-{kind}",
            summary=f"found by auto: {scheme} encoders, {kind} decoder",
            encoders=scheme,
            decoder=kind,
            decoder_method=method,
            int4_method="gptq",
            max_tiles=limits.max_tiles,
            providers=providers,
        )


def _tried(
    parent_dir: Path,
    place: Path,
    recipe: Recipe,
    calibration: CalibrationRequest,
    parts: Parts,
    progress: Callable[[str], None],
) -> QuantizeResult | None:
    """The candidate's bundle; None if it is so far off that it was refused."""
    try:
        return quantize_bundle(parent_dir, place, recipe, calibration=calibration, parts=parts, progress=progress)
    except BundleInvalid as error:
        _log.info("auto: %s was refused: %s", recipe.name, error)
        return None


def _trial(recipe: Recipe, result: QuantizeResult | None, expected: int) -> Trial:
    if result is None:
        return Trial(recipe.name, expected / 2**20, None)
    answers = result.report["answers"]
    return Trial(recipe.name, result.bundle.bytes / 2**20, answers["point_shift_px"]["p95"])


def _put_in_place(result: QuantizeResult, writer: BundleWriter, name: str) -> QuantizeResult:
    with storage_errors(writer.path):
        for file in [*result.bundle.manifest.files, RUN_LOG]:
            link(result.bundle.path / file, writer.path / file)
    return replace(result, bundle=writer.finish(replace(result.bundle.manifest, name=name)))


def _nearest(trials: list[Trial], limits: Limits) -> str:
    wish = f"{limits.budget_mib:g} MiB with points within {limits.max_shift_px:g} px"
    if not trials:
        return f"no recipe for {limits.machine} makes this model as small as {limits.budget_mib:g} MiB; allow more"
    shifts = [trial for trial in trials if trial.shift_px is not None]
    if not shifts:
        return f"no recipe gives {wish}: none of {len(trials)} gave points that could be compared with the parent's"
    best = min(shifts, key=lambda trial: trial.shift_px if trial.shift_px is not None else 0.0)
    return (
        f"no recipe gives {wish}; of {len(trials)} tried the nearest is {best.recipe} with {best.mib:.1f} MiB and "
        f"{best.shift_px:g} px. Allow more of one, or raise --calibration-count for a steadier estimate."
    )
