"""What a stage makes of a pass: a number to bring down. The trainer knows no more than this of any stage."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from torch import Tensor

from train.stages.collate import Inputs, label_count
from train.stages.network import TokenLogProbs

Run = Callable[[Inputs], TokenLogProbs]


class Objective(Protocol):
    """The loss of a step is the sum over all its passes on all processes, divided by the sum of their weights."""

    def weight(self, passes: Sequence[Inputs]) -> float:
        """What this process's passes of a step count."""

    def loss(self, run: Run, inputs: Inputs) -> Tensor:
        """The sum, a scalar, of one pass."""

    def figures(self) -> Mapping[str, float]:
        """Sums of what else is to be logged of this step's passes; the names are the same on every process."""


class NextToken:
    """Cross entropy of the answers' tokens, each counting alike."""

    def weight(self, passes: Sequence[Inputs]) -> float:
        """Tokens to learn."""
        return float(label_count(passes))

    def loss(self, run: Run, inputs: Inputs) -> Tensor:
        """Minus the sum of their log-probabilities."""
        return -run(inputs).logprobs.sum()

    def figures(self) -> Mapping[str, float]:
        """Nothing beside the loss."""
        return {}
