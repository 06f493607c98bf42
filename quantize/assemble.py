"""Bundle to smaller bundle, in order: check, encoders, decoder, compare with the parent, and only then into place.

Everything is staged beside the destination. Whatever fails on the way, or interrupts it, leaves an older bundle at the
destination as it was and no half one; the same command can be run again.
"""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edge_runtime.bundle import (
    DECODER,
    ESTIMATOR_STAGE,
    GOLDEN,
    PREFILL,
    Bundle,
    BundleWriter,
    manifest_sha256,
    open_bundle,
)
from edge_runtime.errors import ConfigError
from edge_runtime.golden import write_golden
from edge_runtime.manifest import FileEntry, Manifest, Tolerance
from hardware.geometry import read_intrinsics
from hardware.storage import storage_errors
from quantize.answer_drift import answer_drifts
from quantize.calibration import CalibrationSet
from quantize.calibration_sources import open_calibration
from quantize.decoder_files import DecoderGiven, write_decoder
from quantize.encoder_files import write_encoders
from quantize.encoder_static import EncoderOutcome
from quantize.error_report import Findings, write_report
from quantize.golden_errors import measure
from quantize.parts import Parts
from quantize.peak_memory import PeakMemory
from quantize.prefill_graph import write_prefill
from quantize.preflight import check_parent, check_space, refuse_overwriting
from quantize.prompts import asked_prompts
from quantize.recipes import Recipe
from quantize.run_log import StepClock, write_log
from quantize.tile_budget import golden_cases, image_spec

_log = logging.getLogger(__name__)

# In order, for progress bars and the log.
STEPS = (
    "check the parent",
    "read the calibration data",
    "quantize the encoders",
    "quantize the decoder",
    "compare with the parent",
    "compare answers on the calibration data",
    "put the bundle in place",
)

# Of the comparison of answers, what `quantize --json` shows too.
_SHOWN = ("questions", "identical", "tokens", "same_tokens", "kl_nats", "point_shift_px")

# Libraries whose version can change the bytes of a quantized bundle.
_WRITERS = ("roborefer-edge", "onnx", "onnxruntime", "llama-cpp-python", "gguf", "numpy")


@dataclass(frozen=True)
class CalibrationRequest:
    """Which calibration data to use."""

    path: Path
    count: int = 64
    seed: int = 0
    depth_unit_m: float = 0.001  # of 16-bit depth files in question folders
    intrinsics: Path | None = None  # of the robot's camera; data of another one is refused


@dataclass(frozen=True)
class QuantizeResult:
    """What a run made."""

    bundle: Bundle
    parent: Bundle
    findings: Findings
    report: dict[str, Any]  # as in error_report.json
    duration_s: float
    peak_mib: float

    def to_json(self) -> dict[str, Any]:
        """The object of `quantize --json` (docs/schema/quantize.json)."""
        manifest, answers = self.bundle.manifest, self.report["answers"]
        return {
            "kind": "quantize",
            "bundle": str(self.bundle.path),
            "name": manifest.name,
            "recipe": manifest.recipe,
            "bytes": self.bundle.bytes,
            "parent_bytes": self.parent.bytes,
            "golden": {
                stage: {"max_rel_error": t.measured, "limit": t.limit} for stage, t in manifest.tolerances.items()
            },
            "tokens": {"compared": self.findings.golden.tokens, "same": self.findings.golden.same_tokens},
            "answers": None if answers is None else {key: answers[key] for key in _SHOWN},
            "duration_s": round(self.duration_s, 3),
            "peak_mib": round(self.peak_mib, 1),
        }


