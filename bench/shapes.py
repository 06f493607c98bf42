"""The shapes of the models that can be made up: everything about them but their weights.

One table for whoever needs a bundle of the true size without the true weights: `bench.synthetic` writes it, the
roofline counts it, the quantizer's tests take their sizes from it. Graphs are named after the skeletons in
`bench/skeletons`, which hold the sizes of towers and projectors.

Source: configs of RoboRefer-2B-SFT and -8B-SFT as published (NVILA towers and projectors, Qwen2 decoders).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from edge_runtime.errors import ConfigError
from edge_runtime.manifest import Dims, ImageSpec, Manifest, ProjectorKind, TileSpec

# What the decoder's matrices are stored as; the names of llama.cpp's own file types.
DecoderType = Literal["f16", "q8_0", "q4_0", "q4_k_m"]
MADE_UP_LICENCE = "none: seeded random numbers"

DECODER_TYPES: tuple[DecoderType, ...] = get_args(DecoderType)


@dataclass(frozen=True)
class DecoderShape:
    """Sizes of a Qwen2 decoder."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    mlp: int
    vocab_size: int
    tied: bool  # output head and embedding are one tensor
    rope_theta: float
    context_tokens: int
    rms_eps: float = 1e-6

    @property
    def kv_width(self) -> int:
        """Channels of all keys, and of all values, of one position."""
        return self.kv_heads * self.width // self.heads


@dataclass(frozen=True)
class ModelShape:
    """A model without its weights."""

    name: str
    tower: str  # skeleton of both towers
    projector: str  # skeleton of both projectors
    image: ImageSpec
    dims: Dims
    decoder: DecoderShape
    decoder_type: DecoderType  # what it is written as unless told otherwise
    # What can be measured in a reasonable time on two cores.
    count: int
    warmup: int


def _tile(side_px: int) -> TileSpec:
    return TileSpec(tile_px=side_px, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def _dims(decoder: DecoderShape, *, tower_width: int, patches: int, tokens: int, projector: ProjectorKind) -> Dims:
    return Dims(
        tower_width=tower_width,
        patches_per_tile=patches,
        tokens_per_tile=tokens,
        decoder_width=decoder.width,
        decoder_layers=decoder.layers,
        vocab_size=decoder.vocab_size,
        context_tokens=decoder.context_tokens,
        projector=projector,
    )


# Qwen2's vocabulary with NVILA's media tokens; rows beyond the tokenizer are dropped on export.
_QWEN2_VOCABULARY = 151652
_QWEN2_1_5B = DecoderShape(28, 1536, 12, 2, 8960, _QWEN2_VOCABULARY, tied=True, rope_theta=1e6, context_tokens=16384)
_QWEN2_7B = DecoderShape(28, 3584, 28, 4, 18944, _QWEN2_VOCABULARY, tied=False, rope_theta=1e6, context_tokens=16384)
_NANO = DecoderShape(8, 256, 4, 2, 768, 1765, tied=True, rope_theta=1e4, context_tokens=4096)

SHAPES: Mapping[str, ModelShape] = {
    "nano": ModelShape(
        name="nano",
        tower="nano_tower",
        projector="nano_projector",
        image=ImageSpec("resize", _tile(224), _tile(224)),
        dims=_dims(_NANO, tower_width=256, patches=256, tokens=64, projector="mlp_downsample"),
        decoder=_NANO,
        decoder_type="q8_0",
        count=30,
        warmup=3,
    ),
    "roborefer-2b": ModelShape(
        name="roborefer-2b",
        tower="siglip_so400m_448_tower",
        projector="roborefer_2b_projector",
        image=ImageSpec("dynamic", _tile(448), _tile(448)),
        dims=_dims(_QWEN2_1_5B, tower_width=1152, patches=1024, tokens=121, projector="mlp_downsample_3x3_fix"),
        decoder=_QWEN2_1_5B,
        decoder_type="f16",
        count=3,
        warmup=1,
    ),
    "roborefer-8b": ModelShape(
        name="roborefer-8b",
        tower="siglip_so400m_448_tower",
        projector="roborefer_8b_projector",
        image=ImageSpec("dynamic_s2", _tile(448), _tile(448), s2_scales=(448, 896, 1344)),
        dims=_dims(_QWEN2_7B, tower_width=1152, patches=1024, tokens=256, projector="mlp_downsample"),
        decoder=_QWEN2_7B,
        decoder_type="q4_0",
        count=1,
        warmup=0,
    ),
}


def is_synthetic(manifest: Manifest) -> bool:
    """Whether a bundle's weights are made up; quantizing them does not change that."""
    return manifest.licence == MADE_UP_LICENCE


def shape_named(name: str) -> ModelShape:
    """A shape of the table.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in SHAPES:
        raise ConfigError(f"no shape {name!r}; there are {', '.join(SHAPES)}")
    return SHAPES[name]
