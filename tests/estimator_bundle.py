"""Bundles with a depth estimator of three nodes: real files for the real runtime, made in a moment.

Its estimate is the brightness of each pixel, so a test can say what has to come out. Needs onnx, as `export` does.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.bundle import ESTIMATOR, ESTIMATOR_GOLDEN, ESTIMATOR_STAGE, Bundle, BundleWriter, open_bundle
from edge_runtime.depth_estimator import EstimatorGolden
from edge_runtime.estimator_pictures import estimator_input
from edge_runtime.golden import Sampled
from edge_runtime.manifest import Tolerance

SIZES: Sequence[str | int] = ("height", "width")


def with_estimator(parent: Path, out: Path) -> Bundle:
    """A copy of a bundle that can also estimate depth."""
    bundle = open_bundle(parent)
    with BundleWriter(out) as writer:
        for name in bundle.manifest.files:
            shutil.copyfile(bundle.file(name), writer.path / name)
        write_estimator(writer.path)
        tolerances = {**bundle.manifest.tolerances, ESTIMATOR_STAGE: Tolerance(limit=1e-3, measured=1e-6)}
        return writer.finish(replace(bundle.manifest, tolerances=tolerances))


def write_estimator(folder: Path, *, sizes: Sequence[str | int] = SIZES, gain: float = 1.0) -> None:
    """The two files of an estimator.

    Args:
        folder: Where they go.
        sizes: Of the picture, as the graph states them.
        gain: The graph's estimate is larger than the golden one by this factor.
    """
    one_channel = [1, *sizes]
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["pixel_values", "channels"], ["mean"], keepdims=0),
            helper.make_node("Add", ["mean", "offset"], ["bright"]),
            helper.make_node("Mul", ["bright", "gain"], ["inverse_depth"]),
        ],
        "estimator",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, [1, 3, *sizes])],
        [helper.make_tensor_value_info("inverse_depth", TensorProto.FLOAT, one_channel)],
        [
            numpy_helper.from_array(np.array([1], np.int64), "channels"),
            numpy_helper.from_array(np.float32(3.0), "offset"),
            numpy_helper.from_array(np.float32(gain), "gain"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 9
    onnx.save(model, folder / ESTIMATOR)
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    EstimatorGolden(rgb, Sampled.of(estimator_input(rgb)[0].mean(axis=0) + 3.0)).write(folder / ESTIMATOR_GOLDEN)
