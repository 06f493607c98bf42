"""The manifest of a bundle as typed records, and its strict reader.

A manifest is data: this module turns JSON into frozen records and says precisely what does not fit. It opens
no other file; `bundle.py` checks the files the manifest names.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from edge_runtime.errors import BundleInvalid, BundleVersion

SCHEMA_VERSION = 1
MOST_TILES = 64  # a picture then takes 16k tokens of the published models: their whole context

ImageMode = Literal["resize", "dynamic", "dynamic_s2"]
ProjectorKind = Literal["mlp_downsample", "mlp_downsample_2x2_fix", "mlp_downsample_3x3_fix"]


@dataclass(frozen=True)
class TileSpec:
    """How one modality's pictures become normalised tiles."""

    tile_px: int  # height and width of a tile
    mean: tuple[float, float, float]  # of pixel values in [0, 1]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class ImageSpec:
    """How pictures are cut; the same mode for RGB and depth."""

    mode: ImageMode
    rgb: TileSpec
    depth: TileSpec | None  # None: the model has no depth input
    min_tiles: int = 1
    max_tiles: int = 12
    # dynamic_s2 only: side lengths in pixels of each scale of a tile of `rgb.tile_px`, smallest first
    s2_scales: tuple[int, ...] = ()
    # dynamic_s2 only: which scale's grid the features are brought to (-1 = the largest)
    s2_output_index: int = -1


@dataclass(frozen=True)
class Dims:
    """Sizes of the network, checked against the files."""

    tower_width: int  # C
    patches_per_tile: int  # N
    tokens_per_tile: int  # K, after the projector
    decoder_width: int  # D
    decoder_layers: int
    vocab_size: int  # V
    context_tokens: int  # longest prompt plus answer the model was made for: `context_limit`; the decoder says the same
    projector: ProjectorKind


@dataclass(frozen=True)
class TokenSpec:
    """The vocabulary's special tokens, by name; numbers differ from checkpoint to checkpoint."""

    special: Mapping[str, int]  # every special token a prompt may hold
    image: str
    depth: str | None
    stop: tuple[int, ...]  # generation ends at any of these
    newline: int  # follows every media block
    normalizer: Literal["nfc", "none"] = "nfc"  # llama.cpp does not normalise, so the runtime does


@dataclass(frozen=True)
class PromptSpec:
    """The chat template, rendered around one user turn, and the suffix that asks for points."""

    prefix: str
    suffix: str
    point_suffix: str


@dataclass(frozen=True)
class DepthSpec:
    """How metric depth becomes the picture the depth tower was trained on.

    The training pictures are smooth, and their darkest and brightest pixels are surfaces. A depth camera's extremes
    are flying pixels along edges: left in, a few of them own the range and everything else is nearly black.
    """

    convention: Literal["inverse"] = "inverse"  # 1/z: near is bright
    low_percentile: float = 1.0  # of the valid inverse depth; maps to 0
    high_percentile: float = 99.0  # maps to 255


@dataclass(frozen=True)
class FileEntry:
    """Identity of one file of the bundle."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Lineage:
    """Where the bundle comes from."""

    checkpoint_sha256: str  # of the source checkpoint's tensors and configs
    parent_sha256: str | None  # manifest hash of the bundle this one was quantized from
    versions: Mapping[str, str]  # of the libraries that wrote it
    data_sha256: str | None = None  # of the drawn calibration data, if any
    data_questions: int | None = None  # how many were drawn
    data_seed: int | None = None


@dataclass(frozen=True)
class Tolerance:
    """The largest error a stage may show against the golden values, and what was measured when it was written.

    Golden values are always the full-precision model's, so a quantized bundle states larger ones.
    """

    limit: float
    measured: float

    def share(self, error: float) -> float:
        """How much of the tolerance an error takes: above 1 it is too large; infinite where none is allowed."""
        if error == 0.0:
            return 0.0
        return error / self.limit if self.limit > 0.0 else math.inf


@dataclass(frozen=True)
class Manifest:
    """Everything a runtime must know about a bundle before it opens a file of it."""

    schema_version: int
    name: str
    recipe: str  # "fp32", "fp16", or a quantization recipe
    licence: str
    dims: Dims
    image: ImageSpec
    tokens: TokenSpec
    prompt: PromptSpec
    depth: DepthSpec
    files: Mapping[str, FileEntry]
    tolerances: Mapping[str, Tolerance]  # stage -> relative error
    lineage: Lineage
    encoder_providers: tuple[str, ...] = field(default_factory=tuple)  # wanted, best first; empty: any

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `read_manifest` reads back to an equal record."""
        return dataclasses.asdict(self)


