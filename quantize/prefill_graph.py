"""The decoder's layers once more, as an INT8 graph that reads prompts: rows in, keys and values of each layer out.

On processors without matrix units llama.cpp multiplies its 4-bit weights with a prompt's hundreds of rows at a quarter
of the speed of ONNX Runtime's INT8 products. So a prompt is read by this graph, and its keys and values are handed to
llama.cpp, which reads the last row and writes the answer (`edge_runtime/prefill.py`). The price is a second copy of the
layers, one byte a weight; there is no embedding and no head in it.

Weights are symmetric INT8 with a scale per output channel. Every row of an activation is divided by its largest value
first, so that each token has a scale of its own: Qwen2 has tokens whose activations are a hundred times the others',
and one scale for all would leave nothing of those (LLM.int8(), arXiv 2208.07339; SmoothQuant, arXiv 2211.10438).

Letters: R rows, D decoder width, W width of all keys of a token, L layers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from onnx import TensorProto, helper

from edge_runtime.bundle import PREFILL_ROWS
from edge_runtime.records import F32
from hardware.storage import storage_errors
from quantize.gguf_tensors import GgufFile
from quantize.graph_writer import FUSED, GraphWriter
from quantize.int8 import per_channel
from quantize.weight_error import WeightError, weight_error

ROWS: Final = "rows"  # float32 [R, D]
KEYS_VALUES: Final = "keys_values"  # float16 [2 L, R, W]: keys of layer 0, values of layer 0, keys of layer 1, ...
_SMALLEST: Final = np.float32(1e-20)  # a row of zeros is divided by this


@dataclass(frozen=True)
class DecoderShape:
    """The sizes in a decoder file's header."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    rope_base: float
    rms_epsilon: float
    context: int

    @classmethod
    def of(cls, decoder: GgufFile) -> "DecoderShape":
        """Read them.

        Raises:
            BundleInvalid: One is missing.
        """
        return cls(
            layers=int(decoder.setting("block_count")),
            width=int(decoder.setting("embedding_length")),
            heads=int(decoder.setting("attention.head_count")),
            kv_heads=int(decoder.setting("attention.head_count_kv")),
            rope_base=float(decoder.setting("rope.freq_base")),
            rms_epsilon=float(decoder.setting("attention.layer_norm_rms_epsilon")),
            context=int(decoder.setting("context_length")),
        )

    @property
    def head_width(self) -> int:
        """Channels of one head."""
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        """Channels of all keys of a token."""
        return self.kv_heads * self.head_width


def write_prefill(decoder: Path, target: Path, *, exact: bool = False) -> tuple[WeightError, ...]:
    """Write the graph of a decoder.

    Args:
        decoder: GGUF file in full precision.
        target: The `.onnx` file; its weights go to `<name>.data` beside it.
        exact: Keep float32 weights and products, to hold the graph itself against llama.cpp.

    Returns:
        How far each weight is off.

    Raises:
        BundleInvalid: A weight holds NaN or infinity.
        StorageError: Disk full or not writable.
    """
    source = GgufFile(decoder)
    with storage_errors(target), GraphWriter(target) as graph:
        return _Layers(source, graph, exact=exact).write()


