"""The decoder's way into the bundle: a Hugging Face Qwen2 folder becomes one GGUF file for llama.cpp.

Weights are written as F32 or F16, one tensor in memory at a time; norms and biases always stay F32. No
torch is needed. Quantized types are made from this file later (`quantize`), never here.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from gguf import MODEL_ARCH, GGUFWriter, LlamaFileType, get_tensor_name_map

from edge_runtime.errors import CheckpointError
from edge_runtime.manifest import context_limit
from edge_runtime.records import F32
from export.gguf_vocabulary import Vocabulary, read_vocabulary
from export.tensor_folder import TensorFolder
from hardware.storage import whole_file

WeightType = Literal["f16", "f32"]
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
FILE_TYPES = {"f32": LlamaFileType.ALL_F32, "f16": LlamaFileType.MOSTLY_F16}


@dataclass(frozen=True)
class GgufSummary:
    """What was written, for the manifest and the log."""

    path: Path
    bytes: int
    dtype: WeightType
    n_layers: int
    hidden: int
    n_heads: int
    n_kv_heads: int
    context_length: int
    vocab_size: int
    tied: bool
    rows_in_file: int  # embedding rows of the checkpoint
    rows_dropped: int  # beyond the tokenizer
    rows_added: int  # tokenizer entries without a row: the mean row stands in
    bos_id: int | None
    eos_id: int
    pad_id: int | None
    chat_template: str | None
    normalizer: str | None  # text normalisation the tokenizer wants before llama.cpp sees the text


@dataclass(frozen=True)
class Qwen2Shape:
    """The numbers of `llm/config.json` that the decoder is built from."""

    n_layers: int
    hidden: int
    mlp: int
    n_heads: int
    n_kv_heads: int
    rope_theta: float
    rms_eps: float
    max_positions: int
    tied: bool

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.hidden // self.n_heads


@dataclass(frozen=True)
class _Entry:
    """One tensor of the output file and how to get it."""

    name: str
    shape: tuple[int, ...]
    dtype: npt.DTypeLike
    load: Callable[[], F32]


def write_gguf(llm_folder: Path, out: Path, dtype: WeightType, *, ensure_tokens: Sequence[str] = ()) -> GgufSummary:
    """Convert a Qwen2 folder (config, safetensors, tokenizer) to one GGUF file.

    Rows of the embedding beyond the tokenizer are dropped, as the reference does on load. A tokenizer
    entry without a row gets the mean row (the centre of the reference's random fill): it counts as an
    output candidate only. A tied model gets no output tensor; llama.cpp then uses the embedding.

    Args:
        llm_folder: the checkpoint's `llm/`.
        out: file to write; appears whole or not at all.
        dtype: storage of the weight matrices.
        ensure_tokens: special tokens to append where the tokenizer lacks them, in order.

    Raises:
        CheckpointError: the folder is incomplete, contradicts itself, or llama.cpp could not reproduce it.
        StorageError: the file cannot be written.
    """
    if dtype not in FILE_TYPES:
        raise CheckpointError(f"Asked for GGUF type {dtype!r}; available here: {sorted(FILE_TYPES)}.")
    vocabulary = read_vocabulary(llm_folder, ensure_tokens)
    shape = read_shape(llm_folder)
    context = context_limit(vocabulary.max_length, shape.max_positions)
    with TensorFolder(llm_folder) as tensors:
        _check_head(tensors, shape)
        rows = tensors.shape(EMBEDDING)[0]
        entries = _entries(tensors, shape, len(vocabulary), dtype)
        with whole_file(out) as temporary:
            _write(temporary, entries, _metadata_writer(shape, vocabulary, context, dtype))
    return _summary(out, dtype, shape, context, vocabulary, rows)


def read_shape(llm_folder: Path) -> Qwen2Shape:
    """Read `config.json` and refuse what llama.cpp's qwen2 graph does not compute.

    Raises:
        CheckpointError: not a plain Qwen2, or a number is missing.
    """
    path = llm_folder / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        shape = Qwen2Shape(
            n_layers=int(config["num_hidden_layers"]),
            hidden=int(config["hidden_size"]),
            mlp=int(config["intermediate_size"]),
            n_heads=int(config["num_attention_heads"]),
            n_kv_heads=int(config["num_key_value_heads"]),
            rope_theta=float(config.get("rope_theta") or rope["rope_theta"]),
            rms_eps=float(config["rms_norm_eps"]),
            max_positions=int(config["max_position_embeddings"]),
            tied=bool(config.get("tie_word_embeddings", False)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is no Qwen2 config: {error!r}") from error
    _check_config(path, config, rope, shape)
    return shape


def _check_config(path: Path, config: dict[str, Any], rope: dict[str, Any], shape: Qwen2Shape) -> None:
    refusals = {
        f"model_type {config.get('model_type')!r} instead of 'qwen2'": config.get("model_type") != "qwen2",
        f"hidden_act {config.get('hidden_act')!r} instead of 'silu'": config.get("hidden_act") != "silu",
        "a sliding window": bool(config.get("use_sliding_window")),
        f"scaled rotary positions {rope}": rope.get("rope_type", rope.get("type", "default")) != "default",
        f"{shape.hidden} channels in {shape.n_heads} heads": shape.hidden % shape.n_heads != 0,
        f"an odd head width {shape.head_dim}": shape.head_dim % 2 != 0,
        f"{shape.n_heads} heads on {shape.n_kv_heads} keys": shape.n_heads % shape.n_kv_heads != 0,
        f"head_dim {config.get('head_dim')}": config.get("head_dim") not in (None, shape.head_dim),
    }
    found = [reason for reason, refused in refusals.items() if refused]
    if found:
        raise CheckpointError(f"{path} asks for {', '.join(found)}: not the Qwen2 this exporter knows.")


def _check_head(tensors: TensorFolder, shape: Qwen2Shape) -> None:
    if not shape.tied or HEAD not in tensors:
        return
    if not np.array_equal(tensors.float32(HEAD), tensors.float32(EMBEDDING)):
        raise CheckpointError(
            f"{tensors.folder}: the config ties the output head to the embedding, but {HEAD} differs from "
            f"{EMBEDDING}. Loaders disagree on which one counts: drop one, or untie them in config.json."
        )


def _entries(tensors: TensorFolder, shape: Qwen2Shape, vocab_size: int, dtype: WeightType) -> list[_Entry]:
    """Every tensor of the output file, in llama.cpp's order and with its names."""
    names = get_tensor_name_map(MODEL_ARCH.QWEN2, shape.n_layers)
    matrix_type = np.float16 if dtype == "f16" else np.float32
    entries = []
    for source, expected in _expected_shapes(shape, vocab_size).items():
        target = names.get_name(source, try_suffixes=(".weight", ".bias"))
        assert target is not None, source
        if source in (EMBEDDING, HEAD):
            load = _vocabulary_rows(tensors, source, expected)
        else:
            load = _plain(tensors, source, expected)
        entries.append(_Entry(target, expected, matrix_type if len(expected) > 1 else np.float32, load))
    return entries


def _expected_shapes(shape: Qwen2Shape, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """Tensor name in the checkpoint -> shape in the output file."""
    hidden, mlp, kv = shape.hidden, shape.mlp, shape.n_kv_heads * shape.head_dim
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (hidden, hidden),
        "self_attn.q_proj.bias": (hidden,),
        "self_attn.k_proj.weight": (kv, hidden),
        "self_attn.k_proj.bias": (kv,),
        "self_attn.v_proj.weight": (kv, hidden),
        "self_attn.v_proj.bias": (kv,),
        "self_attn.o_proj.weight": (hidden, hidden),
        "post_attention_layernorm.weight": (hidden,),
        "mlp.gate_proj.weight": (mlp, hidden),
        "mlp.up_proj.weight": (mlp, hidden),
        "mlp.down_proj.weight": (hidden, mlp),
    }
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (vocab_size, hidden)}
    for index in range(shape.n_layers):
        shapes |= {f"model.layers.{index}.{name}": dims for name, dims in layer.items()}
    shapes["model.norm.weight"] = (hidden,)
    if not shape.tied:
        shapes[HEAD] = (vocab_size, hidden)
    return shapes