def read_manifest(data: object) -> Manifest:
    """Turn parsed JSON into a `Manifest`.

    Raises:
        BundleVersion: The schema version is not ours.
        BundleInvalid: A key is missing, unknown or of the wrong type, or two values contradict.
    """
    if not isinstance(data, dict):
        raise BundleInvalid(f"manifest.json must hold an object, found {type(data).__name__}")
    version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        raise BundleVersion(
            f"manifest schema version {version!r} is not supported; this program reads version "
            f"{SCHEMA_VERSION}. Export the checkpoint again with this version of roborefer-edge."
        )
    manifest = _read(Manifest, data, "manifest")
    assert isinstance(manifest, Manifest)
    _check_consistency(manifest)
    return manifest


def context_limit(tokenizer_max_length: float | None, max_position_embeddings: int) -> int:
    """Longest prompt and answer together, in tokens; the one rule for manifest, decoder file and torch model.

    Upstream cuts prompts at the tokenizer's `model_max_length`, so the model never saw more; the decoder addresses no
    more than `max_position_embeddings`. Tokenizers without a limit say None or 1e30.
    """
    return int(min(tokenizer_max_length or math.inf, max_position_embeddings))


def rounded_up(error: float) -> float:
    """An error to two significant digits, never smaller: the digits behind change with the number of threads."""
    if error <= 0.0 or not math.isfinite(error):
        return error
    step = 10.0 ** (math.floor(math.log10(error)) - 1)
    return float(f"{math.ceil(error / step - 1e-9) * step:.2g}")


# --- do the values fit each other? ---------------------------------------------------------------------


def _check_consistency(m: Manifest) -> None:
    _check_dims(m.dims)
    _check_image(m.image)
    _check_tokens(m.tokens, m.dims.vocab_size)
    _require((m.image.depth is None) == (m.tokens.depth is None), "image.depth and tokens.depth: both or neither")
    low, high = m.depth.low_percentile, m.depth.high_percentile
    _require(0.0 <= low < high <= 100.0, f"depth: percentiles {low} and {high}, 0 <= low < high <= 100 is needed")


def _check_dims(dims: Dims) -> None:
    sizes = {name: size for name, size in dataclasses.asdict(dims).items() if isinstance(size, int)}
    _require(min(sizes.values()) >= 1, f"dims: {sizes}, each must be 1 or more")


def _check_image(image: ImageSpec) -> None:
    tiles = f"{image.min_tiles}..{image.max_tiles}"
    _require(
        1 <= image.min_tiles <= image.max_tiles <= MOST_TILES, f"image: tiles {tiles} is no range in 1..{MOST_TILES}"
    )
    _require(
        (image.mode == "dynamic_s2") == bool(image.s2_scales),
        "image: s2_scales belong to mode dynamic_s2 and only to it",
    )
    if image.mode == "dynamic_s2":
        _check_scales(image)
    for name, tile in (("rgb", image.rgb), ("depth", image.depth)):
        if tile is not None:
            _check_tile(tile, f"image.{name}")