class _Layers:
    """Writes the layers one after another; a value is called as the module that makes it."""

    def __init__(self, source: GgufFile, graph: GraphWriter, *, exact: bool) -> None:
        self._source, self._graph, self._exact = source, graph, exact
        self._shape = DecoderShape.of(source)
        self._errors: list[WeightError] = []

    def write(self) -> tuple[WeightError, ...]:
        graph, shape = self._graph, self._shape
        self._constants()
        stream, added = graph.node("Unsqueeze", [ROWS, "first_axis"], "stream"), ""
        found: list[str] = []
        for layer in range(shape.layers):
            name = f"blk.{layer}"
            stream, normed = self._norm(f"{name}.attn_norm", stream, added)
            if layer == shape.layers - 1:  # nothing behind its keys and values is asked for
                found += self._last_keys_values(name, normed)
                break
            attended, *keys_values = self._attention(name, normed)
            found += keys_values
            stream, normed = self._norm(f"{name}.ffn_norm", stream, self._product(f"{name}.attn_output", attended))
            added = self._mlp(name, normed)
        graph.node("Concat", found, KEYS_VALUES, axis=0)
        rows = helper.make_tensor_value_info(ROWS, TensorProto.FLOAT, ["rows", shape.width])
        sizes = [2 * shape.layers, "rows", shape.kv_width]
        graph.finish("prefill", [rows], [helper.make_tensor_value_info(KEYS_VALUES, TensorProto.FLOAT16, sizes)])
        return tuple(self._errors)

    def _constants(self) -> None:
        """What all layers share; attention is told the number of rows twice, as ONNX Runtime wants it."""
        graph, shape = self._graph, self._shape
        channels = np.arange(0, shape.head_width, 2, dtype=np.float64) / shape.head_width
        angles = np.arange(min(shape.context, PREFILL_ROWS))[:, None] * shape.rope_base**-channels
        graph.constant("cos", np.cos(angles).astype(np.float32))
        graph.constant("sin", np.sin(angles).astype(np.float32))
        graph.constant("first_axis", np.array([0], np.int64))
        graph.constant("last_axis", np.array([-1], np.int64))
        graph.constant("one", np.array(1, np.int32))
        graph.constant("smallest", np.array([_SMALLEST]))
        graph.constant("as_rows", np.array([1, -1, shape.kv_width], np.int64))
        graph.constant("position_0", np.array([0], np.int64))
        counted = graph.node("Gather", [graph.node("Shape", [ROWS], "sizes"), "first_axis"], "count")
        count = graph.node("Cast", [counted], "count_32", to=TensorProto.INT32)
        graph.node("Sub", [count, "one"], "last_row")
        graph.node("Squeeze", [count], "row_count")

    def _norm(self, name: str, stream: str, added: str) -> tuple[str, str]:
        """The stream with what the last product added to it, and its norm."""
        gain = self._graph.constant(f"{name}.weight", self._source.values(f"{name}.weight"))
        epsilon = self._shape.rms_epsilon
        if not added:
            normed = self._graph.node(
                "SimplifiedLayerNormalization", [stream, gain], name, axis=-1, epsilon=epsilon, stash_type=1
            )
            return stream, normed
        self._graph.nodes(
            "SkipSimplifiedLayerNormalization", [stream, added, gain], [name, "", "", f"{name}/stream"],
            domain=FUSED, epsilon=epsilon,
        )  # fmt: skip
        return f"{name}/stream", name

    def _attention(self, layer: str, normed: str) -> tuple[str, str, str]:
        """What a layer attends to, and its keys and values as llama.cpp keeps them: turned, a row per token."""
        graph, shape = self._graph, self._shape
        q, k, v = self._projections(layer, normed, "qkv")
        outputs = [f"{layer}/{name}" for name in ("attended", "keys", "values")]
        graph.nodes(
            "GroupQueryAttention", [q, k, v, "", "", "last_row", "row_count", "cos", "sin"], outputs,
            domain=FUSED, num_heads=shape.heads, kv_num_heads=shape.kv_heads, do_rotary=1,
        )  # fmt: skip
        rows = (graph.node("Transpose", [output], f"{output}/rows", perm=[0, 2, 1, 3]) for output in outputs[1:])
        keys, values = (self._stored(name) for name in rows)
        return outputs[0], keys, values

    def _last_keys_values(self, layer: str, normed: str) -> tuple[str, str]:
        k, v = self._projections(layer, normed, "kv")
        turned = self._graph.node(
            "RotaryEmbedding", [k, "position_0", "cos", "sin"], f"{k}/turned", domain=FUSED,
            num_heads=self._shape.kv_heads, rotary_embedding_dim=0,
        )  # fmt: skip
        return self._stored(turned), self._stored(v)

    def _projections(self, layer: str, normed: str, which: str) -> list[str]:
        """Queries, keys and values, or some of them, from one product."""
        names = [f"{layer}.attn_{letter}" for letter in which]
        biases = np.concatenate([self._source.values(f"{name}.bias") for name in names])
        joined = self._product(f"{layer}.attn_{which}", normed, names)
        joined = self._graph.node("Add", [joined, self._graph.constant(f"{joined}.bias", biases)], f"{joined}/biased")
        widths = [self._shape.width if letter == "q" else self._shape.kv_width for letter in which]
        sizes = self._graph.constant(f"{layer}/widths", np.array(widths, np.int64))
        self._graph.nodes("Split", [joined, sizes], names, axis=-1)
        return names

    def _stored(self, values: str) -> str:
        """[1, R, W] in the type of llama.cpp's cache."""
        rows = self._graph.node("Reshape", [values, "as_rows"], f"{values}/flat")
        return self._graph.node("Cast", [rows], f"{values}/half", to=TensorProto.FLOAT16)

    def _mlp(self, layer: str, normed: str) -> str:
        """SwiGLU: down(silu(gate) * up). The scale of the rows of `up` is put off to the narrow output."""
        gate, up, down = (f"{layer}.ffn_{name}" for name in ("gate", "up", "down"))
        unit, scale = self._unit_rows(normed)
        joined = self._weighted(f"{layer}.ffn_gate_up", unit, [gate, up])
        self._graph.nodes("Split", [joined], [f"{gate}/unit", f"{up}/unit"], axis=-1, num_outputs=2)
        opened = self._graph.node(
            "QuickGelu", [self._scaled(f"{gate}/unit", scale)], f"{gate}/silu", domain=FUSED, alpha=1.0
        )
        inner = self._graph.node("Mul", [opened, f"{up}/unit"], f"{layer}.ffn/inner")
        unit, inner_scale = self._unit_rows(inner)
        product = self._weighted(down, unit, [down])
        return self._scaled(self._scaled(product, inner_scale), scale)

    def _product(self, name: str, activation: str, weights: list[str] | None = None) -> str:
        unit, scale = self._unit_rows(activation)
        return self._scaled(self._weighted(name, unit, weights or [name]), scale)

    def _unit_rows(self, activation: str) -> tuple[str, str]:
        """Rows divided by their largest absolute value, and those values [1, R, 1]."""
        if self._exact:
            return activation, ""
        graph = self._graph
        highest = graph.node("ReduceMax", [activation, "last_axis"], f"{activation}/highest", keepdims=1)
        lowest = graph.node("ReduceMin", [activation, "last_axis"], f"{activation}/lowest", keepdims=1)
        below = graph.node("Neg", [lowest], f"{activation}/below")
        scale = graph.node("Max", [highest, below, "smallest"], f"{activation}/scale")
        return graph.node("Div", [activation, scale], f"{activation}/unit"), scale

    def _scaled(self, values: str, scale: str) -> str:
        return self._graph.node("Mul", [values, scale], f"{values}*{scale}") if scale else values

    def _weighted(self, name: str, activation: str, weights: list[str]) -> str:
        """One product with weights that stand side by side."""
        weight = np.concatenate([self._source.values(f"{w}.weight").T for w in weights], axis=1)
        if self._exact:
            return self._graph.node("MatMul", [activation, self._graph.constant(f"{name}.weight", weight)], name)
        return self._integer_product(name, activation, weight)

    def _integer_product(self, name: str, activation: str, weight: F32) -> str:
        packed = per_channel(weight)
        self._errors.append(weight_error(name, "INT8", weight, packed.restored()))
        graph = self._graph
        constants = [
            graph.constant(f"{name}.weight", packed.values),
            graph.constant(f"{name}.scale", packed.scales),
            graph.constant(f"{name}.zero", np.zeros(weight.shape[1], np.int8)),
        ]
        return graph.node("DynamicQuantizeMatMul", [activation, *constants], name, domain=FUSED)
