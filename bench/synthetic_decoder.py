"""A Qwen2 decoder of the true shape with seeded random weights, as a GGUF file; needs the gguf package, no torch.

Tensors, names, order and metadata are those of an export; quantized types are laid out as llama.cpp's quantizer would
choose them. The vocabulary has the true size: our own byte-level tokens and merges, which read a prompt in about as
many tokens as the real ones, then fillers that no text becomes, then the special tokens at their true ids.
"""

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType

from bench.random_blocks import StorageType, random_matrix, row_bytes
from bench.shapes import DecoderShape, DecoderType
from hardware.storage import whole_file

STOP = "<|im_end|>"

_FILE_TYPES: Mapping[DecoderType, LlamaFileType] = {
    "f16": LlamaFileType.MOSTLY_F16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
    "q4_0": LlamaFileType.MOSTLY_Q4_0,
    "q4_k_m": LlamaFileType.MOSTLY_Q4_K_M,
}
_PLAIN: Mapping[DecoderType, StorageType] = {"f16": "F16", "q8_0": "Q8_0", "q4_0": "Q4_0", "q4_k_m": "Q4_K"}

# What layers add to the stream is kept small, or rounding grows through 28 random layers.
_RESIDUAL_GAIN = 0.13
_RESIDUAL_OUTPUTS = ("attn_output.weight", "ffn_down.weight")


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id."""

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    special: Mapping[str, int]

    def id_of(self, token: str) -> int:
        """Id of a token."""
        return self.special[token] if token in self.special else self.tokens.index(token)


@dataclass(frozen=True)
class DecoderTensor:
    """One tensor of the file."""

    name: str
    shape: tuple[int, ...]  # rows, width; or one size
    kind: StorageType

    @property
    def stored_bytes(self) -> int:
        """Size in the file."""
        rows = self.shape[0] if len(self.shape) == 2 else 1
        return rows * row_bytes(self.kind, self.shape[-1])


def read_vocabulary(path: Path, size: int) -> Vocabulary:
    """The committed vocabulary, filled up to a size.

    Args:
        path: Written by `python -m export.skeleton`.
        size: Number of tokens.

    Raises:
        ValueError: It is smaller than what is committed.
    """
    content = json.loads(gzip.decompress(path.read_bytes()))
    plain, special = list(content["tokens"]), list(content["special"])
    fillers = size - len(plain) - len(special)
    if fillers < 0:
        raise ValueError(f"a vocabulary of {size} is smaller than the {len(plain) + len(special)} tokens that must be")
    tokens = [*plain, *(f"filler{i}" for i in range(fillers)), *special]
    first = size - len(special)
    types = [TokenType.NORMAL] * first + [TokenType.CONTROL] * len(special)
    return Vocabulary(
        tokens=tuple(tokens),
        types=tuple(int(t) for t in types),
        merges=tuple(content["merges"]),
        special={name: first + i for i, name in enumerate(special)},
    )


def decoder_tensors(shape: DecoderShape, kind: DecoderType) -> list[DecoderTensor]:
    """Every tensor of the file in order, with its storage type."""
    return [DecoderTensor(name, dims, _storage(name, dims, shape, kind)) for name, dims in _tensor_shapes(shape)]


def decoder_bytes(shape: DecoderShape, kind: DecoderType) -> int:
    """Size of all its tensors.

    Raises:
        ValueError: A width is no multiple of the type's block.
    """
    return sum(tensor.stored_bytes for tensor in decoder_tensors(shape, kind))


def write_decoder(path: Path, shape: DecoderShape, kind: DecoderType, vocabulary: Vocabulary, *, seed: int) -> None:
    """Write the file, one tensor in memory at a time.

    Args:
        path: Appears whole or not at all.
        shape: Sizes.
        kind: What its matrices are stored as.
        vocabulary: As many tokens as the shape says.
        seed: Of the weights; each tensor has its own stream.

    Raises:
        StorageError: The disk is full or not writable.
    """
    tensors = decoder_tensors(shape, kind)
    silent = (vocabulary.special[STOP],)
    with whole_file(path) as partial:
        writer = GGUFWriter(partial, "qwen2")
        try:
            _add_metadata(writer, shape, kind, vocabulary)
            for tensor in tensors:
                _announce(writer, tensor)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for tensor in tensors:
                writer.write_tensor_data(_values(tensor, shape, seed, silent))
            writer.flush()
        finally:
            writer.close()


# --- which tensors, in which type ---------------------------------------------------------------------


def _tensor_shapes(shape: DecoderShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, mlp, kv = shape.width, shape.mlp, shape.kv_width
    yield "token_embd.weight", (shape.vocab_size, width)
    for layer in range(shape.layers):
        for name, dims in (
            ("attn_norm.weight", (width,)),
            ("attn_q.weight", (width, width)),
            ("attn_q.bias", (width,)),
            ("attn_k.weight", (kv, width)),
            ("attn_k.bias", (kv,)),
            ("attn_v.weight", (kv, width)),
            ("attn_v.bias", (kv,)),
            ("attn_output.weight", (width, width)),
            ("ffn_norm.weight", (width,)),
            ("ffn_gate.weight", (mlp, width)),
            ("ffn_up.weight", (mlp, width)),
            ("ffn_down.weight", (width, mlp)),
        ):
            yield f"blk.{layer}.{name}", dims
    yield "output_norm.weight", (width,)
    if not shape.tied:
        yield "output.weight", (shape.vocab_size, width)


def _storage(name: str, dims: tuple[int, ...], shape: DecoderShape, kind: DecoderType) -> StorageType:
    """The type that llama.cpp's quantizer gives a tensor."""
    if len(dims) == 1:
        return "F32"
    plain = _PLAIN[kind]
    if plain in ("F16", "Q8_0"):
        return plain
    is_head = name == "output.weight" or (shape.tied and name == "token_embd.weight")
    if is_head or (kind == "q4_k_m" and name.endswith(("attn_v.weight", "ffn_down.weight")) and _finer(name, shape)):
        return "Q6_K"
    return plain