def _check_scales(image: ImageSpec) -> None:
    scales, index = image.s2_scales, image.s2_output_index
    rising = scales[0] >= 1 and all(a < b for a, b in pairwise(scales))
    _require(
        rising and all(scale % scales[0] == 0 for scale in scales),
        f"image: s2_scales {list(scales)} must be rising multiples of the first, which is positive",
    )
    _require(-len(scales) <= index < len(scales), f"image: s2_output_index {index} is none of {len(scales)} scales")
    needed = (scales[-1] // scales[0]) ** 2
    _require(needed <= image.max_tiles, f"image: the largest of s2_scales takes {needed} tiles of {image.max_tiles}")


def _check_tile(tile: TileSpec, where: str) -> None:
    _require(tile.tile_px >= 1, f"{where}: tile_px is {tile.tile_px}")
    _require(all(map(math.isfinite, tile.mean)), f"{where}: mean {list(tile.mean)} must be finite")
    _require(all(0.0 < s < math.inf for s in tile.std), f"{where}: std {list(tile.std)} must be positive and finite")


def _check_tokens(tokens: TokenSpec, vocab_size: int) -> None:
    for name in (tokens.image, tokens.depth):
        _require(name is None or name in tokens.special, f"tokens: {name!r} is not among the special tokens")
    _require(bool(tokens.stop), "tokens: no stop token, so no answer would ever end")
    ids = {**tokens.special, "stop": max(tokens.stop), "first stop": min(tokens.stop), "newline": tokens.newline}
    outside = {name: number for name, number in ids.items() if not 0 <= number < vocab_size}
    _require(not outside, f"tokens: {outside} are outside the vocabulary of {vocab_size}")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise BundleInvalid(f"manifest.{what}; export the bundle again")


# --- JSON -> dataclass, strictly ------------------------------------------------------------------


def _read(expected: Any, value: Any, where: str) -> Any:
    """Convert `value` to type `expected`, naming the place when it does not fit."""
    origin = typing.get_origin(expected)
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        return _read_record(expected, value, where)
    if origin is types.UnionType or origin is typing.Union:
        return _read_optional(expected, value, where)
    if origin is Literal:
        return _read_literal(typing.get_args(expected), value, where)
    if origin is tuple:
        return _read_tuple(typing.get_args(expected), value, where)
    if origin is not None:  # the only other generic in a manifest is Mapping[str, X]
        return _read_mapping(typing.get_args(expected)[1], value, where)
    return _read_scalar(expected, value, where)


def _read_record(record: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _misfit(where, "an object", value)
    fields = {f.name: f for f in dataclasses.fields(record)}
    if unknown := sorted(set(value) - set(fields)):
        raise BundleInvalid(f"{where}: unknown keys {unknown}; known are {sorted(fields)}")
    required = {
        n for n, f in fields.items() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    if missing := sorted(required - set(value)):
        raise BundleInvalid(f"{where}: missing keys {missing}")
    hints = typing.get_type_hints(record)
    return record(**{k: _read(hints[k], v, f"{where}.{k}") for k, v in value.items()})


def _read_optional(expected: Any, value: Any, where: str) -> Any:
    if value is None:
        return None
    (inner,) = (t for t in typing.get_args(expected) if t is not type(None))
    return _read(inner, value, where)


def _read_literal(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    if value not in choices:
        raise _misfit(where, f"one of {list(choices)}", value)
    return value


def _read_tuple(args: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _misfit(where, "a list", value)
    if args[-1] is Ellipsis:
        return tuple(_read(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if len(value) != len(args):
        raise _misfit(where, f"a list of {len(args)}", value)
    return tuple(_read(t, v, f"{where}[{i}]") for i, (t, v) in enumerate(zip(args, value, strict=True)))


def _read_mapping(expected: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
        raise _misfit(where, "an object", value)
    return {k: _read(expected, v, f"{where}[{k!r}]") for k, v in value.items()}


def _read_scalar(expected: type, value: Any, where: str) -> Any:
    if expected is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if type(value) is not expected:
        raise _misfit(where, f"a {expected.__name__}", value)
    return value


def _misfit(where: str, wanted: str, value: object) -> BundleInvalid:
    shown = repr(value)
    return BundleInvalid(f"{where}: expected {wanted}, found {shown[:80]}")
