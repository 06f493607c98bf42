"""A depth estimator into a bundle: its graph, a golden picture with what torch says about it, and the comparison.

The graph takes one picture of any size whose sides are multiples of a patch, so that every camera keeps its aspect, as
upstream does it; everything else about the file is as `onnx_encoders.py` writes it.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from transformers import DepthAnythingForDepthEstimation

from edge_runtime.bundle import ESTIMATOR, ESTIMATOR_GOLDEN, Bundle
from edge_runtime.depth_estimator import EstimatorGolden, golden_error
from edge_runtime.estimator_pictures import PATCH_PX, SHORTER_SIDE_PX, estimator_input
from edge_runtime.golden import Sampled
from edge_runtime.records import F32, U8
from export.bundle_manifest import StageError
from export.depth_anything import EstimatorWeights
from export.golden import golden_picture
from export.onnx_encoders import EXTERNAL_ABOVE_BYTES, EncoderGraph, write_graph

LIMIT = 1e-3  # of the largest value, as for the encoders

# The sizes that are traced; others follow from them by their names.
_EXAMPLE_PX = (SHORTER_SIDE_PX, SHORTER_SIDE_PX + 12 * PATCH_PX)
_GOLDEN_PX = (80, 60)  # width and height: scaled up it is a usual camera's 4:3


class EstimatorNetwork(nn.Module):
    """transformers' network from pixels to one value per pixel.

    Its own forward makes whole numbers of the sizes on the way, which would fix them in a traced graph.
    """

    def __init__(self, model: DepthAnythingForDepthEstimation) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = model.backbone, model.neck, model.head

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Inverse depth [1, H, W] of a picture [1, 3, H, W]."""
        height, width = pixel_values.shape[2:]
        features = self.backbone.forward_with_filtered_kwargs(
            pixel_values, output_hidden_states=False, output_attentions=False
        ).feature_maps
        fused = self.neck(features, height // PATCH_PX, width // PATCH_PX)
        values = self.head.conv1(fused[self.head.head_in_index])
        values = nn.functional.interpolate(values, (height, width), mode="bilinear", align_corners=True)
        values = self.head.conv3(self.head.activation1(self.head.conv2(values)))
        inverse: Tensor = self.head.activation2(values).squeeze(1)
        return inverse


def write_estimator(
    weights: EstimatorWeights, folder: Path, *, external_above_bytes: int = EXTERNAL_ABOVE_BYTES
) -> None:
    """Write the graph and the golden picture.

    Args:
        weights: As read.
        folder: Where the files go.
        external_above_bytes: Weights that together exceed this lie beside the graph.

    Raises:
        BundleInvalid: The exporter produced something other than the promised plain graph.
        OSError: The disk is full or not writable.
    """
    rows, cols = torch.export.Dim("rows", min=2), torch.export.Dim("cols", min=2)
    graph = EncoderGraph(
        ESTIMATOR, EstimatorNetwork(weights.model).eval(), "pixel_values", "inverse_depth", (3, *_EXAMPLE_PX),
        tiles=1, free={2: PATCH_PX * rows, 3: PATCH_PX * cols},
    )  # fmt: skip
    write_graph(graph, folder, external_above_bytes=external_above_bytes)
    _name_sizes(folder / ESTIMATOR)
    picture = golden_picture(*_GOLDEN_PX)
    EstimatorGolden(picture, Sampled.of(torch_estimate(weights, picture))).write(folder / ESTIMATOR_GOLDEN)


def torch_estimate(weights: EstimatorWeights, rgb: U8) -> F32:
    """What transformers' own forward says about a picture uint8 [H, W, 3]: float32 [h, w], in the network's size."""
    with torch.inference_mode():
        estimated: F32 = weights.model(torch.from_numpy(estimator_input(rgb))).predicted_depth[0].numpy()
    return np.ascontiguousarray(estimated)


def estimator_parity(bundle: Bundle) -> StageError:
    """How far the graph is off torch on the golden picture, through the robot's own code.

    Raises:
        BundleInvalid: It cannot be loaded.
        InferenceError: ONNX Runtime fails on it.
    """
    measured, _ = golden_error(bundle)
    return StageError(measured=measured, limit=LIMIT)


def _name_sizes(path: Path) -> None:
    """Call the two free sizes what they are; the exporter numbers them anew each time."""
    proto = onnx.load(path, load_external_data=False)
    for value in (*proto.graph.input, *proto.graph.output):
        for dimension, name in zip(value.type.tensor_type.shape.dim[-2:], ("height", "width"), strict=True):
            dimension.dim_param = name
    onnx.save(proto, path)