def _plain(tensors: TensorFolder, name: str, expected: tuple[int, ...]) -> Callable[[], F32]:
    found = tensors.shape(name)
    if found != expected:
        raise CheckpointError(f"{tensors.folder}: {name} has shape {found}; its config says {expected}.")
    return lambda: tensors.float32(name)


def _vocabulary_rows(tensors: TensorFolder, name: str, expected: tuple[int, ...]) -> Callable[[], F32]:
    """Exactly as many rows as the tokenizer has entries: cut, or filled with the mean row."""
    found = tensors.shape(name)
    if len(found) != len(expected) or found[1] != expected[1] or found[0] == 0:
        raise CheckpointError(f"{tensors.folder}: {name} has shape {found}; expected rows of {expected[1]}.")

    def load() -> F32:
        rows = tensors.float32(name)
        missing = expected[0] - rows.shape[0]
        if missing <= 0:
            return rows[: expected[0]]
        mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        return np.concatenate([rows, np.tile(mean, (missing, 1))])

    return load


def _metadata_writer(
    shape: Qwen2Shape, vocabulary: Vocabulary, context: int, dtype: WeightType
) -> Callable[[GGUFWriter], None]:
    def add(writer: GGUFWriter) -> None:
        writer.add_file_type(FILE_TYPES[dtype])
        writer.add_block_count(shape.n_layers)
        writer.add_context_length(context)
        writer.add_embedding_length(shape.hidden)
        writer.add_feed_forward_length(shape.mlp)
        writer.add_head_count(shape.n_heads)
        writer.add_head_count_kv(shape.n_kv_heads)
        writer.add_rope_freq_base(shape.rope_theta)
        writer.add_layer_norm_rms_eps(shape.rms_eps)
        _add_vocabulary(writer, vocabulary)

    return add


