"""Recipes: named ways to make a bundle smaller, one frozen table.

A recipe says what becomes of the encoders and of the decoder, which machine it is for and how small the result will be.
`jetson-*` recipes hold only operators that TensorRT knows; operators for processors alone belong to `cpu-*`.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from edge_runtime.errors import ConfigError
from quantize.gguf_quants import DecoderType

EncoderScheme = Literal["fp32", "fp16", "int8-dynamic"]

# Bytes of a weight after quantization over its bytes before, biases and scales included, for widths as in the models.
ENCODER_RATIO: Final[Mapping[EncoderScheme, float]] = {"fp32": 1.0, "fp16": 0.51, "int8-dynamic": 0.27}
DECODER_BITS: Final[Mapping[DecoderType, float]] = {
    "F16": 16.0, "Q8_0": 8.6, "Q6_K": 6.7, "Q5_K_M": 5.8, "Q4_K_M": 5.0, "Q4_0": 4.7, "IQ4_XS": 4.5,
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """One way to make a bundle smaller."""

    name: str
    summary: str  # one line, for lists
    encoders: EncoderScheme
    decoder: DecoderType
    # execution providers the encoders are meant for, best first; empty: any
    providers: tuple[str, ...] = ()
    # golden values may be off by this share of their largest; beyond it the model is broken, not quantized
    worst_error: float = 0.5
    # whether the parent may already be quantized
    requantize: bool = False


RECIPES: Final[tuple[Recipe, ...]] = (
    Recipe("fp16", "half precision everywhere; the reference on a GPU", "fp16", "F16", worst_error=0.05),
    Recipe("cpu-int8", "dynamic INT8 encoders for processors, Q8_0 decoder", "int8-dynamic", "Q8_0"),
)


def recipe_named(name: str, table: tuple[Recipe, ...] = RECIPES) -> Recipe:
    """Look a recipe up.

    Raises:
        ConfigError: There is none of that name; the nearest is suggested.
    """
    by_name = {recipe.name: recipe for recipe in table}
    if name in by_name:
        return by_name[name]
    near = difflib.get_close_matches(name, by_name, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"no recipe {name!r}{hint} There are: {', '.join(by_name)}.")
