"""Static INT8 as QuantizeLinear / DequantizeLinear pairs: what TensorRT builds INT8 kernels from.

Everything is symmetric with zero point 0: activations with one scale per tensor, found by calibration, weights with one
per output channel. Only ai.onnx operators; `tensorrt.py` holds the list that TensorRT knows. Weights alone in INT8
(`weights_only`) is the safe form: it saves the memory and rounds no activation.
"""

from collections.abc import Collection, Iterator, Mapping

import numpy as np
from onnx import NodeProto, helper

from quantize.graph import Graph, Linear
from quantize.int8 import ChannelInt8, per_channel, scales_of
from quantize.onnx_dynamic import stored_error
from quantize.ranges import MagnitudeHistogram, RangeMethod
from quantize.weight_error import WeightError


def activation_scales(histograms: Mapping[str, MagnitudeHistogram], method: RangeMethod) -> dict[str, float]:
    """One symmetric scale per value."""
    reaches = {name: np.array([histogram.reach(method)], np.float32) for name, histogram in histograms.items()}
    return {name: float(scales_of(reach)[0]) for name, reach in reaches.items()}


def quantize_static(
    graph: Graph, scales: Mapping[str, float], *, excluded: Collection[str] = ()
) -> tuple[WeightError, ...]:
    """Put quantization pairs around every product with a constant weight, in place.

    Args:
        graph: Of an encoder, in float32, smoothed or not.
        scales: Of each value that a product reads.
        excluded: Names of layers that stay in float.

    Returns:
        The layers that were quantized, by name, and how far their weights are off.

    Raises:
        BundleInvalid: A weight holds NaN or infinity.
    """
    chosen = [layer for layer in graph.linears() if layer.name not in excluded]
    packed = {layer.name: per_channel(graph.weights(layer.weight)) for layer in chosen}
    errors = tuple(stored_error(graph, layer, packed[layer.name]) for layer in chosen)
    rounded: set[str] = set()
    graph.replace_nodes({a.node: tuple(_pairs(graph, a, packed[a.name], scales, rounded)) for a in chosen})
    return errors


def weights_only(graph: Graph, *, excluded: Collection[str] = ()) -> tuple[WeightError, ...]:
    """Store the weights of products in INT8 and compute in float, in place.

    Raises:
        BundleInvalid: A weight holds NaN or infinity.
    """
    chosen = [layer for layer in graph.linears() if layer.name not in excluded]
    packed = {layer.name: per_channel(graph.weights(layer.weight)) for layer in chosen}
    errors = tuple(stored_error(graph, layer, packed[layer.name]) for layer in chosen)
    graph.replace_nodes({a.node: tuple(_restored_product(graph, a, packed[a.name], a.activation)) for a in chosen})
    return errors


def _pairs(
    graph: Graph, layer: Linear, weight: ChannelInt8, scales: Mapping[str, float], rounded: set[str]
) -> Iterator[NodeProto]:
    x = layer.activation
    integers, restored = f"{x}/int8", f"{x}/restored"
    if x not in rounded:
        rounded.add(x)
        scale = graph.set_constant(f"{x}/scale", np.array(scales[x], np.float32))
        zero = graph.set_constant(f"{x}/zero", np.array(0, np.int8))
        yield helper.make_node("QuantizeLinear", [x, scale, zero], [integers], name=integers)
        yield helper.make_node("DequantizeLinear", [integers, scale, zero], [restored], name=restored)
    yield from _restored_product(graph, layer, weight, restored)


def _restored_product(graph: Graph, layer: Linear, weight: ChannelInt8, activation: str) -> Iterator[NodeProto]:
    values = graph.set_constant(f"{layer.weight}/int8", weight.values)
    scales = graph.set_constant(f"{layer.weight}/scale", weight.scales)
    zeros = graph.set_constant(f"{layer.weight}/zero", np.zeros(layer.cols, np.int8))
    restored = f"{layer.weight}/restored"
    yield helper.make_node("DequantizeLinear", [values, scales, zeros], [restored], name=restored, axis=1)
    yield helper.make_node("MatMul", [activation, restored], [layer.output], name=layer.node)
