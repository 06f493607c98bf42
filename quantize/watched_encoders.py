"""The encoders of a bundle with their inner values in view, driven by the robot's own code.

The graphs run inside the robot's `Encoders`, so tiles, scales and projectors meet in exactly the robot's order; each
tile goes through a graph on its own, so memory depends on one tile and not on the calibration set.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from edge_runtime.bundle import Bundle
from edge_runtime.bundle_shapes import encoder_files
from edge_runtime.encoders import Encoders, native_exceptions
from edge_runtime.errors import BundleInvalid, InferenceError
from edge_runtime.providers import CPU
from edge_runtime.records import F32, Modality
from quantize.calibration import CalibrationSet, tiles_of
from quantize.graph import Graph

# Called with the values of one run: value name -> float32 array.
OnValues = Callable[[Mapping[str, F32]], None]


class WatchedGraph:
    """One graph that hands out inner values whenever it runs; it stands in for the robot's own graph."""

    def __init__(self, path: Path, watched: Sequence[str], on_values: OnValues) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # values that are only looked at must not be fused away
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=[CPU])
        except native_exceptions() as error:
            raise BundleInvalid(f"onnxruntime cannot load {path.name}: {error}") from error
        self.name = path.name
        self.providers = (CPU,)
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name
        self._watched = tuple(watched)
        self._on_values = on_values

    def run(self, tiles: F32) -> F32:
        """Run the graph tile by tile on [tiles, ...]."""
        return np.concatenate([self._run_one(tiles[i : i + 1]) for i in range(len(tiles))])

    def _run_one(self, tile: F32) -> F32:
        # input and output may be watched too
        wanted = dict.fromkeys((self._output, *(name for name in self._watched if name != self._input)))
        try:
            found: Sequence[Any] = self._session.run(list(wanted), {self._input: tile})
        except native_exceptions() as error:
            raise InferenceError(f"onnxruntime failed in {self.name}: {error}") from error
        values = {name: np.asarray(value, np.float32) for name, value in zip(wanted, found, strict=True)}
        values[self._input] = tile
        self._on_values({name: values[name] for name in self._watched})
        return values[self._output]


@contextmanager
def watched_encoders(
    bundle: Bundle, graphs: Mapping[str, Graph], watchers: Mapping[str, tuple[Sequence[str], OnValues]], scratch: Path
) -> Iterator[Encoders]:
    """Open encoders with graphs in the place of the bundle's.

    Args:
        bundle: Gives the manifest, and every graph that is not replaced.
        graphs: File name -> graph to run instead.
        watchers: File name -> values to hand out, and to whom.
        scratch: Folder for copies of the graphs, which are removed at the end; as large as the encoders.

    Raises:
        BundleInvalid: ONNX Runtime cannot load a graph.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=scratch, prefix=".watched-")))
        opened: dict[str, WatchedGraph] = {}
        by_modality: dict[Modality, tuple[WatchedGraph, ...]] = {}
        for modality, prefix in modalities(bundle):
            names = encoder_files(bundle.manifest, prefix)
            for name in names:
                if name not in opened:
                    values, on_values = watchers.get(name, ((), _ignore))
                    path = write_watched(folder, graphs.get(name) or Graph.read(bundle.file(name)), name, values)
                    opened[name] = WatchedGraph(path, values, on_values)
            by_modality[modality] = tuple(opened[name] for name in names)
        stand_ins: Any = by_modality  # they have what the robot's graphs have
        yield Encoders(stand_ins, bundle.manifest.image, (CPU,))


def modalities(bundle: Bundle) -> tuple[tuple[Modality, str], ...]:
    """What the bundle's encoders take, and how their files begin."""
    if bundle.manifest.image.depth is None:
        return (("image", "rgb"),)
    return (("image", "rgb"), ("depth", "depth"))


def stream(encoders: Encoders, bundle: Bundle, calibration: CalibrationSet) -> None:
    """Send every calibration picture through the encoders."""
    for _, view in calibration:
        for modality, _ in modalities(bundle):
            tiles = tiles_of(view, modality, bundle.manifest)
            if tiles is not None:
                encoders.encode(modality, [tiles])


def _ignore(_: Mapping[str, F32]) -> None:
    """Nobody is interested."""


def write_watched(folder: Path, graph: Graph, name: str, watched: Sequence[str]) -> Path:
    """Write a copy of a graph whose inner values are outputs too; gives its path."""
    before = onnx.GraphProto()
    outputs = graph.proto.graph.output
    before.output.extend(outputs)
    for value in watched:
        if value not in (*graph.inputs, *graph.outputs):
            outputs.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))
    try:
        graph.write(folder / name)
    finally:
        del outputs[:]
        outputs.extend(before.output)
    return folder / name
