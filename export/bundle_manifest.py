"""The manifest of an exported bundle, read off a loaded checkpoint.

What the robot must know about the model comes from `train/specs.py`; this module adds name, licence, origin and the
measured errors. Files and their hashes are filled in by the bundle writer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from edge_runtime.errors import CheckpointError
from edge_runtime.manifest import SCHEMA_VERSION, DepthSpec, Lineage, Manifest, Tolerance, rounded_up
from train.checkpoint import Checkpoint
from train.specs import dims, image_spec, prompt_spec, token_spec

DecoderDtype = Literal["f16", "f32"]

# "fp32" is everything in full precision; `golden_run.decoder_precision` goes by it.
RECIPES: Mapping[DecoderDtype, str] = {"f32": "fp32", "f16": "fp32-f16"}

# Libraries whose version can change the bytes of a bundle.
_WRITERS = ("roborefer-edge", "torch", "transformers", "onnx", "onnxscript", "gguf", "numpy", "pillow")

_LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE")


@dataclass(frozen=True)
class StageError:
    """The largest relative error of a stage over all golden cases."""

    measured: float
    limit: float


def manifest_of(checkpoint: Checkpoint, *, name: str, decoder_dtype: DecoderDtype) -> Manifest:
    """Describe a checkpoint as a bundle; its files and measured errors are still missing.

    Args:
        checkpoint: As read from its folder.
        name: Of the bundle.
        decoder_dtype: Of the decoder's weights.

    Raises:
        CheckpointError: The robot cannot do what a config of the checkpoint asks for.
    """
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        recipe=RECIPES[decoder_dtype],
        licence=licence_of(checkpoint),
        dims=dims(checkpoint),
        image=image_spec(checkpoint),
        tokens=token_spec(checkpoint),
        prompt=prompt_spec(checkpoint),
        depth=DepthSpec(),
        files={},
        tolerances={},
        lineage=Lineage(checkpoint_sha256=checkpoint.source_hash, parent_sha256=None, versions=library_versions()),
    )


def tolerances_of(errors: Mapping[str, StageError]) -> dict[str, Tolerance]:
    """What the parity check measured, as the manifest states it."""
    return {stage: Tolerance(e.limit, rounded_up(e.measured)) for stage, e in sorted(errors.items())}


def licence_of(checkpoint: Checkpoint) -> str:
    """The weights' licence: the config's `license`, else the first line of a licence file, else a warning."""
    folder = folder_of(checkpoint)
    stated = checkpoint.config.other.get("license")
    if isinstance(stated, str) and stated.strip():
        return stated.strip()
    for file in (folder / name for name in _LICENCE_FILES):
        if file.is_file():
            lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
            return next((line.strip() for line in lines if line.strip()), "unknown")
    return f"unknown: derived from {folder.name}; NVILA-derived weights are CC-BY-NC-SA-4.0"


def folder_of(checkpoint: Checkpoint) -> Path:
    """The folder a checkpoint was read from.

    Raises:
        CheckpointError: It exists in memory only.
    """
    if checkpoint.path is None:
        raise CheckpointError("this checkpoint exists in memory only; save it and export the folder")
    return checkpoint.path


def library_versions() -> dict[str, str]:
    """Versions of the libraries that write a bundle."""
    return {name: found for name in _WRITERS if (found := _version(name)) is not None}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
