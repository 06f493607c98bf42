"""The decoder over many questions per picture at once; every question sees the picture and itself.

The same weights and the same numbers as `SpatialVLM.forward` on each question alone (a test says so), with the
picture computed once and without padding in the linear layers. Written for CPU training: plain batched products are
several times faster there in bfloat16 than torch's fused attention.

Letters: B pictures, Q questions per picture, P prefix, N tokens of all questions, L longest question, D width,
H heads, K key heads, d head width.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, silu

from train.nano.packing import Packed

KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Hidden:
    """Hidden states at one height of the decoder."""

    prefix: Tensor  # float [B, P, D]
    tail: Tensor  # float [N, D]


@dataclass(frozen=True)
class DecoderStates:
    """What a pass gives."""

    entering: dict[int, Hidden]  # layer -> its input, for the layers asked for
    last: Hidden  # normalised, for the output head


def run_packed(
    llm: Any, prefix: Tensor, packed: Packed, keep: Collection[int] = (), seen: list[KeysValues] | None = None
) -> DecoderStates:
    """One pass.

    Args:
        llm: transformers' `Qwen2ForCausalLM`.
        prefix: float [B, P, D] embeddings, spliced.
        packed: The questions.
        keep: Layers whose inputs are returned too.
        seen: Gets, per layer, the keys and values that each question sees: [B * Q, P + L, K, d].
    """
    decoder = llm.model
    pictures, length, width = prefix.shape
    cut = pictures * length

    def parted(states: Tensor) -> Hidden:
        return Hidden(states[:cut].view(pictures, length, width), states[cut:])

    tail = decoder.embed_tokens(packed.ids).to(prefix.dtype)
    hidden = torch.cat([prefix.reshape(-1, width), tail])
    attention = _PackedAttention(llm, packed, prefix, seen)
    entering: dict[int, Hidden] = {}
    for index, layer in enumerate(decoder.layers):
        if index in keep:
            entering[index] = parted(hidden)
        hidden = hidden + attention(layer.self_attn, rms_norm(hidden, layer.input_layernorm))
        hidden = hidden + gated_mlp(layer.mlp, rms_norm(hidden, layer.post_attention_layernorm))
    return DecoderStates(entering, parted(rms_norm(hidden, decoder.norm)))


class HeadMath:
    """Qwen2's attention on tensors whose layout is somebody else's business.

    Args:
        llm: Whose heads.
        positions: int64 [M] of the tokens that will be projected.
        like: Any tensor of the dtype to compute in.
    """

    def __init__(self, llm: Any, positions: Tensor, like: Tensor) -> None:
        self.heads, self.kv_heads = llm.config.num_attention_heads, llm.config.num_key_value_heads
        self.head_width = llm.config.hidden_size // self.heads
        self.split = [self.heads * self.head_width, *[self.kv_heads * self.head_width] * 2]
        cosine, sine = llm.model.rotary_emb(like, positions[None])
        self.cosine, self.sine = cosine[0, :, None], sine[0, :, None]  # [M, 1, d]

    def project(self, attention: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden states [M, D] to scaled queries [M, H, d], keys and values [M, K, d]."""
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        weight, bias = torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts])
        query, key, value = linear(hidden, weight, bias).split(self.split, dim=-1)
        query = self._rotate(query.unflatten(-1, (self.heads, -1))) * self.head_width**-0.5
        return query, self._rotate(key.unflatten(-1, (self.kv_heads, -1))), value.unflatten(-1, (self.kv_heads, -1))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """Query [R, S, H, d], key and value [R, T, K, d], mask [S, T] or [R, 1, 1, S, T] to [R, S, H * d]."""
        steps = query.shape[1]
        shared = self.heads // self.kv_heads  # query heads that look through one key head
        grouped = query.unflatten(2, (self.kv_heads, shared)).permute(0, 2, 3, 1, 4).flatten(2, 3)
        scores = (grouped @ key.permute(0, 2, 3, 1)).unflatten(2, (shared, steps)) + mask
        out = torch.softmax(scores, dim=-1).flatten(2, 3) @ value.transpose(1, 2)
        return out.unflatten(2, (shared, steps)).permute(0, 3, 1, 2, 4).flatten(2)

    def _rotate(self, states: Tensor) -> Tensor:
        first, second = states.chunk(2, dim=-1)
        return states * self.cosine + torch.cat([-second, first], dim=-1) * self.sine


