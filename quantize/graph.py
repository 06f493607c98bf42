"""An encoder graph in hand: read with its external weights left on disk, edited, written whole.

Every quantization of an encoder starts from the same plain graph that `export` writes (only ai.onnx operators, nodes
and weights named after modules) and edits it here. This module knows ONNX files; it knows nothing of number formats.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from edge_runtime.errors import BundleInvalid
from edge_runtime.records import F32

# As in export: ONNX Runtime maps such files instead of copying them.
EXTERNAL_ABOVE_BYTES = 64 << 20
SMALLEST_EXTERNAL_BYTES = 1024  # smaller tensors stay in the graph: shapes and scales are looked at on loading
PAGE_BYTES = 4096
_OPERATOR = "/"  # a node is called `<module>/<operator>`


@dataclass(frozen=True)
class Linear:
    """A product of an activation [..., K] with a constant weight [K, N]."""

    name: str  # of the module: vision_model.encoder.layers.0.mlp.fc1
    node: str  # of the MatMul
    activation: str  # value name
    weight: str  # initializer name
    output: str  # value name
    rows: int  # K
    cols: int  # N


class Graph:
    """An ONNX graph that can be edited.

    Attributes:
        proto: The model; weights stored outside the file are not loaded into it.
    """

    def __init__(self, proto: onnx.ModelProto, folder: Path, name: str) -> None:
        self.proto = proto
        self.name = name  # of the file, for messages
        self._folder = folder
        self._tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
        self._rewrite_gemm()

    @classmethod
    def read(cls, path: Path) -> "Graph":
        """Read a graph, not its external weights.

        Raises:
            BundleInvalid: It is no ONNX file.
        """
        try:
            proto = onnx.load(path, load_external_data=False)
        except Exception as error:  # protobuf's own DecodeError is not a public class
            raise BundleInvalid(f"{path} is not an ONNX model ({error}); export the bundle again") from error
        return cls(proto, path.parent, path.name)

    # --- looking -----------------------------------------------------------------------------------

    @property
    def nodes(self) -> tuple[NodeProto, ...]:
        """All nodes, in the order they run."""
        return tuple(self.proto.graph.node)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the graph's inputs."""
        return tuple(value.name for value in self.proto.graph.input)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs."""
        return tuple(value.name for value in self.proto.graph.output)

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of all initializers."""
        return tuple(self._tensors)

    def is_constant(self, name: str) -> bool:
        """Whether a value is an initializer."""
        return name in self._tensors

    def is_float(self, name: str) -> bool:
        """Whether a value is a float32 initializer."""
        return name in self._tensors and self._tensors[name].data_type == TensorProto.FLOAT

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an initializer; no data is read."""
        return tuple(self._tensors[name].dims)

    def values(self, name: str) -> npt.NDArray[np.generic]:
        """An initializer's values, read from disk if they lie outside the file."""
        array: npt.NDArray[np.generic] = numpy_helper.to_array(self._tensors[name], base_dir=str(self._folder))
        return array

    def weights(self, name: str) -> F32:
        """A float32 initializer's values.

        Raises:
            BundleInvalid: It holds NaN or infinity; the tensor is named.
        """
        found = np.asarray(self.values(name), np.float32)
        if not np.isfinite(found).all():
            raise BundleInvalid(
                f"{self.name}: the weight {name!r} holds {int((~np.isfinite(found)).sum())} values that are no finite "
                "numbers. The checkpoint is damaged or diverged in training; export a good one."
            )
        return found

    def linears(self) -> tuple[Linear, ...]:
        """Every product with a constant matrix, in the order they run."""
        return tuple(self._linears())

    def _linears(self) -> Iterator[Linear]:
        for node in self.proto.graph.node:
            if node.op_type != "MatMul" or not self.is_float(node.input[1]):
                continue
            shape = self.shape(node.input[1])
            if len(shape) == 2 and not self.is_constant(node.input[0]):
                yield Linear(
                    name=node.name.rpartition(_OPERATOR)[0] or node.name,
                    node=node.name,
                    activation=node.input[0],
                    weight=node.input[1],
                    output=node.output[0],
                    rows=shape[0],
                    cols=shape[1],
                )

    def consumers(self, value: str) -> tuple[NodeProto, ...]:
        """Nodes that read a value."""
        return tuple(node for node in self.proto.graph.node if value in node.input)

    def producer(self, value: str) -> NodeProto | None:
        """The node that makes a value; None for inputs and initializers."""
        return next((node for node in self.proto.graph.node if value in node.output), None)

    # --- editing -----------------------------------------------------------------------------------

    def set_constant(self, name: str, values: npt.NDArray[np.generic]) -> str:
        """Add an initializer, or replace one; gives its name back."""
        tensor = numpy_helper.from_array(np.asarray(values, order="C"), name)
        if name in self._tensors:
            self._tensors[name].CopyFrom(tensor)
        else:
            self.proto.graph.initializer.append(tensor)
            self._tensors[name] = self.proto.graph.initializer[-1]
        return name

    def replace_nodes(self, replacements: Mapping[str, Sequence[NodeProto]]) -> None:
        """Put other nodes in the place of named ones, then forget initializers nobody reads."""
        kept: list[NodeProto] = []
        for node in self.proto.graph.node:
            kept += replacements.get(node.name, (node,))
        self.set_nodes(kept)

    def set_nodes(self, nodes: Iterable[NodeProto]) -> None:
        """Exchange all nodes, in the order they run, then forget initializers nobody reads."""
        held = [NodeProto.FromString(node.SerializeToString()) for node in nodes]  # clearing would empty ours too
        del self.proto.graph.node[:]
        self.proto.graph.node.extend(held)
        self._drop_unused()

    def add_domain(self, domain: str, version: int) -> None:
        """Declare an operator set beside ai.onnx."""
        if all(entry.domain != domain for entry in self.proto.opset_import):
            self.proto.opset_import.append(helper.make_opsetid(domain, version))

    def _drop_unused(self) -> None:
        read = {name for node in self.proto.graph.node for name in node.input} | set(self.outputs)
        initializers = self.proto.graph.initializer
        for index in reversed(range(len(initializers))):
            if initializers[index].name not in read:
                self._tensors.pop(initializers[index].name)
                del initializers[index]

    def _rewrite_gemm(self) -> None:
        """Gemm as MatMul and Add: quantizers and the weight-only kernels know products only."""
        made = {node.name: tuple(self._product(node)) for node in self.nodes if self._is_plain_gemm(node)}
        if made:
            self.replace_nodes(made)

    def _is_plain_gemm(self, node: NodeProto) -> bool:
        return node.op_type == "Gemm" and self.is_float(node.input[1]) and not _attribute(node, "transA", 0)

    def _product(self, node: NodeProto) -> Iterator[NodeProto]:
        weight = self.weights(node.input[1])
        turned = weight.T if _attribute(node, "transB", 0) else weight
        scaled = np.float32(_attribute(node, "alpha", 1.0)) * turned
        right = self.set_constant(f"{node.name}/weight", scaled)
        if len(node.input) < 3:
            yield helper.make_node("MatMul", [node.input[0], right], list(node.output), name=node.name)
            return
        bias = np.float32(_attribute(node, "beta", 1.0)) * self.weights(node.input[2])
        inner = f"{node.name}/MatMul"
        yield helper.make_node("MatMul", [node.input[0], right], [inner], name=inner)
        added = self.set_constant(f"{node.name}/bias", bias)
        yield helper.make_node("Add", [inner, added], list(node.output), name=node.name)

    # --- writing -----------------------------------------------------------------------------------

    def write(self, path: Path, *, external_above_bytes: int = EXTERNAL_ABOVE_BYTES) -> None:
        """Write the graph, its weights beside it as `<name>.onnx.data` if they are large.

        Weights that lie outside are copied one at a time; none stays in memory.

        Raises:
            OSError: The disk is full or not writable.
        """
        tensors = self.proto.graph.initializer
        external = sum(map(_stored_bytes, tensors)) > external_above_bytes
        model = self._without_weights()
        with ExitStack() as stack:
            data = stack.enter_context(path.with_name(f"{path.name}.data").open("wb")) if external else None
            for tensor in tensors:
                whole = TensorProto()
                whole.CopyFrom(tensor)
                if uses_external_data(whole):
                    load_external_data_for_tensor(whole, str(self._folder))
                    whole.data_location = TensorProto.DEFAULT
                    del whole.external_data[:]
                if data is not None and len(whole.raw_data) >= SMALLEST_EXTERNAL_BYTES:
                    _move_out(whole, data, f"{path.name}.data")
                model.graph.initializer.append(whole)
        path.write_bytes(model.SerializeToString(deterministic=True))

    def copy(self) -> "Graph":
        """An independent graph; weights outside the file are shared, nobody changes those."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        return Graph(proto, self._folder, self.name)

    def _without_weights(self) -> onnx.ModelProto:
        """The model with everything but its initializers."""
        source, model = self.proto, onnx.ModelProto()
        model.ir_version, model.producer_name = source.ir_version, source.producer_name
        model.opset_import.extend(source.opset_import)
        model.graph.name = source.graph.name
        model.graph.node.extend(source.graph.node)
        model.graph.input.extend(source.graph.input)
        model.graph.output.extend(source.graph.output)
        return model


def _stored_bytes(tensor: TensorProto) -> int:
    if not uses_external_data(tensor):
        return len(tensor.raw_data)
    return next((int(entry.value) for entry in tensor.external_data if entry.key == "length"), 0)


def _move_out(tensor: TensorProto, data: BinaryIO, location: str) -> None:
    """Append a tensor's bytes to the data file and leave a pointer; page-aligned, so that they can be mapped."""
    data.write(b"\0" * (-data.tell() % PAGE_BYTES))
    place = {"location": location, "offset": str(data.tell()), "length": str(len(tensor.raw_data))}
    data.write(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in place.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def _attribute(node: NodeProto, name: str, default: float) -> float:
    found = next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)
    return float(found)
