"""Reading on from where a packed pass ended, for greedy answers: only tokens that changed are computed again.

Inference only. Each step changes a few tokens at the end of every question; what they see is kept from the pass
before, as any decoder's key-value cache does.

Letters: M questions, c tokens per step, P prefix, L longest question.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from train.nano.packed_decoder import HeadMath, KeysValues, gated_mlp, rms_norm, run_packed
from train.nano.packing import Packed


class Rereading:
    """A packed pass that can be continued.

    Args:
        llm: transformers' `Qwen2ForCausalLM`.
        prefix: float [B, P, D].
        packed: The questions; `ids` may hold anything where answers will stand.
    """

    def __init__(self, llm: Any, prefix: Tensor, packed: Packed) -> None:
        self._llm, self._like, self._packed = llm, prefix, packed
        self._prefix_length = prefix.shape[1]
        self._seen: list[KeysValues] = []
        self.tail = run_packed(llm, prefix, packed, seen=self._seen).last.tail  # float [N, D]
        rows = packed.rows_from_flat.view(packed.questions, packed.longest)
        self._starts = rows[:, 0]

    def again(self, first: Tensor, count: int) -> Tensor:
        """Compute some tokens again, with what `packed.ids` holds now.

        Args:
            first: int64 [M] index into the flat tokens of each question's first such token.
            count: c, how many follow from there, it included.

        Returns:
            float [M, D], the state of the last of them.
        """
        at = first[:, None] + torch.arange(count)  # [M, c]
        places = at - self._starts[:, None]
        math = HeadMath(self._llm, self._prefix_length + self._packed.offsets[at].flatten(), self._like)
        mask = self._mask(places)
        hidden = self._llm.model.embed_tokens(self._packed.ids[at]).flatten(0, 1)
        for layer, (keys, values) in zip(self._llm.model.layers, self._seen, strict=True):
            query, key, value = math.project(layer.self_attn, rms_norm(hidden, layer.input_layernorm))
            rows = torch.arange(len(at))[:, None].expand_as(at)
            keys[rows, self._prefix_length + places] = key.unflatten(0, at.shape)
            values[rows, self._prefix_length + places] = value.unflatten(0, at.shape)
            mixed = math.attend(query.unflatten(0, at.shape), keys, values, mask).flatten(0, 1)
            hidden = hidden + linear(mixed, layer.self_attn.o_proj.weight)
            hidden = hidden + gated_mlp(layer.mlp, rms_norm(hidden, layer.post_attention_layernorm))
        return rms_norm(hidden, self._llm.model.norm).unflatten(0, at.shape)[:, -1]

    def _mask(self, places: Tensor) -> Tensor:
        """Additive [M, 1, 1, c, P + L]: nothing later than the token itself."""
        keys = torch.arange(self._prefix_length + self._packed.longest)
        later = keys > (self._prefix_length + places)[..., None]
        return torch.zeros(later.shape, dtype=self._like.dtype).masked_fill_(later, -1e9)[:, None, None]
