"""Prompts read by a graph of INT8 products instead of llama.cpp, where a bundle has one (`cpu-fast`, docs/speed.md).

On processors without matrix units that is about three times as fast. The graph gives the keys and values of each layer;
llama.cpp takes them over, reads the last row itself and writes the answer.
"""

from typing import Final

import numpy as np

from edge_runtime.bundle import PREFILL, PREFILL_ROWS, Bundle
from edge_runtime.encoders import Graph, open_graph
from edge_runtime.kv_state import F16
from edge_runtime.providers import CPU
from edge_runtime.records import F32

LEAST_ROWS: Final = 48  # fewer are read by llama.cpp as fast


class Prefill:
    """The prefill graph of a bundle, on the processor."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    @classmethod
    def open(cls, bundle: Bundle, *, n_threads: int | None = None) -> "Prefill | None":
        """Load it; None: the bundle has none.

        Args:
            bundle: An opened bundle.
            n_threads: Of its products; None: one per core.

        Raises:
            BundleInvalid: ONNX Runtime cannot load it.
        """
        return cls(open_graph(bundle, PREFILL, (CPU,), n_threads)) if bundle.has(PREFILL) else None

    def pays(self, rows: int) -> bool:
        """Whether so many rows are better read here."""
        return LEAST_ROWS <= rows <= PREFILL_ROWS

    def keys_values(self, rows: F32) -> F16:
        """What a decoder keeps of a prompt's first rows.

        Args:
            rows: float32 [R, D] embeddings, from position 0.

        Returns:
            float16 [2 L, R, W]: keys of layer 0, values of layer 0, keys of layer 1, ...

        Raises:
            InferenceError: ONNX Runtime failed.
        """
        return np.asarray(self._graph.run_as_is(np.ascontiguousarray(rows)), np.float16)