def quantize_bundle(
    parent_dir: Path,
    out: Path,
    recipe: Recipe,
    *,
    calibration: CalibrationRequest | None = None,
    given: DecoderGiven = DecoderGiven(),  # noqa: B008  frozen
    name: str | None = None,
    parts: Parts | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> QuantizeResult:
    """Make a smaller bundle of a bundle.

    Args:
        parent_dir: The full-precision bundle.
        out: The new bundle; an older bundle there is replaced at the end, in one move.
        recipe: What to do.
        calibration: What to look at activations with, for recipes that do.
        given: Importance matrix or GPTQ weights made elsewhere.
        name: Of the new bundle; default: the destination folder's.
        parts: Where encoders and decoders of other runs are found again; default: nowhere.
        progress: Called with each entry of `STEPS` as it begins.

    Raises:
        BundleError: The parent is not whole, is quantized already, or the result is too far from it.
        ConfigError: The destination exists and is no bundle, or is the parent; or calibration data is missing.
        DataError: The calibration data cannot be used.
        InferenceError: A native library failed.
        StorageError: Disk full or not writable.
    """
    refuse_overwriting(parent_dir, out)
    clock, parts = StepClock(progress), parts or Parts()
    with PeakMemory() as peak, BundleWriter(out) as writer:
        clock.begin(STEPS[0])
        parent = open_bundle(parent_dir)
        check_parent(parent, recipe)
        check_space(parent, recipe, writer.path)
        clock.begin(STEPS[1])
        data = _calibration(parent, recipe, calibration, given)
        draft = _manifest(parent, recipe, name or out.resolve().name, data)
        findings = _stage(writer.path, _Plan(parent, recipe, draft, data, given), parts, clock)
        report = write_report(writer.path, findings)
        clock.begin(STEPS[6])
        write_log(writer.path, recipe.name, clock, peak)
        bundle = writer.finish(replace(draft, tolerances={**_unchanged(parent), **findings.tolerances}))
    _log.info("quantized %s to %s by %s", parent_dir, out, recipe.name)
    return QuantizeResult(bundle, parent, findings, report, clock.total_s, peak.mib)


@dataclass(frozen=True)
class _Plan:
    """What is known before the work begins."""

    parent: Bundle
    recipe: Recipe
    draft: Manifest  # without files and measured errors
    data: CalibrationSet | None
    given: DecoderGiven

    @property
    def cut(self) -> Bundle:
        """The parent under our tile budget."""
        return replace(self.parent, manifest=replace(self.parent.manifest, image=self.draft.image))


def _stage(folder: Path, plan: _Plan, parts: Parts, clock: StepClock) -> Findings:
    """Write encoders, decoder and golden cases, and compare them with the parent's."""
    parent, recipe, data = plan.parent, plan.recipe, plan.data
    clock.begin(STEPS[2])
    encoders = parts.encoders(recipe, folder, lambda into: write_encoders(plan.cut, into, recipe, data))
    clock.begin(STEPS[3])
    prompts = parts.prompts(recipe, lambda: () if data is None else asked_prompts(plan.cut, data))
    source = "" if data is None else data.source
    decoder = parts.decoder(
        recipe,
        folder,
        lambda target: write_decoder(parent, target, recipe, prompts, source_name=source, given=plan.given),
    )
    prefill = parts.prefill(recipe, folder, lambda into: _prefill(parent, into))
    _copy_others(parent, plan.draft, folder)
    clock.begin(STEPS[4])
    staged = _unchecked(folder, plan.draft)
    golden = measure(staged)
    golden.require(recipe.worst_error)
    clock.begin(STEPS[5])
    answers = () if data is None else answer_drifts(plan.cut, staged, data, prompts)
    tolerances = golden.tolerances(parent.manifest.tolerances)
    return Findings(recipe, parent, {**encoders, **prefill}, decoder, golden, tolerances, answers)


def _prefill(parent: Bundle, folder: Path) -> dict[str, EncoderOutcome]:
    return {PREFILL: EncoderOutcome(write_prefill(parent.file(DECODER), folder / PREFILL))}


def _calibration(
    parent: Bundle, recipe: Recipe, request: CalibrationRequest | None, given: DecoderGiven
) -> CalibrationSet | None:
    if request is None:
        if recipe.watches_encoders or given.needs_prompts(recipe):
            raise ConfigError(
                f"recipe {recipe.name!r} looks at activations and needs calibration data: name a RefSpatial folder, a "
                "replay folder or a recording with --calibration"
            )
        return None
    return open_calibration(
        request.path,
        count=request.count,
        seed=request.seed,
        point_suffix=parent.manifest.prompt.point_suffix,
        needs_depth=parent.manifest.image.depth is not None,
        depth_unit_m=request.depth_unit_m,
        camera=None if request.intrinsics is None else read_intrinsics(request.intrinsics),
    )


def _copy_others(parent: Bundle, draft: Manifest, folder: Path) -> None:
    """Golden values stay the parent's; a depth estimator goes along."""
    cases = golden_cases(parent, draft.image)
    with storage_errors(folder):
        if cases is None:
            shutil.copyfile(parent.file(GOLDEN), folder / GOLDEN)
        else:
            write_golden(folder / GOLDEN, cases)
        for name in (name for name in parent.manifest.files if name.startswith(ESTIMATOR_STAGE)):
            shutil.copyfile(parent.file(name), folder / name)


def _unchanged(parent: Bundle) -> dict[str, Tolerance]:
    """What the parent states about the part that goes along as it is."""
    return {stage: t for stage, t in parent.manifest.tolerances.items() if stage == ESTIMATOR_STAGE}


def _manifest(parent: Bundle, recipe: Recipe, name: str, data: CalibrationSet | None) -> Manifest:
    """The parent's manifest under a new name, recipe and lineage; the parent's tolerances until ours are measured."""
    lineage = replace(
        parent.manifest.lineage,
        parent_sha256=manifest_sha256(parent.path),
        versions={**parent.manifest.lineage.versions, **_library_versions()},
        data_sha256=None if data is None else data.sha256,
        data_questions=None if data is None else len(data),
        data_seed=None if data is None else data.seed,
    )
    return replace(
        parent.manifest,
        name=name,
        recipe=recipe.name,
        lineage=lineage,
        encoder_providers=recipe.providers,
        image=image_spec(parent, recipe.max_tiles),
    )


def _library_versions() -> dict[str, str]:
    return {name: found for name in _WRITERS if (found := _version(name)) is not None}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _unchecked(folder: Path, draft: Manifest) -> Bundle:
    """The staged files as a bundle whose hashes nobody has computed yet."""
    entries = {p.name: FileEntry(sha256="", bytes=p.stat().st_size) for p in sorted(folder.iterdir())}
    return Bundle(path=folder, manifest=replace(draft, files=entries))
