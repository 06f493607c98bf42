"""Answers drawn from a model as it is now: several to each prompt, side by side, the prompt read once.

A token is where the cumulated probabilities pass a random number that was given, so that what is drawn depends neither
on the batch nor on the number of processes, but for rounding. Probabilities are the model's own (temperature 1).

Letters: B prompts, L embeddings of the longest, G answers to each, T tokens at most, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

DRAW_RANGE = 2**31  # draws are whole numbers below it: floats would be rounded on their way
NOT_WRITTEN = -1


@torch.no_grad()
def draw_answers(
    llm: Any, prompts: Tensor, mask: Tensor | None, draws: Tensor, *, stop_ids: Tensor, never: Sequence[int]
) -> Tensor:
    """Write answers.

    Args:
        llm: transformers' `Qwen2ForCausalLM`.
        prompts: float [B, L, D] embeddings, padded at the end.
        mask: bool [B, L]; None: nothing is padded.
        draws: int64 [B, G, T] random numbers below `DRAW_RANGE`.
        stop_ids: int64 [K]; any of them ends an answer.
        never: Tokens that are not written: media tokens would ask for pictures that nobody gave.

    Returns:
        int64 [B, G, T]: the stop token included, `NOT_WRITTEN` behind it.
    """
    count, answers, longest = draws.shape
    read = torch.ones(prompts.shape[:2], dtype=torch.bool, device=prompts.device) if mask is None else mask
    lengths = read.sum(dim=1)  # [B]
    begun = llm.model(inputs_embeds=prompts, attention_mask=None if mask is None else mask.long(), use_cache=True)
    states = begun.last_hidden_state[torch.arange(count, device=prompts.device), lengths - 1]
    states, cache = states[:, None].expand(-1, answers, -1), begun.past_key_values  # [B, G, D]
    before = read[:, None].expand(-1, answers, -1)  # [B, G, L]
    chances = draws.to(torch.float64) / DRAW_RANGE
    written = torch.full_like(draws, NOT_WRITTEN)
    going = torch.ones_like(draws[..., 0], dtype=torch.bool)
    for place in range(longest):
        tokens = _drawn(llm.lm_head(states), chances[..., place], never)  # [B, G]
        written[..., place] = torch.where(going, tokens, NOT_WRITTEN)
        going &= ~torch.isin(tokens, stop_ids)
        if place + 1 == longest or not _anywhere(going):
            break
        output = llm.model(
            inputs_embeds=llm.get_input_embeddings()(tokens),
            past_key_values=cache,
            attention_mask=_own_columns(before, place + 1, prompts.dtype),
            position_ids=(lengths + place)[:, None].expand(-1, answers),
            use_cache=True,
        )
        cache, states = output.past_key_values, output.last_hidden_state
    return written


@contextmanager
def answering(module: nn.Module) -> Iterator[None]:
    """The module as it answers: no dropout, and with a cache, which recomputing would forbid."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def _own_columns(before: Tensor, written: int, dtype: torch.dtype) -> Tensor:
    """What the newest token of each answer reads: the prompt, and its own among the tokens written side by side.

    Args:
        before: bool [B, G, L] of the prompt.
        written: Tokens of each answer so far; they stand G by G behind the prompt.
        dtype: Of the mask, which is added to attention scores.

    Returns:
        [B, 1, G, L + written * G], 0 or the least number there is.
    """
    count, answers, _ = before.shape
    own = torch.eye(answers, dtype=torch.bool, device=before.device).repeat(1, written).expand(count, -1, -1)
    reads = torch.cat([before, own], dim=2)
    return torch.zeros(reads.shape, dtype=dtype, device=before.device).masked_fill_(~reads, torch.finfo(dtype).min)[
        :, None
    ]


def _drawn(logits: Tensor, chances: Tensor, never: Sequence[int]) -> Tensor:
    """Tokens [B, G] from logits [B, G, V] and numbers [B, G] in [0, 1)."""
    likely = torch.softmax(logits.float(), dim=-1).to(torch.float64)
    likely[..., list(never)] = 0.0
    passed = likely.cumsum(dim=-1)
    chosen = torch.searchsorted(passed, (chances * passed[..., -1])[..., None], right=True)[..., 0]
    return chosen.clamp(max=logits.shape[-1] - 1)


def _anywhere(going: Tensor) -> bool:
    """Whether any process still writes: those that share weights must all take the same steps."""
    left = going.any()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        left = left.to(torch.int32)
        torch.distributed.all_reduce(left, torch.distributed.ReduceOp.MAX)
    return bool(left)