def _add_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_eos_token_id(vocabulary.eos_id)
    if vocabulary.bos_id is not None:
        writer.add_bos_token_id(vocabulary.bos_id)
    if vocabulary.pad_id is not None:
        writer.add_pad_token_id(vocabulary.pad_id)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    if vocabulary.chat_template is not None:
        writer.add_chat_template(vocabulary.chat_template)


def _write(path: Path, entries: Sequence[_Entry], add_metadata: Callable[[GGUFWriter], None]) -> None:
    """Header and tensor table first, then one tensor after the other, so that 8B fits in little memory."""
    writer = GGUFWriter(path, "qwen2")
    try:
        add_metadata(writer)
        for entry in entries:
            size = int(np.prod(entry.shape)) * np.dtype(entry.dtype).itemsize
            writer.add_tensor_info(entry.name, entry.shape, np.dtype(entry.dtype), size)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for entry in entries:
            writer.write_tensor_data(_stored(entry))
        writer.flush()
    finally:
        writer.close()


def _stored(entry: _Entry) -> npt.NDArray[Any]:
    with np.errstate(over="ignore"):  # an overflow is reported by name below
        stored = np.ascontiguousarray(entry.load().astype(entry.dtype))
    if not np.isfinite(stored).all():
        raise CheckpointError(f"{entry.name} holds values beyond float16 (65504). Export with dtype f32.")
    return stored


def _summary(
    out: Path, dtype: WeightType, shape: Qwen2Shape, context: int, vocabulary: Vocabulary, rows: int
) -> GgufSummary:
    size = len(vocabulary)
    return GgufSummary(
        path=out,
        bytes=out.stat().st_size,
        dtype=dtype,
        n_layers=shape.n_layers,
        hidden=shape.hidden,
        n_heads=shape.n_heads,
        n_kv_heads=shape.n_kv_heads,
        context_length=context,
        vocab_size=size,
        tied=shape.tied,
        rows_in_file=rows,
        rows_dropped=max(0, rows - size),
        rows_added=max(0, size - rows),
        bos_id=vocabulary.bos_id,
        eos_id=vocabulary.eos_id,
        pad_id=vocabulary.pad_id,
        chat_template=vocabulary.chat_template,
        normalizer=vocabulary.normalizer,
    )
