"""Recipes: named ways to make a bundle smaller, one frozen table, which a TOML file can extend.

A recipe says what becomes of the encoders and of the decoder, which machine it is for and how small the result will be.
`jetson-*` recipes hold only operators that TensorRT knows; operators for processors alone belong to `cpu-*` and
`smallest`.

    [recipe.my-robot]              # a TOML file for --recipes
    base = "jetson-8gb"            # whatever is not said is taken from there
    decoder = "Q5_K_M"
    max_tiles = 3
"""

import dataclasses
import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_type_hints

from edge_runtime.errors import ConfigError
from edge_runtime.manifest import MOST_TILES
from quantize.gguf_quants import DecoderType
from quantize.int4 import BLOCKS
from quantize.ranges import RangeMethod

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EncoderScheme = Literal["fp32", "fp16", "int8-dynamic", "int8-static", "int8-weights", "int4"]
Int4Method = Literal["nearest", "gptq"]
DecoderMethod = Literal["plain", "imatrix", "gptq"]

# Bytes of a graph after quantization over its bytes before, biases and scales included, for widths as in the models.
ENCODER_RATIO: Final[Mapping[EncoderScheme, float]] = {
    "fp32": 1.0, "fp16": 0.51, "int8-dynamic": 0.27, "int8-static": 0.27, "int8-weights": 0.27,
    "int4": 0.17,
}  # fmt: skip
DECODER_BITS: Final[Mapping[DecoderType, float]] = {
    "F16": 16.0, "Q8_0": 8.6, "Q6_K": 6.7, "Q5_K_M": 5.8, "Q4_K_M": 5.0, "Q4_0": 4.7, "IQ4_XS": 4.5,
}  # fmt: skip
PREFILL_BITS: Final = 8.1
# Kinds of decoder weights by their names in GGUF, and about which share of a Qwen2 decoder they are. `output` is the
# head, also where that is the embedding; both count half, as llama.cpp gives them more bits than the layers anyway.
DECODER_KINDS: Final[Mapping[str, float]] = {
    "attn_q": 0.05, "attn_k": 0.01, "attn_v": 0.01, "attn_output": 0.05, "ffn_gate": 0.24, "ffn_up": 0.24,
    "ffn_down": 0.24, "token_embd": 0.08, "output": 0.08,
}  # fmt: skip
# What decides where the model looks. Few bytes; on nano half of what INT4 adds to the answers comes from them.
LOOKING: Final = ("attn_q", "attn_k")
JETSON: Final = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")


@dataclass(frozen=True)
class Recipe:
    """One way to make a bundle smaller.

    Raises:
        ConfigError: Two settings contradict, or one is out of range.
    """

    name: str
    summary: str  # one line, for lists
    encoders: EncoderScheme
    decoder: DecoderType
    decoder_method: DecoderMethod = "plain"
    # kinds of decoder weights that are stored in Q8_0, whatever the type of the others
    decoder_q8: tuple[str, ...] = ()
    # static INT8: how the range of an activation is found, and whether SmoothQuant goes before
    ranges: RangeMethod = "minmax"
    smooth: bool = True
    # static INT8: signal-to-noise ratio that each graph's output must keep, in decibels; layers are left out for it
    budget_db: float = 20.0
    # INT4: values per scale, and whether rounding errors are compensated
    block: int = 32
    int4_method: Int4Method = "nearest"
    # whether processors read prompts with an INT8 copy of the decoder's layers: faster, and larger
    prefill: bool = False
    # tiles per picture; None: the parent's. Fewer are faster and see less detail
    max_tiles: int | None = None
    # execution providers the encoders are meant for, best first; empty: any
    providers: tuple[str, ...] = ()
    # golden values may be off by this share of their largest; beyond it the model is broken, not quantized
    worst_error: float = 0.5
    # whether the parent may already be quantized
    requantize: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.max_tiles is not None and not 1 <= self.max_tiles <= MOST_TILES:
            raise ConfigError(f"recipe {self.name!r}: max_tiles {self.max_tiles} is outside 1 to {MOST_TILES}")
        if self.decoder_method == "gptq" and self.decoder != "Q4_0":
            raise ConfigError(
                f"recipe {self.name!r}: GPTQ results are stored on the grid of Q4_0, not of {self.decoder}; set "
                'decoder = "Q4_0" or decoder_method = "imatrix"'
            )
        if unknown := sorted(set(self.decoder_q8) - set(DECODER_KINDS)):
            raise ConfigError(
                f"recipe {self.name!r}: decoder_q8 names {', '.join(unknown)}; a decoder has {', '.join(DECODER_KINDS)}"
            )
        if self.decoder_q8 and self.decoder == "F16":
            raise ConfigError(
                f"recipe {self.name!r}: decoder_q8 makes some weights finer than the others, and F16 is finer already; "
                "set decoder to a quantized type"
            )
        if self.prefill and self.for_tensorrt:
            raise ConfigError(
                f"recipe {self.name!r}: prefill is for processors, and {JETSON[0]} is among its providers, where the "
                "decoder runs on the GPU; leave prefill out, or the providers"
            )
        if self.block not in BLOCKS:
            raise ConfigError(f"recipe {self.name!r}: block {self.block} is none of {BLOCKS}")
        if not self.worst_error > 0.0:
            raise ConfigError(f"recipe {self.name!r}: worst_error {self.worst_error} must be positive")

    @property
    def watches_encoders(self) -> bool:
        """Whether it looks at what the encoders compute."""
        return self.encoders == "int8-static" or (self.encoders == "int4" and self.int4_method == "gptq")

    @property
    def for_tensorrt(self) -> bool:
        """Whether TensorRT is to build the encoders."""
        return JETSON[0] in self.providers


