"""The projector: patch features of one tile to a few decoder embeddings.

Neighbouring patches are regrouped into one token (2x2 or 3x3), then an MLP brings it to the decoder's width. It
knows tiles only; what happens across tiles is in `multiscale.py`.

Letters: T tiles, N patches per tile, C feature width, K tokens per tile, D decoder width.

Source: NVILA (arXiv 2412.04468); shapes and tensor names are golden/contract.md sections 3 and 7.
"""

from collections import OrderedDict
from math import isqrt

from torch import Tensor, nn
from torch.nn.functional import pad

from edge_runtime.manifest import ProjectorKind

# How many patches along each side become one token.
BLOCK_SIDE: dict[ProjectorKind, int] = {
    "mlp_downsample": 2,
    "mlp_downsample_2x2_fix": 2,
    "mlp_downsample_3x3_fix": 3,
}


class Projector(nn.Module):
    """Regroup patches, then an MLP.

    The names in `state_dict()` are the names on disk: `layers.<i>.*`, where i counts every step of the
    sequence, those without parameters too.

    Args:
        kind: Which of the three layouts.
        in_width: C, the width of the features that come in (for multi-scale features, of all scales together).
        out_width: D, the width of the decoder.

    Raises:
        ValueError: The kind is unknown.
    """

    def __init__(self, kind: ProjectorKind, *, in_width: int, out_width: int) -> None:
        super().__init__()
        if kind not in BLOCK_SIDE:
            raise ValueError(f"projector kind {kind!r} is unknown; known are {sorted(BLOCK_SIDE)}")
        self.kind = kind
        self.block_side = BLOCK_SIDE[kind]
        grouped = in_width * self.block_side**2
        steps = [Regroup(self.block_side), nn.LayerNorm(grouped)]
        if kind == "mlp_downsample_3x3_fix":
            middle = 3 * in_width
            steps += [nn.Linear(grouped, middle), nn.GELU(), nn.LayerNorm(middle)]
            grouped = middle
        steps += [nn.Linear(grouped, out_width), nn.GELU(), nn.Linear(out_width, out_width)]
        self.layers = nn.Sequential(OrderedDict((str(i), step) for i, step in enumerate(steps)))

    def forward(self, features: Tensor) -> Tensor:
        """Embeddings of each tile.

        Args:
            features: float [T, N, C]; N must be a square.

        Returns:
            float [T, K, D] with K = ceil(sqrt(N) / block side) squared.
        """
        return self.layers(features)

    def tokens(self, patches: int) -> int:
        """K for tiles of N patches."""
        return (-(-isqrt(patches) // self.block_side)) ** 2


class Regroup(nn.Module):
    """Concatenate each square block of neighbouring patches into one token.

    A grid whose side is no multiple of the block is padded with zeros at the bottom and the right.
    """

    def __init__(self, block_side: int) -> None:
        super().__init__()
        self.block_side = block_side

    def forward(self, features: Tensor) -> Tensor:
        """[T, N, C] to [T, K, block * block * C], ordered row in block, column in block, channel.

        Raises:
            ValueError: N is no square.
        """
        side, block = isqrt(features.shape[1]), self.block_side
        if side * side != features.shape[1]:
            raise ValueError(f"{features.shape[1]} patches do not form a square grid")
        channels = features.shape[2]
        missing = -side % block
        raster = features.unflatten(1, (side, side))  # [T, side, side, C]
        if missing:
            raster = pad(raster, (0, 0, 0, missing, 0, missing))
        groups = (side + missing) // block
        blocks = raster.unflatten(2, (groups, block)).unflatten(1, (groups, block))
        tokens = blocks.transpose(2, 3)  # [T, groups, groups, block, block, C]
        return tokens.reshape(-1, groups * groups, block * block * channels)
