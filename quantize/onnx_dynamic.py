"""Dynamic INT8 for processors: weights are INT8, activations are quantized when they are known.

Each product becomes DynamicQuantizeLinear, MatMulInteger, Cast and Mul, all of ai.onnx; ONNX Runtime fuses the four
into one kernel when it loads the graph. Products that read the same activation share its quantization. No calibration
is needed, and nothing is lost to clipping. Attention products and the patch convolution stay in float:
quantizing the scores costs more time than it saves (docs/decisions.md).
"""

from collections.abc import Collection, Iterator

from onnx import NodeProto, TensorProto, helper

from quantize.graph import Graph, Linear
from quantize.int8 import ChannelInt8, per_channel
from quantize.weight_error import WeightError, weight_error


def quantize_dynamic(graph: Graph, *, excluded: Collection[str] = ()) -> tuple[WeightError, ...]:
    """Turn every product with a constant weight into dynamic INT8, in place.

    Args:
        graph: Of an encoder, in float32.
        excluded: Names of layers that stay in float.

    Returns:
        The layers that were quantized, by name, and how far their weights are off.

    Raises:
        BundleInvalid: A weight holds NaN or infinity.
    """
    quantized: set[str] = set()
    chosen = [layer for layer in graph.linears() if layer.name not in excluded]
    packed = {layer.name: per_channel(graph.weights(layer.weight)) for layer in chosen}
    errors = tuple(stored_error(graph, layer, packed[layer.name]) for layer in chosen)
    nodes = {layer.node: tuple(_integer_product(graph, layer, packed[layer.name], quantized)) for layer in chosen}
    graph.replace_nodes(nodes)
    return errors


def stored_error(graph: Graph, layer: Linear, packed: ChannelInt8) -> WeightError:
    """How far a layer's INT8 weight is from its float one."""
    return weight_error(layer.name, "INT8", graph.weights(layer.weight), packed.restored())


def _integer_product(graph: Graph, layer: Linear, weight: ChannelInt8, quantized: set[str]) -> Iterator[NodeProto]:
    values = graph.set_constant(f"{layer.weight}/int8", weight.values)
    scales = graph.set_constant(f"{layer.weight}/scale", weight.scales)
    x = layer.activation
    integers, scale, zero = f"{x}/uint8", f"{x}/scale", f"{x}/zero_point"
    if x not in quantized:
        quantized.add(x)
        yield helper.make_node("DynamicQuantizeLinear", [x], [integers, scale, zero], name=integers)
    product, both, real = (f"{layer.node}/{part}" for part in ("int32", "scale", "float"))
    yield helper.make_node("MatMulInteger", [integers, values, zero], [product], name=product)
    yield helper.make_node("Cast", [product], [real], name=real, to=TensorProto.FLOAT)
    yield helper.make_node("Mul", [scale, scales], [both], name=both)
    yield helper.make_node("Mul", [real, both], [layer.output], name=layer.node)
