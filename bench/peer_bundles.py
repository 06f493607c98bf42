"""What the peers are run on: a checkpoint's bundles, made by child processes and kept.

OUT holds `export` (encoders and decoder as exported), `ours` (after our recipe) and `plain` (after onnxruntime's and
llama.cpp's own quantizers). What is there already is used again; a bundle is complete or absent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.shapes import shape_named
from bench.synthetic import synthetic_bundle
from bench.verb_child import run_verb
from bench.work_folder import claim, stamp
from edge_runtime.bundle import open_bundle
from edge_runtime.errors import BundleInvalid, BundleMissing, ConfigError
from hardware.child import run_module

RECIPES = Path(__file__).resolve().with_name("peer_recipes.toml")
NO_CHECKPOINT = (
    "there is no checkpoint; name one (`python -m train.seeded OUT --variant shape_2b` makes one of the 2B's shape)"
)
NO_EXPORT = "there is no full-precision export; name a checkpoint, or the export with --export"


@dataclass(frozen=True)
class Material:
    """Where everybody's weights are; None: there are none."""

    ours: Path
    plain: Path | None
    checkpoint: Path | None


@dataclass(frozen=True)
class MaterialRequest:
    """What is given, and where the rest is to be made."""

    out: Path
    checkpoint: Path | None = None
    bundle: Path | None = None  # ours; None: made with `recipe`
    export: Path | None = None  # full precision; None: made from the checkpoint
    synthetic: str | None = None  # a shape to make up instead of all of these
    recipe: str = "cpu-int8"
    calibration: Path | None = None
    timeout_s: float = 4 * 3600.0  # of one step


def prepare(request: MaterialRequest, *, on_step: Callable[[str], None] = lambda _: None) -> Material:
    """Make what is missing.

    Raises:
        ConfigError: Too little is given, or flags contradict.
        EdgeError: A step failed.
    """
    _check(request)
    out = request.out.resolve()
    claim(
        out,
        {
            "checkpoint": stamp(request.checkpoint),
            "export": stamp(request.export),
            "bundle": stamp(request.bundle),
            "synthetic": request.synthetic,
            "recipe": None if request.bundle else request.recipe,
        },
    )
    export = _export(request, out, on_step)
    ours = request.bundle.resolve() if request.bundle is not None else out / "ours"
    if request.bundle is None and not _is_whole(ours):
        on_step(f"quantizing with {request.recipe}")
        assert export is not None, "checked before"
        data = ["--calibration", request.calibration.resolve()] if request.calibration else []
        run_verb(
            "quantize", export, ours, "--recipe", request.recipe, "--name", "ours", *data, timeout_s=request.timeout_s
        ).insist()
    plain = _plain(export, out, request.timeout_s, on_step) if export is not None else None
    return Material(ours, plain, request.checkpoint.resolve() if request.checkpoint else None)


def _export(request: MaterialRequest, out: Path, on_step: Callable[[str], None]) -> Path | None:
    """The full-precision bundle, if there is any way to one."""
    if request.export is not None:
        return request.export.resolve()
    if request.synthetic is not None:
        on_step(f"making up {request.synthetic}")
        return synthetic_bundle(shape_named(request.synthetic), "f16", out=out / "export", golden=True).path
    if request.checkpoint is None:
        return None
    if not _is_whole(out / "export"):
        on_step("exporting the checkpoint")
        run_verb("export", request.checkpoint.resolve(), out / "export", timeout_s=request.timeout_s).insist()
    return out / "export"


def _plain(export: Path, out: Path, timeout_s: float, on_step: Callable[[str], None]) -> Path:
    """The export after the two libraries' own quantizers."""
    plain, decoder = out / "plain", out / "plain-decoder"
    if _is_whole(plain):
        return plain
    on_step("quantizing as others do")
    if not _is_whole(decoder):
        run_verb(
            "quantize", export, decoder, "--recipe", "peer-decoder", "--recipes", RECIPES, timeout_s=timeout_s
        ).insist()
    child = run_module("bench.peer_plain", str(decoder), str(plain), timeout_s=timeout_s)
    if child.returncode != 0:
        raise BundleInvalid(f"the plain peer's bundle could not be made: {child.last_words}")
    return plain


def _check(request: MaterialRequest) -> None:
    given = (request.checkpoint, request.bundle, request.export)
    if request.synthetic is not None and any(path is not None for path in given):
        raise ConfigError("--synthetic makes everything up: leave out CHECKPOINT, --bundle and --export")
    if request.synthetic is None and all(path is None for path in given):
        raise ConfigError("name a CHECKPOINT, a --bundle, or a shape with --synthetic")


def _is_whole(folder: Path) -> bool:
    try:
        open_bundle(folder)
    except BundleMissing:
        return False
    return True
