"""Encoder graphs without weights: what an export of the true size looks like, in a few kilobytes.

`bench` fills them with seeded numbers on the machine that is to be measured, so that a board can be timed before any
weights are downloaded. The graphs are the exporter's own, written from random weights and emptied; a vocabulary of
the true kind, trained on our own sentences, goes with them.

    python -m export.skeleton bench/skeletons          # again whenever the exporter's graphs change; about 3 minutes
    python -m export.skeleton OUT --only nano_tower
"""

import argparse
import gzip
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import onnx

from export.onnx_encoders import write_encoders
from hardware.storage import whole_file
from train.nano.preset import NANO
from train.seeded import VARIANTS, Shape, seeded_checkpoint
from train.tiny_tokenizer import SPECIAL_TOKENS, train_tokenizer

SUFFIX = ".onnx.gz"
VOCABULARY = "vocabulary.json.gz"
_MERGES = 1500


@dataclass(frozen=True)
class Skeleton:
    """One graph to empty."""

    graph: Literal["rgb_tower.onnx", "rgb_projector.onnx"]  # depth's are the same
    shape: Shape


def _only(shape: Shape, *, tower_layers: int | None = None) -> Shape:
    """The shape with as little as possible beside its graphs: no tower of depth's own, next to no decoder."""
    layers = shape.tower_layers if tower_layers is None else tower_layers
    return replace(shape, depth="shared", tower_layers=layers, heads=4, kv_heads=1, mlp=8, layers=1, merges=1)


_SHAPE_2B = VARIANTS["shape_2b"]
# The 8B sees the tower's features of three scales side by side and halves their map once more.
_SHAPE_8B = replace(_SHAPE_2B, image_mode="dynamic_s2", projector="mlp_downsample", s2_factors=(1, 2, 3), width=3584)

SKELETONS: Mapping[str, Skeleton] = {
    "siglip_so400m_448_tower": Skeleton("rgb_tower.onnx", _only(_SHAPE_2B)),
    "roborefer_2b_projector": Skeleton("rgb_projector.onnx", _only(_SHAPE_2B, tower_layers=2)),
    "roborefer_8b_projector": Skeleton("rgb_projector.onnx", _only(_SHAPE_8B, tower_layers=2)),
    "nano_tower": Skeleton("rgb_tower.onnx", _only(NANO)),
    "nano_projector": Skeleton("rgb_projector.onnx", _only(NANO, tower_layers=2)),
}


def write_skeleton(out: Path, skeleton: Skeleton) -> None:
    """Export a model from random weights and write one of its graphs, emptied, whole or not at all."""
    write_skeletons(skeleton.shape, {skeleton.graph: out})


def write_skeletons(shape: Shape, outs: Mapping[str, Path]) -> None:
    """Export a model from random weights and write some of its graphs, emptied.

    Args:
        shape: Of the model.
        outs: Name of the graph -> file, which appears whole or not at all.

    Raises:
        BundleInvalid: torch exported something other than the promised plain graph.
        StorageError: The disk is full or not writable.
    """
    model = seeded_checkpoint(shape).model
    with tempfile.TemporaryDirectory() as folder:
        write_encoders(model, Path(folder))
        for graph, out in outs.items():
            proto = onnx.load(Path(folder) / graph, load_external_data=False)
            write_compressed(out, emptied(proto).SerializeToString(deterministic=True))


def emptied(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without the values of its weights; shapes and types stay, and so do whole numbers and single ones."""
    for tensor in proto.graph.initializer:
        values = 1
        for size in tensor.dims:
            values *= size
        if tensor.data_type == onnx.TensorProto.FLOAT and values > 1:
            bare = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            tensor.CopyFrom(bare)
    return proto


def write_vocabulary(out: Path) -> None:
    """Write tokens and merges of a byte-level BPE that reads our prompts in as many tokens as a trained one."""
    document = json.loads(train_tokenizer(merges=_MERGES)["tokenizer.json"])
    by_id = sorted(document["model"]["vocab"].items(), key=lambda entry: entry[1])
    merges = [m if isinstance(m, str) else " ".join(m) for m in document["model"]["merges"]]
    content = {"tokens": [t for t, _ in by_id], "merges": merges, "special": list(SPECIAL_TOKENS)}
    write_compressed(out, json.dumps(content, ensure_ascii=False).encode())


def write_compressed(out: Path, content: bytes) -> None:
    """The same content gives the same bytes: no name and no time in the header.

    Raises:
        StorageError: The disk is full or not writable.
    """
    with whole_file(out) as unfinished:
        unfinished.write_bytes(gzip.compress(content, mtime=0))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Write encoder graphs without weights, and a vocabulary.")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--only", choices=sorted([*SKELETONS, "vocabulary"]), help="write one of them")
    options = parser.parse_args(arguments)
    steps: dict[str, Callable[[], None]] = {"vocabulary": lambda: write_vocabulary(options.out / VOCABULARY)}
    for name, skeleton in SKELETONS.items():
        steps[name] = partial(write_skeleton, options.out / f"{name}{SUFFIX}", skeleton)
    for name, write in steps.items():
        if options.only in (None, name):
            write()
            sys.stdout.write(f"wrote {name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
