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

from edge_runtime.bundle import DECODER, GOLDEN, Bundle, BundleWriter
from edge_runtime.errors import CheckpointError, ConfigError, StorageError
from edge_runtime.golden import GoldenCase, write_golden
from edge_runtime.manifest import FileEntry, Manifest
from export.bundle_manifest import DecoderDtype, folder_of, manifest_of, tolerances_of
from export.gguf_decoder import write_gguf
from export.golden import golden_cases
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
    name: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> ExportResult:
    """Turn a checkpoint folder into a bundle folder.

    Args:
        checkpoint_dir: In the RoboRefer layout.
        out: The bundle; an older bundle there is replaced at the end, in one move.
        decoder_dtype: Of the decoder's weight matrices.
        name: Of the bundle; default: the destination folder's.
        progress: Called with each entry of `STEPS` as it begins.

    Raises:
        CheckpointError: The checkpoint is incomplete, damaged, or needs something the robot cannot do.
        ConfigError: The destination exists and is not a bundle, or lies in the checkpoint.
        BundleInvalid: The result does not agree with torch; nothing is put in place.
        StorageError: Disk full or not writable.
    """
    began = monotonic()
    _refuse_inside(checkpoint_dir, out)
    with BundleWriter(out) as writer:
        staged = _stage(checkpoint_dir, writer.path, decoder_dtype, name or out.resolve().name, progress)
        progress(STEPS[4])
        parity = check_parity(_unchecked(writer.path, staged.draft), staged.cases, decoder_dtype=decoder_dtype)
        parity.require()
        progress(STEPS[5])
        bundle = writer.finish(replace(staged.draft, tolerances=tolerances_of(parity.stages)))
    _log.info("exported %s to %s", checkpoint_dir, out)
    return ExportResult(bundle, parity, staged.checkpoint, monotonic() - began)


@dataclass(frozen=True)
class _Staged:
    """What is known once all files are written; the torch model is gone by then, to make room for the robot's."""

    draft: Manifest  # without files and measured errors
    cases: tuple[GoldenCase, ...]  # with whole arrays
    checkpoint: Path  # the root that was read


def _stage(
    checkpoint_dir: Path, folder: Path, decoder_dtype: DecoderDtype, name: str, progress: Callable[[str], None]
) -> _Staged:
    """Write decoder, golden values and graphs."""
    progress(STEPS[0])
    with _reading(checkpoint_dir):
        checkpoint = load_checkpoint(checkpoint_dir)
        draft = manifest_of(checkpoint, name=name, decoder_dtype=decoder_dtype)
    _check_space(checkpoint, folder, decoder_dtype)
    progress(STEPS[1])
    with _reading(checkpoint_dir):  # what cannot be written is a StorageError by then
        write_gguf(_llm_folder(checkpoint), folder / DECODER, decoder_dtype, ensure_tokens=MEDIA_TOKENS)
    progress(STEPS[2])
    cases = tuple(golden_cases(checkpoint))
    with storage_errors(folder / GOLDEN):
        write_golden(folder / GOLDEN, tuple(case.resampled() for case in cases))
    progress(STEPS[3])
    with storage_errors(folder):
        write_encoders(checkpoint.model, folder)
    return _Staged(draft, cases, folder_of(checkpoint))


@contextmanager
def _reading(checkpoint_dir: Path) -> Iterator[None]:
    """Say what the file system refuses while a checkpoint is read; no room on the disk would help."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"the checkpoint {checkpoint_dir} cannot be read: {error}") from error


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


def _check_space(checkpoint: Checkpoint, folder: Path, decoder_dtype: DecoderDtype) -> None:
    """Refuse early when the disk cannot hold the bundle, rather than after minutes of writing.

    Raises:
        StorageError: Too little space.
    """
    llm = sum(p.numel() for p in checkpoint.model.llm.parameters())
    encoders = sum(p.numel() for p in checkpoint.model.parameters()) - llm
    needed = 4 * encoders + {"f16": 2, "f32": 4}[decoder_dtype] * llm
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"the bundle takes about {needed / 2**20:.0f} MiB, {folder.parent} has {free / 2**20:.0f} MiB free. Free "
            "some space or choose another folder; nothing that was there before has been changed."
        )
