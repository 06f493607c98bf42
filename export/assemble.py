"""Checkpoint to bundle, in order: read, decoder, golden values, graphs, parity, and only then the move into place.

What refuses most comes first: an odd tokenizer or a diverged weight is found before minutes go into graphs.
Everything is staged beside the destination. Whatever fails on the way, the disk included, leaves an older bundle at
the destination as it was.
"""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

from edge_runtime.bundle import DECODER, ESTIMATOR_STAGE, GOLDEN, Bundle, BundleWriter
from edge_runtime.errors import CheckpointError, ConfigError, StorageError
from edge_runtime.golden import GoldenCase, write_golden
from edge_runtime.manifest import FileEntry, Manifest
from export.bundle_manifest import DecoderDtype, folder_of, manifest_of, tolerances_of
from export.depth_anything import EstimatorWeights, read_estimator
from export.depth_estimator import estimator_parity, write_estimator
from export.gguf_decoder import write_gguf
from export.golden import golden_cases
from export.layerwise import widen_layer_by_layer
from export.onnx_encoders import write_encoders
from export.parity import ParityReport, check_parity
from hardware.storage import storage_errors
from train.checkpoint import Checkpoint, load_checkpoint
from train.tokenizer import MEDIA_TOKENS

_log = logging.getLogger(__name__)

# In order, for progress bars.
STEPS = (
    "read the checkpoint",
    "write the decoder",
    "ask torch the golden questions",
    "write the encoders",
    "compare the bundle with torch",
    "put the bundle in place",
)


@dataclass(frozen=True)
class ExportResult:
    """What an export made."""

    bundle: Bundle
    parity: ParityReport
    checkpoint: Path
    duration_s: float

    def to_json(self) -> dict[str, Any]:
        """The object of `export --json` (docs/schema/export.json)."""
        return {
            "kind": "export",
            "bundle": str(self.bundle.path),
            "name": self.bundle.manifest.name,
            "bytes": self.bundle.bytes,
            "parity": self.parity.to_json(),
            "checkpoint": str(self.checkpoint),
            "duration_s": round(self.duration_s, 3),
        }