class _PackedAttention:
    """Attention of one batch, for every layer of the decoder in turn."""

    def __init__(self, llm: Any, packed: Packed, prefix: Tensor, seen: list[KeysValues] | None) -> None:
        self.packed, self.seen = packed, seen
        self.pictures, self.length = prefix.shape[:2]
        positions = torch.cat([torch.arange(self.length).repeat(self.pictures), self.length + packed.offsets])
        self.math = HeadMath(llm, positions, prefix)
        self.mask_prefix = _causal(self.length, 0, prefix)
        self.mask_tail = _causal(packed.longest, self.length, prefix)

    def __call__(self, attention: Any, hidden: Tensor) -> Tensor:
        """Hidden states [B * P + N, D] to the same."""
        query, key, value = self.math.project(attention, hidden)
        cut = self.pictures * self.length
        out_prefix = self._prefix(query[:cut], key[:cut], value[:cut])
        out_tail = self._tail(query[cut:], self._seen(key), self._seen(value))
        return linear(torch.cat([out_prefix, out_tail]), attention.o_proj.weight)

    def _prefix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        rows = (self.pictures, self.length)
        parts = query.unflatten(0, rows), key.unflatten(0, rows), value.unflatten(0, rows)
        return self.math.attend(*parts, self.mask_prefix).flatten(0, 1)

    def _tail(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self.seen is not None:
            self.seen.append((key, value))
        rows = self._to_rows(query).unflatten(0, (self.packed.questions, self.packed.longest))
        flat = self.math.attend(rows, key, value, self.mask_tail).flatten(0, 1)
        return _Rearrange.apply(flat, self.packed.flat_from_rows, self.packed.rows_from_flat, self.packed.is_token)

    def _seen(self, states: Tensor) -> Tensor:
        """Keys or values each question sees: its picture's, then its own: [B * Q, P + L, K, d]."""
        cut = self.pictures * self.length
        shared = states[:cut].unflatten(0, (self.pictures, 1, self.length))
        shared = shared.expand(-1, self.packed.per_picture, -1, -1, -1).flatten(0, 1)
        own = self._to_rows(states[cut:]).unflatten(0, (self.packed.questions, self.packed.longest))
        return torch.cat([shared, own], dim=1)

    def _to_rows(self, flat: Tensor) -> Tensor:
        return _Rearrange.apply(flat, self.packed.rows_from_flat, self.packed.flat_from_rows, None)


class _Rearrange(torch.autograd.Function):
    """Rows picked by index, where the way back picks by index too; much cheaper than adding up gradients."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, take: Tensor, give: Tensor, valid: Tensor | None) -> Tensor:
        """states[take]; `give` undoes it, `valid` marks the rows of `states` that `take` reads (None: all)."""
        ctx.save_for_backward(give, *([] if valid is None else [valid]))
        return states.index_select(0, take)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        """The same the other way; rows that were not read get none."""
        give, *valid = ctx.saved_tensors
        grad = grads[0].index_select(0, give)
        if valid:
            grad = grad * valid[0].view(-1, *[1] * (grad.dim() - 1))
        return grad, None, None, None


def rms_norm(hidden: Tensor, norm: Any) -> Tensor:
    """Qwen2's RMSNorm of the last dimension, computed in float32."""
    return _RMSNorm.apply(hidden, norm.weight, norm.variance_epsilon)


class _RMSNorm(torch.autograd.Function):
    """Without the seven intermediate tensors that autograd would keep."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """Hidden states [..., D] and weight [D] to [..., D]."""
        wide = hidden.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
        unit = (wide * scale).to(hidden.dtype)
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        """Of the output, with respect to the input and the weight."""
        unit, scale, weight = ctx.saved_tensors
        grad = grads[0]
        by_unit = (grad * weight).float()
        inner = by_unit * unit
        grad_hidden = (by_unit - unit * inner.mean(-1, keepdim=True)) * scale
        grad_weight = (grad * unit).float().flatten(0, -2).sum(0).to(weight.dtype)
        return grad_hidden.to(grad.dtype), grad_weight, None


def gated_mlp(mlp: Any, hidden: Tensor) -> Tensor:
    """Qwen2's feed-forward part."""
    gate = linear(hidden, mlp.gate_proj.weight)
    return linear(silu(gate) * linear(hidden, mlp.up_proj.weight), mlp.down_proj.weight)


def _causal(steps: int, before: int, like: Tensor) -> Tensor:
    """Additive mask [steps, before + steps]: all of `before` is seen, then what is not later."""
    later = torch.ones(steps, steps, dtype=torch.bool, device=like.device).triu(1)
    own = torch.zeros(steps, steps, dtype=like.dtype, device=like.device).masked_fill_(later, -1e9)
    return torch.cat([torch.zeros(steps, before, dtype=like.dtype, device=like.device), own], dim=1)
