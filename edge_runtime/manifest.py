"""The manifest of a bundle as typed records, and its strict reader.

A manifest is data: this module turns JSON into frozen records and says precisely what does not fit. It opens
no other file; `bundle.py` checks the files the manifest names.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edge_runtime.errors import BundleInvalid, BundleVersion

SCHEMA_VERSION = 1

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
    context_tokens: int  # longest prompt plus answer the model was made for
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
    """How metric depth becomes the picture the depth tower was trained on."""

    convention: Literal["inverse"] = "inverse"  # 1/z: near is bright
    low_percentile: float = 0.0  # of the valid inverse depth; maps to 0
    high_percentile: float = 100.0  # maps to 255


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
    data_sha256: str | None = None  # calibration data, if any


@dataclass(frozen=True)
class Tolerance:
    """The largest error a stage may show against the golden values, and what was measured at export."""

    limit: float
    measured: float


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


def _check_consistency(m: Manifest) -> None:
    if m.tokens.image not in m.tokens.special:
        raise BundleInvalid(f"manifest.tokens: {m.tokens.image!r} is not among the special tokens")
    if (m.image.depth is None) != (m.tokens.depth is None):
        raise BundleInvalid("manifest: image.depth and tokens.depth must both be set or both be null")
    if not 1 <= m.image.min_tiles <= m.image.max_tiles:
        raise BundleInvalid(f"manifest.image: tiles {m.image.min_tiles}..{m.image.max_tiles} is no range")
    if (m.image.mode == "dynamic_s2") != bool(m.image.s2_scales):
        raise BundleInvalid("manifest.image: s2_scales belong to mode dynamic_s2 and only to it")
    if not m.tokens.stop:
        raise BundleInvalid("manifest.tokens: no stop token, so no answer would ever end")
    depth = m.depth
    if not 0.0 <= depth.low_percentile < depth.high_percentile <= 100.0:
        raise BundleInvalid("manifest.depth: percentiles must satisfy 0 <= low < high <= 100")


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
