"""Bundle to smaller bundle, in order: check, encoders, decoder, compare with the parent, and only then into place.

Everything is staged beside the destination. Whatever fails on the way, or interrupts it, leaves an older bundle at the
destination as it was and no half one; the same command can be run again.
"""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic
from typing import Any

from edge_runtime.bundle import DECODER, GOLDEN, RUN_LOG, Bundle, BundleWriter, manifest_sha256, open_bundle
from edge_runtime.errors import BundleInvalid, ConfigError, StorageError
from edge_runtime.golden import write_golden
from edge_runtime.manifest import FileEntry, Manifest
from hardware.geometry import read_intrinsics
from hardware.storage import storage_errors
from quantize.calibration import CalibrationSet
from quantize.calibration_sources import open_calibration
from quantize.decoder_files import DecoderGiven, DecoderOutcome, write_decoder
from quantize.encoder_files import ESTIMATOR, encoder_graphs, write_encoders
from quantize.encoder_static import EncoderOutcome
from quantize.golden_errors import GoldenErrors, measure
from quantize.peak_memory import PeakMemory
from quantize.prompts import asked_prompts
from quantize.recipes import DECODER_BITS, ENCODER_RATIO, Recipe
from quantize.tile_budget import golden_cases, image_spec

_log = logging.getLogger(__name__)

# In order, for progress bars and the log.
STEPS = (
    "check the parent",
    "read the calibration data",
    "quantize the encoders",
    "quantize the decoder",
    "compare with the parent",
    "put the bundle in place",
)

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
    encoders: dict[str, EncoderOutcome]
    decoder: DecoderOutcome
    errors: GoldenErrors
    duration_s: float
    peak_mib: float

    def to_json(self) -> dict[str, Any]:
        """The object of `quantize --json` (docs/schema/quantize.json)."""
        manifest = self.bundle.manifest
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
            "tokens": {"compared": self.errors.tokens, "same": self.errors.same_tokens},
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
        progress: Called with each entry of `STEPS` as it begins.

    Raises:
        BundleError: The parent is not whole, is quantized already, or the result is too far from it.
        ConfigError: The destination exists and is no bundle, or is the parent; or calibration data is missing.
        DataError: The calibration data cannot be used.
        InferenceError: A native library failed.
        StorageError: Disk full or not writable.
    """
    _refuse_overwriting(parent_dir, out)
    clock = _StepClock(progress)
    with PeakMemory() as peak, BundleWriter(out) as writer:
        clock.begin(STEPS[0])
        parent = open_bundle(parent_dir)
        _check_parent(parent, recipe)
        _check_space(parent, recipe, writer.path)
        clock.begin(STEPS[1])
        data = _calibration(parent, recipe, calibration, given)
        draft = _manifest(parent, recipe, name or out.resolve().name, data)
        clock.begin(STEPS[2])
        cut = replace(parent, manifest=replace(parent.manifest, image=draft.image))  # the parent under our tile budget
        encoders = write_encoders(cut, writer.path, recipe, data)
        clock.begin(STEPS[3])
        prompts = asked_prompts(cut, data) if data is not None and given.needs_prompts(recipe) else ()
        source_name = "" if data is None else data.source
        decoder = write_decoder(parent, writer.path / DECODER, recipe, prompts, source_name=source_name, given=given)
        _copy_others(parent, draft, writer.path)
        clock.begin(STEPS[4])
        errors = measure(_unchecked(writer.path, draft))
        errors.require(recipe.worst_error)
        clock.begin(STEPS[5])
        _write_log(writer.path, recipe, clock, peak)
        bundle = writer.finish(replace(draft, tolerances=errors.tolerances(parent.manifest.tolerances)))
    _log.info("quantized %s to %s by %s", parent_dir, out, recipe.name)
    return QuantizeResult(bundle, parent, encoders, decoder, errors, clock.total_s, peak.mib)


@dataclass
class _StepClock:
    """Which step took how long."""

    progress: Callable[[str], None]
    began_s: float = field(default_factory=monotonic)
    begun: dict[str, float] = field(default_factory=dict)  # step -> when it began

    def begin(self, step: str) -> None:
        """A step begins, the one before is over."""
        self.progress(step)
        self.begun[step] = monotonic()

    @property
    def total_s(self) -> float:
        """Since the start."""
        return monotonic() - self.began_s

    def durations_s(self) -> dict[str, float]:
        """Of each finished step, and of the one that runs so far."""
        ends = [*list(self.begun.values())[1:], monotonic()]
        return {step: round(end - start, 3) for (step, start), end in zip(self.begun.items(), ends, strict=True)}


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
        for name in (name for name in parent.manifest.files if name.startswith(ESTIMATOR)):
            shutil.copyfile(parent.file(name), folder / name)


def _manifest(parent: Bundle, recipe: Recipe, name: str, data: CalibrationSet | None) -> Manifest:
    """The parent's manifest under a new name, recipe and lineage; the parent's tolerances until ours are measured."""
    lineage = replace(
        parent.manifest.lineage,
        parent_sha256=manifest_sha256(parent.path),
        versions={**parent.manifest.lineage.versions, **_library_versions()},
        data_sha256=None if data is None else data.sha256,
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


def _write_log(folder: Path, recipe: Recipe, clock: _StepClock, peak: PeakMemory) -> None:
    log = {
        "recipe": recipe.name,
        "steps_s": clock.durations_s(),
        "duration_s": round(clock.total_s, 3),
        "peak_mib": round(peak.mib, 1),  # RssAnon + RssShmem of the run and its children
    }
    with storage_errors(folder):
        (folder / RUN_LOG).write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")


# --- refusals before any work ---------------------------------------------------------------------------


def _refuse_overwriting(parent: Path, out: Path) -> None:
    source, target = parent.resolve(), out.resolve()
    if target == source or source in target.parents or target in source.parents:
        raise ConfigError(f"{out} and the bundle {parent} lie in each other; choose another folder for the new bundle")


def _check_parent(parent: Bundle, recipe: Recipe) -> None:
    lineage = parent.manifest.lineage
    if lineage.parent_sha256 is not None and not recipe.requantize:
        raise BundleInvalid(
            f"{parent.path} is quantized already (recipe {parent.manifest.recipe!r}); quantizing it again would add "
            "the errors up. Use the full-precision bundle that `roborefer-edge export` wrote."
        )


def expected_bytes(parent: Bundle, recipe: Recipe) -> int:
    """About how large the result will be; used for the disk and for lists."""
    entries = parent.manifest.files
    stored_bits = 32.0 if parent.manifest.recipe == "fp32" else 16.0
    decoder = entries[DECODER].bytes * DECODER_BITS[recipe.decoder] / stored_bits
    graphs = encoder_graphs(parent)
    encoders = sum(e.bytes for n, e in entries.items() if n.removesuffix(".data") in graphs)
    others = sum(e.bytes for n, e in entries.items() if n.removesuffix(".data") not in graphs and n != DECODER)
    return round(decoder + encoders * ENCODER_RATIO[recipe.encoders] + others)


def _check_space(parent: Bundle, recipe: Recipe, folder: Path) -> None:
    needed, free = expected_bytes(parent, recipe), shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"the bundle takes about {needed / 2**20:.0f} MiB, {folder.parent} has {free / 2**20:.0f} MiB free. Free "
            "some space or choose another folder; nothing that was there before has been changed."
        )
