"""An ONNX graph written from nothing, one weight in memory at a time.

`graph.py` edits what `export` wrote; this is for graphs of ours. Weights go straight into `<name>.onnx.data`, each at
the start of a page, where ONNX Runtime maps them.
"""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from quantize.graph import PAGE_BYTES, SMALLEST_EXTERNAL_BYTES

FUSED = "com.microsoft"  # ONNX Runtime's own operators
OPSET = 20
IR_VERSION = 10


class GraphWriter:
    """A graph that grows node by node.

    Example:
        with GraphWriter(path) as graph:
            y = graph.node("MatMul", ["x", graph.constant("w", weight)], "y")
            graph.finish("name", [x_info], [y_info])
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._data = path.with_name(f"{path.name}.data").open("wb")

    def __enter__(self) -> "GraphWriter":
        """Return itself; leaving the block closes the data file."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the data file."""
        self._data.close()

    def constant(self, name: str, values: npt.NDArray[Any]) -> str:
        """Add a constant; gives its name. Small ones stay in the graph: shapes are looked at on loading."""
        tensor = TensorProto(name=name, dims=values.shape, data_type=helper.np_dtype_to_tensor_dtype(values.dtype))
        plain = np.ascontiguousarray(values)
        if plain.nbytes < SMALLEST_EXTERNAL_BYTES:
            tensor.raw_data = plain.tobytes()
        else:
            self._store(tensor, plain)
        self._constants[name] = tensor
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, *, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; gives the output's name."""
        self.nodes(kind, inputs, [output], domain=domain, **attributes)
        return output

    def nodes(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], *, domain: str = "", **attributes: Any
    ) -> None:
        """Add a node with several outputs; unwanted ones are called ''."""
        self._nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[-1], domain=domain, **attributes))

    def finish(self, name: str, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]) -> None:
        """Write the graph itself.

        Raises:
            OSError: Disk full or not writable.
        """
        graph = helper.make_graph(self._nodes, name, inputs, outputs, list(self._constants.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED, 1)]
        model: ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        self._data.flush()
        self._path.write_bytes(model.SerializeToString(deterministic=True))

    def _store(self, tensor: TensorProto, values: npt.NDArray[Any]) -> None:
        self._data.write(b"\0" * (-self._data.tell() % PAGE_BYTES))
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": Path(self._data.name).name, "offset": self._data.tell(), "length": values.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self._data.write(values.data)
