"""Sizes of a network, and how many weights each part of it has.

Sources: golden/contract.md for the layout; Qwen2 technical report (arXiv 2407.10671), table 1, for the decoders; SigLIP
so400m/14 at 448 px for the towers. The counts are tested against modules built from the same numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from edge_runtime.errors import ConfigError
from edge_runtime.manifest import ProjectorKind
from train.data.registry import nearest

BLOCK_SIDES: Mapping[ProjectorKind, int] = {
    "mlp_downsample": 2, "mlp_downsample_2x2_fix": 2, "mlp_downsample_3x3_fix": 3,
}  # fmt: skip


@dataclass(frozen=True)
class DecoderShape:
    """A Qwen2 decoder."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int
    vocabulary: int
    tied: bool  # output head and embedding are one tensor

    @property
    def kv_width(self) -> int:
        """Width of keys, and of values."""
        return self.width // self.heads * self.kv_heads

    @property
    def layer_linears(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of each linear layer of one block."""
        d, kv, f = self.width, self.kv_width, self.mlp
        return (d, d), (d, kv), (d, kv), (d, d), (d, f), (d, f), (f, d)

    @property
    def layer_weights(self) -> int:
        """Of one block: linears, biases of q, k and v, two norms."""
        linear = sum(a * b for a, b in self.layer_linears)
        return linear + self.width + 2 * self.kv_width + 2 * self.width

    @property
    def root_weights(self) -> int:
        """Outside of the blocks: embedding, last norm, output head."""
        tables = self.vocabulary * self.width * (1 if self.tied else 2)
        return tables + self.width

    @property
    def weights(self) -> int:
        """All of them."""
        return self.layers * self.layer_weights + self.root_weights


@dataclass(frozen=True)
class TowerShape:
    """A SigLIP vision tower, of which the last layer is never run."""

    width: int
    layers: int
    layers_run: int
    heads: int
    mlp: int
    grid: int  # patches along a side
    patch_px: int

    @property
    def patches(self) -> int:
        """Of a tile."""
        return self.grid**2

    @property
    def layer_linears(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of each linear layer of one block."""
        return (*4 * ((self.width, self.width),), (self.width, self.mlp), (self.mlp, self.width))

    @property
    def layer_weights(self) -> int:
        """Of one block: linears with biases, two norms."""
        return sum(a * b + b for a, b in self.layer_linears) + 4 * self.width

    @property
    def embedding_weights(self) -> int:
        """Patches and positions."""
        return (3 * self.patch_px**2 + 1) * self.width + self.patches * self.width

    @property
    def weights(self) -> int:
        """All of them, with the layers and the norm that are never run."""
        return self.embedding_weights + self.layers * self.layer_weights + 2 * self.width

    @property
    def learning_weights(self) -> int:
        """Those that a pass uses."""
        return self.embedding_weights + self.layers_run * self.layer_weights


@dataclass(frozen=True)
class ProjectorShape:
    """A projector from tower features to embeddings."""

    kind: ProjectorKind
    in_width: int  # of all scales together
    out_width: int

    @property
    def norms(self) -> tuple[int, ...]:
        """Widths that are normalised."""
        grouped = self.in_width * BLOCK_SIDES[self.kind] ** 2
        return (grouped, 3 * self.in_width) if self.kind == "mlp_downsample_3x3_fix" else (grouped,)

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of each linear layer."""
        grouped = self.in_width * BLOCK_SIDES[self.kind] ** 2
        if self.kind == "mlp_downsample_3x3_fix":
            middle = 3 * self.in_width
            return (grouped, middle), (middle, self.out_width), (self.out_width, self.out_width)
        return (grouped, self.out_width), (self.out_width, self.out_width)

    @property
    def weights(self) -> int:
        """All of them."""
        return sum(a * b + b for a, b in self.linears) + sum(2 * width for width in self.norms)


@dataclass(frozen=True)
class NetworkShape:
    """The whole model; depth has a tower and a projector like those of RGB."""

    decoder: DecoderShape
    tower: TowerShape
    projector: ProjectorShape
    scales: int = 1  # feature maps joined before the projector
    depth_tower: bool = True
    has_depth: bool = True

    def weights_of(self, part: str) -> int:
        """How many weights a part has.

        Raises:
            KeyError: No such part.
        """
        counts = {
            "llm": self.decoder.weights,
            "vision_tower": self.tower.weights,
            "mm_projector": self.projector.weights,
        }
        if self.has_depth:
            counts["depth_projector"] = self.projector.weights
        if self.depth_tower:
            counts["depth_tower"] = self.tower.weights
        return counts[part]

    def learning_weights_of(self, part: str) -> int:
        """How many of them a pass uses, if the part learns."""
        return self.tower.learning_weights if part.endswith("tower") else self.weights_of(part)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts there are."""
        depth = (*(("depth_tower",) if self.depth_tower else ()), *(("depth_projector",) if self.has_depth else ()))
        return ("llm", "vision_tower", "mm_projector", *depth)


SIGLIP = TowerShape(width=1152, layers=27, layers_run=26, heads=16, mlp=4304, grid=32, patch_px=14)
# 2B: tying is as in Qwen2-1.5B, not verified for the released checkpoint; vocabulary of the released tokenizer.
PUBLISHED: Mapping[str, NetworkShape] = {
    "2b": NetworkShape(
        DecoderShape(1536, 28, 12, 2, 8960, 151_652, tied=True), SIGLIP,
        ProjectorShape("mlp_downsample_3x3_fix", 1152, 1536),
    ),
    "8b": NetworkShape(
        DecoderShape(3584, 28, 28, 4, 18_944, 151_652, tied=False), SIGLIP,
        ProjectorShape("mlp_downsample", 3 * 1152, 3584), scales=3,
    ),
}  # fmt: skip


def published(architecture: str) -> NetworkShape:
    """Sizes of an upstream model.

    Raises:
        ConfigError: None of that name.
    """
    if architecture not in PUBLISHED:
        raise ConfigError(
            f"sizes are known of the architectures {' and '.join(PUBLISHED)}, not of {architecture!r}; "
            f"{nearest(architecture, tuple(PUBLISHED))}"
        )
    return PUBLISHED[architecture]
