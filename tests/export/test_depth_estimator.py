"""The exported depth estimator: equal to transformers for every picture size, plain, and part of a whole bundle."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import DepthAnythingForDepthEstimation
from typer.testing import CliRunner

from edge_runtime.bundle import ESTIMATOR, ESTIMATOR_STAGE, open_bundle
from edge_runtime.check import check_bundle
from edge_runtime.encoders import Graph
from edge_runtime.onnx_header import read_onnx_header
from edge_runtime.providers import CPU, Provider
from export.cli import app
from export.depth_anything import read_estimator
from export.depth_estimator import write_estimator
from export.onnx_encoders import OPSET
from tests.export.upstream_estimator import SMALL, TINY, seeded_weights, upstream_forward, write_pth
from tests.flow.command_line import keeps_schema

TOLERANCE = 1e-4  # of the largest value; twelve layers and a convolutional head in float32, see docs/decisions.md
SIZES = ((518, 518), (518, 686), (924, 518), (70, 98))  # the network's own, a camera's, a phone's, a small one

pytestmark = pytest.mark.slow  # tracing with free sizes takes ten seconds for the smallest network

PLAIN_OPERATORS = {
    "Add", "Concat", "Conv", "ConvTranspose", "Div", "Gelu", "LayerNormalization", "MatMul", "Mul", "Relu", "Reshape",
    "Resize", "Shape", "Slice", "Softmax", "Squeeze", "Transpose",
}  # fmt: skip


def agrees(found: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max(), expected.shape


def test_small_from_upstreams_file_equals_transformers_from_its_folder(tmp_path: Path) -> None:
    """The true Small shape: one layout goes into the graph, the other is asked in torch, and upstream's own forward."""
    theirs_by_name = seeded_weights(SMALL)
    pth = write_pth(tmp_path / "depth_anything_v2_vits.pth", theirs_by_name)
    weights = read_estimator(pth)
    weights.model.save_pretrained(tmp_path / "folder")
    write_estimator(weights, tmp_path)
    assert read_onnx_header(tmp_path / ESTIMATOR).external_files == {f"{ESTIMATOR}.data"}
    theirs = DepthAnythingForDepthEstimation.from_pretrained(tmp_path / "folder").eval()
    graph = Graph(tmp_path / ESTIMATOR, [Provider(CPU)], None)
    for height, width in SIZES:
        pixels = torch.randn((1, 3, height, width), generator=torch.Generator().manual_seed(width))
        with torch.inference_mode():
            expected = theirs(pixels).predicted_depth.numpy()
            if (height, width) == SIZES[0]:  # the table of positions is taken as it is
                agrees(expected, upstream_forward(theirs_by_name, pixels).numpy())
        found = graph.run(pixels.numpy())
        assert found.shape == expected.shape == (1, height, width)
        agrees(found, expected)


def test_a_bundle_with_an_estimator_from_start_to_end(checkpoint_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """The verb, from a folder as on Hugging Face; then `check`, as on the robot."""
    folder = tmp_path / "estimator"
    read_estimator(write_pth(tmp_path / "w.pth", seeded_weights(TINY))).model.save_pretrained(folder)
    out = tmp_path / "bundle"
    arguments = [str(checkpoint_folder("resize")), str(out), "--depth-estimator", str(folder), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.splitlines()[-1])
    keeps_schema(found, "export")
    assert found["parity"][ESTIMATOR_STAGE]["max_rel_error"] <= TOLERANCE
    bundle = open_bundle(out)
    assert bundle.manifest.licence.endswith("; depth estimator (Depth Anything V2 of width 64): unknown")
    graph = onnx.load(out / ESTIMATOR)
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", OPSET)]
    assert {node.op_type for node in graph.graph.node} <= PLAIN_OPERATORS
    header = read_onnx_header(out / ESTIMATOR)
    assert header.inputs == {"pixel_values": (1, 3, "height", "width")}
    assert header.outputs == {"inverse_depth": (1, "height", "width")}
    report = check_bundle(out)
    assert report.ok, report.findings
    assert ESTIMATOR_STAGE in {finding.name for finding in report.findings}
