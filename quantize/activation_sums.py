"""What the decoder's weights are multiplied with, summed while llama.cpp evaluates calibration prompts.

Per input channel the sum of squares (the importance matrix), and for chosen weights the whole sum of outer products
(the Hessian that GPTQ needs). Weights that read the same activation share its sums.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from edge_runtime.records import F32, F64
from quantize.ggml_tensor import Product
from quantize.imatrix import ChannelSums, Imatrix
from quantize.prompts import CalibrationPrompt, most_rows
from quantize.ranges import require_finite
from quantize.watched_decoder import WatchedDecoder

HESSIAN_BYTES: Final = 2 << 30  # kept at once; more weights than fit are looked at in further passes


@dataclass
class InputSums:
    """Of one activation [rows, K]."""

    squares: F64  # [K]
    rows: int = 0
    hessian: F32 | None = None  # [K, K] sum of outer products; None: not wanted

    def add(self, values: F32, name: str) -> None:
        """Take in the rows of one evaluation.

        Raises:
            DataError: NaN or infinity among them; the tensor is named.
        """
        squares = np.square(values, dtype=np.float64).sum(axis=0)
        require_finite(float(squares.max(initial=0.0)), name)
        self.squares += squares
        self.rows += len(values)
        if self.hessian is not None:
            self.hessian += values.T @ values


@dataclass
class ActivationSums:
    """Sums of every activation that a weight reads."""

    hessians_for: frozenset[str] = frozenset()  # activations
    inputs: dict[str, InputSums] = field(default_factory=dict)
    reads: dict[str, str] = field(default_factory=dict)  # weight -> activation
    _owner: dict[str, str] = field(default_factory=dict)  # activation -> the one weight at whose product it is summed

    def wants(self, product: Product) -> bool:
        """Note who reads what; an activation is looked at once, at its first reader."""
        name = product.input or product.weight
        self.reads[product.weight] = name
        return self._owner.setdefault(name, product.weight) == product.weight

    def take(self, product: Product, values: F32) -> None:
        """Sum an activation."""
        name = self.reads[product.weight]
        if name not in self.inputs:
            wanted = name in self.hessians_for
            hessian = np.zeros((product.width, product.width), np.float32) if wanted else None
            self.inputs[name] = InputSums(np.zeros(product.width, np.float64), hessian=hessian)
        self.inputs[name].add(values, f"{name} (read by {product.weight})")

    def channel_sums(self) -> dict[str, ChannelSums]:
        """Sums of squares by weight."""
        sums = {weight: self.inputs[name] for weight, name in sorted(self.reads.items())}
        return {weight: ChannelSums(found.squares, float(found.rows)) for weight, found in sums.items()}

    def hessian(self, weight: str) -> F32:
        """The sum of outer products of a weight's input, float32 [K, K]."""
        found = self.inputs[self.reads[weight]].hessian
        assert found is not None, f"no Hessian was asked for {weight}"
        return found


def collect(
    gguf: Path, prompts: Sequence[CalibrationPrompt], *, hessians_for: frozenset[str] = frozenset()
) -> ActivationSums:
    """Evaluate prompts with their answers and sum what the weights read.

    Args:
        gguf: The decoder, in F16 or F32.
        prompts: Text and embeddings as the robot feeds them.
        hessians_for: Activations whose outer products are summed too.

    Raises:
        DataError: An activation overflows; the tensor is named.
        InferenceError: llama.cpp failed, or cannot be watched.
    """
    sums = ActivationSums(hessians_for)
    with WatchedDecoder(gguf, capacity=most_rows(prompts), wants=sums.wants, takes=sums.take) as decoder:
        for prompt in prompts:
            decoder.evaluate(prompt.segments, prompt.answer_ids)
    return sums


def imatrix_of(sums: ActivationSums, prompts: Sequence[CalibrationPrompt], source: str) -> Imatrix:
    """The importance matrix of what was summed."""
    rows = sum(prompt.rows for prompt in prompts) // len(prompts)
    return Imatrix(sums.channel_sums(), datasets=(source,), chunks=len(prompts), chunk_rows=rows)


def hessian_passes(
    sums: ActivationSums, weights: Iterable[str], limit_bytes: int = HESSIAN_BYTES
) -> Iterator[Mapping[str, str]]:
    """Weights in groups whose Hessians fit into memory together, as weight -> activation.

    Args:
        sums: Of a first look, which knows who reads what.
        weights: Those that need a Hessian, in the order of the file.
        limit_bytes: Of all Hessians of a group; one that is larger alone gets a group of its own.
    """
    group: dict[str, str] = {}
    held: dict[str, int] = {}
    for weight in weights:
        name = sums.reads[weight]
        size = 4 * len(sums.inputs[name].squares) ** 2
        if group and name not in held and sum(held.values()) + size > limit_bytes:
            yield group
            group, held = {}, {}
        group[weight], held[name] = name, size
    if group:
        yield group
