"""What a decoder costs per prompt and per token, counted from the list of its tensors.

    prefill   every matrix times every row of the prompt, the output head once, attention over half of all pairs
    decode    per token: every matrix and the head read once, and the keys and values of everything before

Letters: T rows of the prompt, D width, L layers.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gguf import GGUFReader

from bench.graph_costs import Precision
from bench.shapes import DecoderShape, DecoderType
from bench.synthetic_decoder import decoder_tensors
from edge_runtime.errors import BundleInvalid

_EMBEDDING, _HEAD = "token_embd.weight", "output.weight"
_KV_BYTES = 2  # the cache holds half-precision numbers
_WIDE = ("F32", "BF16")


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a decoder file."""

    name: str
    values: int
    bytes: int
    kind: str  # F16, Q4_0, ...


@dataclass(frozen=True)
class Work:
    """Something to compute: operations by precision, and bytes that must be read."""

    ops: Mapping[Precision, float]
    bytes: float


@dataclass(frozen=True)
class DecoderCost:
    """A decoder's sizes as its file has them."""

    layers: int
    width: int  # D
    kv_width: int  # of all keys of one row
    body: Mapping[Precision, float]  # values of the matrices of all layers
    body_bytes: float  # norms and biases included
    head: Mapping[Precision, float]  # values of the output head, which may be the embedding
    head_bytes: float

    def prefill(self, rows: int) -> Work:
        """A prompt of so many rows, read at once."""
        pairs = rows * (rows + 1) / 2
        return Work(
            ops=self._ops(body_rows=rows, head_rows=1, pairs=pairs),
            bytes=self.body_bytes + self.head_bytes + self._kv_bytes(rows),
        )

    def decode(self, rows_before: int, tokens: int) -> Work:
        """So many tokens, one after the other, behind a prompt."""
        steps = max(0, tokens - 1)  # the first token comes with the prefill
        seen = sum(rows_before + step for step in range(steps))
        return Work(
            ops=self._ops(body_rows=steps, head_rows=steps, pairs=seen),
            bytes=steps * (self.body_bytes + self.head_bytes) + self._kv_bytes(seen),
        )

    def _ops(self, *, body_rows: int, head_rows: int, pairs: float) -> dict[Precision, float]:
        """Products of so many rows; attention looks at so many pairs of rows."""
        ops: defaultdict[Precision, float] = defaultdict(float)
        for part, rows in ((self.body, body_rows), (self.head, head_rows)):
            for kind, values in part.items():
                ops[kind] += 2.0 * values * rows
        ops["fp16"] += 4.0 * pairs * self.width * self.layers
        return dict(ops)

    def _kv_bytes(self, rows: float) -> float:
        return 2.0 * rows * self.kv_width * self.layers * _KV_BYTES


def decoder_cost_of_file(path: Path) -> DecoderCost:
    """Count a bundle's decoder.

    Raises:
        BundleInvalid: It is no decoder of ours.
    """
    try:
        reader = GGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise BundleInvalid(f"{path} is not a GGUF model ({error}); export the bundle again") from error
    tensors = [StoredTensor(t.name, int(t.n_elements), int(t.n_bytes), t.tensor_type.name) for t in reader.tensors]
    sizes = {t.name: [int(n) for n in t.shape] for t in reader.tensors}
    return decoder_cost(tensors, {name: shape[0] if len(shape) == 1 else shape[1] for name, shape in sizes.items()})


def decoder_cost_of_shape(shape: DecoderShape, kind: DecoderType) -> DecoderCost:
    """Count a decoder that was not written."""
    made = decoder_tensors(shape, kind)
    tensors = [StoredTensor(t.name, _values(t.shape), t.stored_bytes, t.kind) for t in made]
    return decoder_cost(tensors, {t.name: t.shape[0] for t in made})


def decoder_cost(tensors: Iterable[StoredTensor], rows_of: Mapping[str, int]) -> DecoderCost:
    """Count a list of tensors.

    Args:
        tensors: All of the file.
        rows_of: Rows of each matrix, size of each vector.

    Raises:
        BundleInvalid: The list is not that of a Qwen2 decoder.
    """
    body: Counter[Precision] = Counter()
    head: Counter[Precision] = Counter()
    body_bytes = head_bytes = 0.0
    listed = {tensor.name: tensor for tensor in tensors}
    head_name = _HEAD if _HEAD in listed else _EMBEDDING
    for tensor in listed.values():
        if tensor.name == head_name:
            head[_precision(tensor.kind)] += tensor.values
            head_bytes += tensor.bytes
        elif tensor.name != _EMBEDDING:  # of an embedding only the rows of the prompt are read
            body_bytes += tensor.bytes
            if tensor.name.endswith(".weight") and "norm" not in tensor.name:
                body[_precision(tensor.kind)] += tensor.values
    try:
        layers = 1 + max(int(name.split(".")[1]) for name in listed if name.startswith("blk."))
        width, kv_width = rows_of["blk.0.attn_norm.weight"], rows_of["blk.0.attn_k.weight"]
    except (KeyError, ValueError) as error:
        raise BundleInvalid(f"this is no Qwen2 decoder: {error!r} is missing among {len(listed)} tensors") from error
    return DecoderCost(layers, width, kv_width, dict(body), body_bytes, dict(head), head_bytes)


def _precision(kind: str) -> Precision:
    """What a stored type is multiplied in at best: quantized weights are unpacked to half precision."""
    return "fp32" if kind in _WIDE else "fp16"


def _values(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