def export_bundle(
    checkpoint_dir: Path,
    out: Path,
    *,
    decoder_dtype: DecoderDtype = "f16",
    depth_estimator: Path | None = None,
    name: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> ExportResult:
    """Turn a checkpoint folder into a bundle folder.

    Args:
        checkpoint_dir: In the RoboRefer layout.
        out: The bundle; an older bundle there is replaced at the end, in one move.
        decoder_dtype: Of the decoder's weight matrices.
        depth_estimator: Weights of Depth Anything V2 that go along; default: none.
        name: Of the bundle; default: the destination folder's.
        progress: Called with each entry of `STEPS` as it begins.

    Raises:
        CheckpointError: The checkpoint or the estimator is incomplete, damaged, or needs something the robot cannot do.
        ConfigError: The destination exists and is not a bundle, or lies in the checkpoint; or there is an estimator for
            a model without depth.
        BundleInvalid: The result does not agree with torch; nothing is put in place.
        StorageError: Disk full or not writable.
    """
    began = monotonic()
    _refuse_inside(checkpoint_dir, out)
    with BundleWriter(out) as writer:
        wanted = _Wanted(checkpoint_dir, decoder_dtype, depth_estimator, name or out.resolve().name)
        staged = _stage(wanted, writer.path, progress)
        progress(STEPS[4])
        unchecked = _unchecked(writer.path, staged.draft)
        parity = check_parity(unchecked, staged.cases, decoder_dtype=decoder_dtype)
        if depth_estimator is not None:
            parity = replace(parity, stages={**parity.stages, ESTIMATOR_STAGE: estimator_parity(unchecked)})
        parity.require()
        progress(STEPS[5])
        bundle = writer.finish(replace(staged.draft, tolerances=tolerances_of(parity.stages)))
    _log.info("exported %s to %s", checkpoint_dir, out)
    return ExportResult(bundle, parity, staged.checkpoint, monotonic() - began)


@dataclass(frozen=True)
class _Wanted:
    """What is to be exported."""

    checkpoint: Path
    decoder_dtype: DecoderDtype
    estimator: Path | None
    name: str


@dataclass(frozen=True)
class _Staged:
    """What is known once all files are written; the torch model is gone by then, to make room for the robot's."""

    draft: Manifest  # without files and measured errors
    cases: tuple[GoldenCase, ...]  # with whole arrays
    checkpoint: Path  # the root that was read


def _stage(wanted: _Wanted, folder: Path, progress: Callable[[str], None]) -> _Staged:
    """Write decoder, golden values and graphs."""
    progress(STEPS[0])
    with _reading(wanted.checkpoint):
        checkpoint = load_checkpoint(wanted.checkpoint, llm_as_stored=True)
        widen_layer_by_layer(checkpoint.model.llm)
        draft = manifest_of(checkpoint, name=wanted.name, decoder_dtype=wanted.decoder_dtype)
    estimator = _estimator(wanted.estimator, draft)
    _check_space(checkpoint, folder, wanted.decoder_dtype, 0 if estimator is None else estimator.bytes)
    progress(STEPS[1])
    with _reading(wanted.checkpoint):  # what cannot be written is a StorageError by then
        write_gguf(_llm_folder(checkpoint), folder / DECODER, wanted.decoder_dtype, ensure_tokens=MEDIA_TOKENS)
    progress(STEPS[2])
    cases = tuple(golden_cases(checkpoint))
    with storage_errors(folder / GOLDEN):
        write_golden(folder / GOLDEN, tuple(case.resampled() for case in cases))
    progress(STEPS[3])
    with storage_errors(folder):
        write_encoders(checkpoint.model, folder)
        if estimator is not None:
            write_estimator(estimator, folder)
            draft = replace(draft, licence=f"{draft.licence}; {estimator.licence}")
    return _Staged(draft, cases, folder_of(checkpoint))


def _estimator(path: Path | None, draft: Manifest) -> EstimatorWeights | None:
    """The depth estimator that goes along; what is wrong with it is found before the long work."""
    if path is None:
        return None
    if draft.image.depth is None:
        raise ConfigError(f"the model takes no depth, so it has no use for {path}: leave --depth-estimator out")
    with _reading(path):
        return read_estimator(path)


@contextmanager
def _reading(checkpoint_dir: Path) -> Iterator[None]:
    """Say what the file system refuses while a checkpoint is read; no room on the disk would help."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{checkpoint_dir} cannot be read: {error}") from error


def _llm_folder(checkpoint: Checkpoint) -> Path:
    """Where the decoder's files lie; the config may name another folder."""
    return folder_of(checkpoint) / checkpoint.config.folders.get("llm", "llm")


def _unchecked(folder: Path, draft: Manifest) -> Bundle:
    """The staged files as a bundle whose hashes nobody has computed yet."""
    entries = {p.name: FileEntry(sha256="", bytes=p.stat().st_size) for p in sorted(folder.iterdir())}
    return Bundle(path=folder, manifest=replace(draft, files=entries))


def _refuse_inside(checkpoint_dir: Path, out: Path) -> None:
    source, target = checkpoint_dir.resolve(), out.resolve()
    if target == source or source in target.parents:
        raise ConfigError(f"{out} lies in the checkpoint {checkpoint_dir}; choose a folder outside of it")


def _check_space(checkpoint: Checkpoint, folder: Path, decoder_dtype: DecoderDtype, more_bytes: int) -> None:
    """Refuse early when the disk cannot hold the bundle, rather than after minutes of writing.

    Raises:
        StorageError: Too little space.
    """
    llm = sum(p.numel() for p in checkpoint.model.llm.parameters())
    encoders = sum(p.numel() for p in checkpoint.model.parameters()) - llm
    needed = 4 * encoders + {"f16": 2, "f32": 4}[decoder_dtype] * llm + more_bytes
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"the bundle takes about {needed / 2**20:.0f} MiB, {folder.parent} has {free / 2**20:.0f} MiB free. Free "
            "some space or choose another folder; nothing that was there before has been changed."
        )