def _finer(name: str, shape: DecoderShape) -> bool:
    """Whether a layer is one of those that Q4_K_M stores more finely: the first and last eighth, a third between."""
    layer, eighth = int(name.split(".")[1]), shape.layers // 8
    return layer < eighth or layer >= 7 * shape.layers // 8 or (layer - eighth) % 3 == 2


# --- writing ------------------------------------------------------------------------------------------


def _add_metadata(writer: GGUFWriter, shape: DecoderShape, kind: DecoderType, vocabulary: Vocabulary) -> None:
    writer.add_file_type(_FILE_TYPES[kind])
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context_tokens)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.mlp)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.rms_eps)
    if kind != "f16":
        writer.add_quantization_version(2)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_eos_token_id(vocabulary.special[STOP])
    writer.add_bos_token_id(vocabulary.special["[BOS]"])
    writer.add_pad_token_id(vocabulary.special["[PAD]"])
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)


def _announce(writer: GGUFWriter, tensor: DecoderTensor) -> None:
    if tensor.kind == "F32":
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.stored_bytes)
        return
    stored = (tensor.shape[0], row_bytes(tensor.kind, tensor.shape[1]))
    raw = GGMLQuantizationType[tensor.kind]
    writer.add_tensor_info(tensor.name, stored, np.dtype(np.uint8), tensor.stored_bytes, raw_dtype=raw)


def _values(tensor: DecoderTensor, shape: DecoderShape, seed: int, silent: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Scales at which no stage saturates and logits are told apart.

    The row of the stop token is zero: among many random logits it is never the largest, so an answer is exactly as
    long as was asked for.
    """
    digest = hashlib.sha256(f"{seed}/decoder/{tensor.name}".encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    if len(tensor.shape) == 1:
        centre = 1.0 if tensor.name.endswith("norm.weight") else 0.0
        return (centre + 0.1 * random.standard_normal(tensor.shape, np.float32)).astype(np.float32)
    rows, width = tensor.shape
    if tensor.name in ("token_embd.weight", "output.weight"):
        std, zero = 1.0, silent if shape.tied or tensor.name == "output.weight" else ()
        return random_matrix(tensor.kind, rows, width, std=std, random=random, zero_rows=zero)
    gain = _RESIDUAL_GAIN if tensor.name.endswith(_RESIDUAL_OUTPUTS) else 1.0
    return random_matrix(tensor.kind, rows, width, std=1.5 * gain / sqrt(width), random=random)
