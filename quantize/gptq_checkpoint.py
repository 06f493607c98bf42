"""GPTQ checkpoints of others (AutoGPTQ, GPTQModel): 4-bit weights out of safetensors, onto the grids of GGUF.

    <layer>.qweight  int32 [K / 8, N]   eight q of one output per word, lowest bits first
    <layer>.qzeros   int32 [K / g, N / 8]  zero points likewise; the older format stores them less one
    <layer>.scales   float16 [K / g, N]
    <layer>.g_idx    int32 [K]          group of each input; in rising order unless act-order moved them

A value is scale * (q - zero). With zero 8 that is Q4_0; any other zero is Q4_1, if -scale * zero is a float16. Nothing
is rounded on the way: what does not fit exactly is refused. Groups of 64 or 128 become blocks of 32 with equal scales.

Source: AutoGPTQ and GPTQModel, their on-disk format (checkpoint_format "gptq" and "gptq_v2").
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from gguf import MODEL_ARCH, get_tensor_name_map
from safetensors import SafetensorError, safe_open

from edge_runtime.errors import CheckpointError
from edge_runtime.records import F32, U8
from quantize.int4 import F16, GGUF_BLOCK, pack_q4_0, pack_q4_1

_CONFIGS: Final = ("quantize_config.json", "config.json")
_PER_WORD: Final = 8
_BITS: Final = 4
_PARTS: Final = ("qweight", "qzeros", "scales")


@dataclass(frozen=True)
class GptqSettings:
    """What the checkpoint says of itself."""

    group_size: int  # -1: one group per output
    stores_zeros_less_one: bool


@dataclass(frozen=True)
class PackedWeight:
    """A weight as GGUF stores it."""

    name: str  # GGUF tensor
    type: str  # Q4_0 or Q4_1
    rows: U8  # packed
    values: F32  # what it stands for, [N, K]


def read_settings(folder: Path) -> GptqSettings:
    """Read how a checkpoint was quantized.

    Raises:
        CheckpointError: It is no GPTQ checkpoint, or not one of 4 bits in groups that 32 divides.
    """
    found = _config(folder)
    bits, group = found.get("bits"), found.get("group_size")
    if bits != _BITS:
        raise CheckpointError(f"{folder} holds {bits}-bit weights; GGUF has an equal grid for 4-bit ones only")
    if not isinstance(group, int) or (group != -1 and (group < 1 or group % GGUF_BLOCK)):
        raise CheckpointError(
            f"{folder} has groups of {group}; GGUF has one scale for every {GGUF_BLOCK} values, so groups must be "
            f"multiples of {GGUF_BLOCK}. Quantize the bundle with recipe cpu-int4 instead."
        )
    return GptqSettings(group, stores_zeros_less_one=found.get("checkpoint_format", "gptq") != "gptq_v2")


def read_weights(folder: Path, layers: int) -> Iterator[PackedWeight]:
    """Every quantized weight of a checkpoint, packed for GGUF, one at a time.

    Args:
        folder: With safetensors files and a config.
        layers: Of the decoder.

    Raises:
        CheckpointError: A tensor is missing, does not fit, or cannot be stored without loss.
    """
    settings = read_settings(folder)
    places = _places(folder)
    names = sorted(name.removesuffix(".qweight") for name in places if name.endswith(".qweight"))
    if not names:
        raise CheckpointError(f"{folder} holds no .qweight tensor: it is no GPTQ checkpoint")
    known = get_tensor_name_map(MODEL_ARCH.QWEN2, layers)
    for name in names:
        target = known.get_name(f"{name.removeprefix('llm.')}.weight", try_suffixes=(".weight",))
        if target is None:
            raise CheckpointError(f"{folder}: {name!r} is no weight of a Qwen2 decoder of {layers} layers")
        parts = {part: _tensor(places, f"{name}.{part}") for part in _PARTS}
        order = _tensor(places, f"{name}.g_idx") if f"{name}.g_idx" in places else None
        yield _packed(name, target, parts, order, settings)


# --- one weight -----------------------------------------------------------------------------------------


def _packed(
    name: str, target: str, parts: Mapping[str, Any], order: Any | None, settings: GptqSettings
) -> PackedWeight:
    q = _unpacked_down(parts["qweight"])  # [K, N]
    scales, zeros = parts["scales"], _unpacked_across(parts["qzeros"])
    cols, rows = q.shape
    group = cols if settings.group_size == -1 else settings.group_size
    if cols % GGUF_BLOCK or scales.shape != (-(-cols // group), rows) or zeros.shape != scales.shape:
        raise CheckpointError(
            f"{name}: qweight {list(q.shape)}, scales {list(scales.shape)} and qzeros {list(zeros.shape)} do not fit "
            f"groups of {group} and blocks of {GGUF_BLOCK}"
        )
    if order is not None and not np.array_equal(order, np.arange(cols) // group):
        raise CheckpointError(
            f"{name} was quantized with act-order, which moves inputs between groups; blocks of GGUF are neighbours. "
            "Quantize again with desc_act=False or static_groups=True, or use recipe cpu-int4."
        )
    if settings.stores_zeros_less_one:
        zeros = zeros + 1
    per_block = group // GGUF_BLOCK
    blocks = np.ascontiguousarray(q.T).reshape(rows, -1, GGUF_BLOCK)
    d, z = (np.repeat(array.T, per_block, axis=1)[:, : cols // GGUF_BLOCK] for array in (scales, zeros))
    values = ((blocks.astype(np.float32) - z[..., None]) * d.astype(np.float32)[..., None]).reshape(rows, cols)
    if (z == 1 << (_BITS - 1)).all():
        return PackedWeight(target, "Q4_0", pack_q4_0(blocks, d.astype(np.float32)), values)
    return PackedWeight(target, "Q4_1", pack_q4_1(blocks, d, _minima(name, d, z)), values)


def _minima(name: str, d: F16, zeros: npt.NDArray[np.int64]) -> F16:
    """-scale * zero as float16, if that is exact."""
    exact = -d.astype(np.float64) * zeros
    half: F16 = exact.astype(np.float16)
    if (lost := int((half.astype(np.float64) != exact).sum())) > 0:
        raise CheckpointError(
            f"{name} is asymmetric, and {lost} of its {half.size} blocks have an offset that is no float16: Q4_1 would "
            "change them. Quantize symmetrically (sym=True), or use recipe cpu-int4 on the full-precision bundle."
        )
    return half


def _unpacked_down(words: npt.NDArray[np.int32]) -> U8:
    """int32 [K / 8, N] to q uint8 [K, N]."""
    shifts = np.arange(0, 32, _BITS, dtype=np.uint32)[None, :, None]
    nibbles = (words.view(np.uint32)[:, None, :] >> shifts) & np.uint32(15)
    q: U8 = nibbles.reshape(-1, words.shape[1]).astype(np.uint8)
    return q


def _unpacked_across(words: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """int32 [G, N / 8] to zero points [G, N]."""
    shifts = np.arange(0, 32, _BITS, dtype=np.uint32)
    nibbles = (words.view(np.uint32)[:, :, None] >> shifts) & np.uint32(15)
    zeros: npt.NDArray[np.int64] = nibbles.reshape(len(words), -1).astype(np.int64)
    return zeros


# --- files ----------------------------------------------------------------------------------------------


def _config(folder: Path) -> dict[str, Any]:
    for file in _CONFIGS:
        try:
            found = json.loads((folder / file).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise CheckpointError(f"cannot read {folder / file}: {error}") from error
        settings = found.get("quantization_config", found) if isinstance(found, dict) else {}
        if isinstance(settings, dict) and "bits" in settings:
            return settings
    raise CheckpointError(
        f"{folder} is no GPTQ checkpoint: neither quantize_config.json nor a quantization_config in config.json"
    )


def _places(folder: Path) -> dict[str, Path]:
    """Tensor name -> file."""
    return {name: file for file in sorted(folder.glob("*.safetensors")) for name in _names(file)}


def _names(file: Path) -> list[str]:
    try:
        with safe_open(file, framework="np") as tensors:
            return list(tensors.keys())
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} is damaged ({error}); copy the checkpoint again") from error


def _tensor(places: Mapping[str, Path], name: str) -> Any:
    if name not in places:
        raise CheckpointError(f"the GPTQ checkpoint lacks the tensor {name!r}")
    try:
        with safe_open(places[name], framework="np") as tensors:
            found = tensors.get_tensor(name)
    except (OSError, SafetensorError, TypeError) as error:
        raise CheckpointError(f"{places[name]}: the tensor {name!r} cannot be read: {error}") from error
    wanted = np.float16 if name.endswith(".scales") else np.int32
    if found.dtype != wanted:
        raise CheckpointError(f"{name!r} is {found.dtype}; a GPTQ checkpoint has {np.dtype(wanted)} there")
    return found