RECIPES: Final[tuple[Recipe, ...]] = (
    Recipe("fp16", "half precision everywhere; the reference on a GPU", "fp16", "F16", worst_error=0.05),
    Recipe("cpu-int8", "dynamic INT8 encoders for processors, Q8_0 decoder", "int8-dynamic", "Q8_0"),
    Recipe(
        "jetson-8gb", "static INT8 encoders for TensorRT, Q4_K_M decoder, one tile per picture", "int8-static",
        "Q4_K_M", "imatrix", max_tiles=1, providers=JETSON,
    ),
    Recipe(
        "jetson-16gb", "static INT8 encoders for TensorRT, Q5_K_M decoder, six tiles", "int8-static", "Q5_K_M",
        "imatrix", max_tiles=6, providers=JETSON,
    ),
    Recipe("jetson-64gb", "FP16 encoders, Q8_0 decoder, all tiles", "fp16", "Q8_0", providers=JETSON),
    Recipe(
        "cpu-int4", "dynamic INT8 encoders, Q4_0 decoder by GPTQ: the fast type on AMX and Arm", "int8-dynamic",
        "Q4_0", "gptq", (*LOOKING, "output"),
    ),
    Recipe(
        "cpu-fast", "as cpu-int4 with finer attention, and an INT8 copy of the decoder's layers that reads prompts "
        "three times as fast", "int8-dynamic", "Q4_0", "gptq", (*LOOKING, "attn_v", "attn_output", "output"),
        prefill=True,
    ),
    Recipe("smallest", "INT4 encoders and decoder, both by GPTQ", "int4", "Q4_0", "gptq", int4_method="gptq"),
)  # fmt: skip


def decoder_bits(recipe: Recipe) -> float:
    """About how many bits a weight of the decoder takes, in all copies of it."""
    own = DECODER_BITS[recipe.decoder]
    finer = sum(DECODER_KINDS[kind] for kind in recipe.decoder_q8) * max(0.0, DECODER_BITS["Q8_0"] - own)
    return own + finer + (PREFILL_BITS if recipe.prefill else 0.0)


def recipe_named(name: str, table: Sequence[Recipe] = RECIPES) -> Recipe:
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


def list_recipes(table: Sequence[Recipe]) -> str:
    """The table for people: what becomes of encoders and decoder, tiles, providers, and about how small."""
    lines = [f"{'recipe':<13}{'encoders':<14}{'decoder':<23}{'tiles':<7}{'encoders, decoder become':<27}for"]
    for recipe in table:
        decoder, tiles = _decoder_words(recipe), recipe.max_tiles or "all"
        size = f"{ENCODER_RATIO[recipe.encoders]:.0%} of FP32, {decoder_bits(recipe) / 16:.0%} of F16"
        lines.append(
            f"{recipe.name:<13}{recipe.encoders:<14}{decoder:<23}{tiles:<7}{size:<27}"
            f"{recipe.providers[0].removesuffix('ExecutionProvider') if recipe.providers else 'any'}: {recipe.summary}"
        )
    lines.append("auto         searches: --budget-mib N --max-shift-px P --calibration DATA")
    return "\n".join(lines) + "\n"


def _decoder_words(recipe: Recipe) -> str:
    types = f"{recipe.decoder}/Q8_0" if recipe.decoder_q8 else recipe.decoder
    method = "" if recipe.decoder_method == "plain" else f" {recipe.decoder_method}"
    return types + method + (" + INT8" if recipe.prefill else "")


def with_recipes_of(path: Path, table: Sequence[Recipe] = RECIPES) -> tuple[Recipe, ...]:
    """The table with the recipes of a TOML file added, or put in the place of those with the same name.

    Raises:
        ConfigError: Not TOML, or a recipe in it has an unknown key, a value of the wrong kind, or no known base.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8")).get("recipe")
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read recipes from {path}: {error}") from error
    if not isinstance(found, dict) or not found:
        raise ConfigError(f"{path} holds no [recipe.NAME] table")
    merged = {recipe.name: recipe for recipe in table}
    for name, settings in found.items():
        if not isinstance(settings, dict):
            raise ConfigError(f"{path}: recipe.{name} must be a table of settings")
        merged[name] = _merged(name, settings, tuple(merged.values()), path)
    return tuple(merged.values())


def _merged(name: str, settings: Mapping[str, Any], table: Sequence[Recipe], path: Path) -> Recipe:
    given = dict(settings)
    base = recipe_named(str(given.pop("base", "cpu-int8")), table)
    hints = get_type_hints(Recipe)
    known = sorted(set(hints) - {"name"})
    if unknown := sorted(set(given) - set(known)):
        raise ConfigError(f"{path}: recipe.{name} has unknown keys {unknown}; known are base, {', '.join(known)}")
    values = {key: _value(hints[key], value, f"{path}: recipe.{name}.{key}") for key, value in given.items()}
    return dataclasses.replace(base, **{"summary": f"{base.name}, changed by {path.name}", **values, "name": name})


def _value(expected: Any, value: Any, where: str) -> Any:
    """A TOML value as the type of a field."""
    if choices := _choices(expected):
        if value not in choices:
            raise ConfigError(f"{where} is {value!r}; possible are {', '.join(map(str, choices))}")
        return value
    if expected is float and type(value) is int:
        return float(value)
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value) and "tuple" in str(expected):
        return tuple(value)
    if type(value) in (expected, *(kind for kind in get_args(expected) if isinstance(kind, type))):
        return value
    raise ConfigError(f"{where} is {value!r}, which is not of the kind {getattr(expected, '__name__', expected)}")


def _choices(expected: Any) -> tuple[Any, ...]:
    arguments = get_args(expected)
    return arguments if arguments and all(isinstance(a, str) for a in arguments) else ()
