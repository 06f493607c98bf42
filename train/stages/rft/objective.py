"""Group-relative policy optimisation: what comes of a pass of rewarded answers.

Every answer is drawn from the very weights that then take one step, so the ratio of new to old probabilities is 1 where
its gradient is taken and there is nothing to clip. The distance to where the policy began is estimated for each token
as r - log r - 1 with r = reference / policy, which is never negative. Answers count alike, whatever their length.

Source: GRPO (arXiv 2402.03300); RoboRefer (arXiv 2506.04308).
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from train.stages.collate import Inputs
from train.stages.objective import Run
from train.stages.rft.rewards import PARTS, PROCESS_WEIGHT


class GroupRelative:
    """Advantage of every answer's tokens, less how far they are from the reference.

    Args:
        reference: The model as it was before the run; frozen here.
        kl_weight: What the distance counts.
        autocast: In which precision the reference computes.
    """

    def __init__(
        self, reference: nn.Module, kl_weight: float, autocast: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._reference = reference.requires_grad_(False).eval()
        self._kl_weight, self._autocast = kl_weight, autocast
        self._sums: dict[str, float] = {}

    def weight(self, passes: Sequence[Inputs]) -> float:
        """Answers."""
        return float(sum(len(inputs["answer_tokens"]) for inputs in passes))

    def loss(self, run: Run, inputs: Inputs) -> Tensor:
        """The sum over answers of their tokens' mean."""
        own = run(inputs).logprobs  # [N]
        with torch.no_grad(), self._autocast():
            reference = self._reference(inputs).logprobs
        lengths = inputs["answer_tokens"]
        share = (1.0 / lengths).repeat_interleave(lengths)
        advantage = inputs["advantages"].repeat_interleave(lengths)
        apart = reference - own
        kl = torch.exp(apart) - apart - 1.0
        self._note(inputs, float((kl.detach() * share).sum()))
        ratio = torch.exp(own - own.detach())
        return ((self._kl_weight * kl - ratio * advantage) * share).sum()

    def figures(self) -> dict[str, float]:
        """Sums over the answers since it was last asked: rewards by part, distance, tokens."""
        sums, self._sums = self._sums, {}
        return sums

    def _note(self, inputs: Inputs, kl: float) -> None:
        parts = {f"reward_{name}": float(column.sum()) for name, column in zip(PARTS, inputs["rewards"].T, strict=True)}
        total = parts["reward_format"] + parts["reward_point"]
        total += PROCESS_WEIGHT * (parts["reward_process_format"] + parts["reward_process_accuracy"])
        sums = {
            "reward": total,
            **parts,
            "kl": kl,
            "answer_tokens": float(inputs["answer_tokens"].sum()),
            "ended": float(inputs["ended"].sum()),
            "taught": float((inputs["advantages"] != 0).sum()),  # of groups that are not all alike
        }
        self._sums = {name: self._sums.get(name, 0.0) + value for name, value in sums.items()}
