"""What a pass keeps for its backward pass, in bytes; counted tensor by tensor as autograd keeps them.

After Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models" (arXiv 2205.05198), section 4,
with these differences: RMS norms, grouped keys and values, SwiGLU; attention keeps queries, keys, values and its output
but no scores (FlashAttention, arXiv 2205.14135); weights in 32 bits under autocast keep a copy of what each linear
layer was given. The counts are tested against measured passes of small models.

Letters: a bytes of a computed value, r bytes of the residual stream.
"""

from dataclasses import dataclass
from typing import Literal

from train.planning.shapes import DecoderShape, NetworkShape, ProjectorShape, TowerShape

# fp32: everything in 32 bits. autocast: weights and residual stream in 32, products in 16. bf16: everything in 16.
Numbers = Literal["fp32", "autocast", "bf16"]
HEAD_ROWS = 512  # rows of logits at a time (train/stages/network.py)


@dataclass(frozen=True)
class Pass:
    """What one process takes at once."""

    sequences: int
    tokens: int  # of each sequence, pictures included
    learnt: int  # of all sequences together: tokens with a label
    image_tiles: int  # of all sequences together
    depth_tiles: int
    image_blocks: int  # tokens that projectors give, newlines not counted
    depth_blocks: int

    @property
    def all_tokens(self) -> int:
        """Of all sequences together."""
        return self.sequences * self.tokens


@dataclass(frozen=True)
class Kept:
    """Bytes of one kind of layer, for all tokens of a pass."""

    layers: int
    whole: int  # of one layer, if nothing is recomputed
    entry: int  # of one layer, if it is recomputed: its input
    gradients: int  # of values, while one layer goes backward

    def kept(self, recomputed: bool) -> int:
        """Of all layers, between forward and backward."""
        return self.layers * (self.entry if recomputed else self.whole)

    def working(self, recomputed: bool) -> int:
        """What the backward pass of a layer needs on top."""
        return self.gradients + (self.whole if recomputed else 0)


def decoder_layer(shape: DecoderShape, tokens: int, numbers: Numbers) -> Kept:
    """One Qwen2 block.

    Kept are: of both RMS norms what they are given and what they give to q, k, v and to gate and up; q, k, v and
    attention's output; gate, its activation, up, and their product.
    """
    a, r = _widths(numbers)
    d, kv, f = shape.width, shape.kv_width, shape.mlp
    # A norm keeps its input and the normalised values. In 16 bits its input is kept as the 32 bits it was turned into;
    # autocast casts what it gives once for each linear layer behind it.
    norms = {"fp32": 2 * (4 + 4 + 4), "autocast": 2 * (4 + 4) + 5 * 2, "bf16": 2 * (4 + 2 + 2)}[numbers] * d
    per_token = norms + a * (2 * d + 2 * kv) + 4 * a * f
    # Gradients of the product, of up and of the activation live at once, beside that of the residual stream.
    return Kept(shape.layers, tokens * per_token, tokens * r * d, tokens * (3 * a * f + r * d))


def tower_layer(shape: TowerShape, tiles: int, numbers: Numbers) -> Kept:
    """One SigLIP block.

    Kept are: of both norms what they are given and what they give to q, k, v and to the first linear layer; q, k, v and
    attention's output; what the activation is given and gives.
    """
    a, r = _widths(numbers)
    c, m = shape.width, shape.mlp
    norms = {"fp32": 2 * (4 + 4), "autocast": 2 * 4 + 4 * 2, "bf16": 2 * (2 + 2)}[numbers] * c
    tokens = tiles * shape.patches
    whole = tokens * (norms + 4 * a * c + 2 * a * m)
    return Kept(shape.layers_run, whole, tokens * r * c, tokens * (2 * a * m + r * c))


def projector(shape: ProjectorShape, blocks: int, numbers: Numbers) -> int:
    """A projector; it is never recomputed."""
    a, r = _widths(numbers)
    return blocks * (sum((r + a) * width for width in shape.norms) + sum(a * out for _, out in shape.linears))


def head(shape: DecoderShape, learnt: int, numbers: Numbers, learns: bool) -> int:
    """The output head at its largest.

    That is a piece of logits as computed, in 32 bits, their softmax and their gradient; and the gradient of the head
    itself on its way, which autocast turns from 16 into 32 bits.
    """
    a, _ = _widths(numbers)
    table = shape.vocabulary * shape.width * (6 if numbers == "autocast" else a)
    return min(learnt, HEAD_ROWS) * shape.vocabulary * (2 * a + 4 + 4) + learns * table


@dataclass(frozen=True)
class Activations:
    """Bytes of a pass at its worst moment."""

    kept: int  # between forward and backward
    working: int  # what one layer, or the head, needs on top while it goes backward

    @property
    def total(self) -> int:
        """Both."""
        return self.kept + self.working


def pass_bytes(
    shape: NetworkShape,
    work: Pass,
    numbers: Numbers,
    learns: frozenset[str],
    recomputed: bool,
    *,
    head_learns: bool = True,
) -> Activations:
    """Activations at the worst moment of a pass.

    Args:
        shape: Of the network.
        work: Of the pass.
        numbers: Of its arithmetic.
        learns: Parts that learn, or whose adapters do: activations of a tower that does not are not kept.
        recomputed: Layers of towers and decoder are.
        head_learns: The decoder's output head does, not only adapters.
    """
    decoder = decoder_layer(shape.decoder, work.all_tokens, numbers)
    image_tower, depth_tower = ("vision_tower", "depth_tower" if shape.depth_tower else "vision_tower")
    towers = [
        tower_layer(shape.tower, tiles, numbers)
        for part, tiles in ((image_tower, work.image_tiles), (depth_tower, work.depth_tiles))
        if part in learns
    ]
    kept = decoder.kept(recomputed) + sum(tower.kept(recomputed) for tower in towers)
    kept += projector(shape.projector, work.image_blocks, numbers) * ("mm_projector" in learns or image_tower in learns)
    kept += projector(shape.projector, work.depth_blocks, numbers) * (
        "depth_projector" in learns or depth_tower in learns
    )
    ends = _widths(numbers)[1] * work.all_tokens * shape.decoder.width * 2  # spliced embeddings, last states
    peaks = [head(shape.decoder, work.learnt, numbers, head_learns), decoder.working(recomputed)]
    peaks += [tower.working(recomputed) for tower in towers]  # later, when less is kept: from above
    return Activations(kept + ends, max(peaks))


def _widths(numbers: Numbers) -> tuple[int, int]:
    """Bytes of a computed value, and of the residual stream."""
    return (4 if numbers == "fp32" else 2), (2 if numbers == "bf16" else 4)
