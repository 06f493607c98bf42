"""Muon on matrices, AdamW on the rest, over float32 masters of whatever precision the network computes in."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# Tables and outputs are matrices by shape only: their rows are things of their own.
_NOT_FOR_MUON = ("embed_tokens", "position_embedding", "lm_head", "heads.")


@dataclass(frozen=True)
class Rates:
    """Learning rates and what goes with them."""

    matrices: float = 2e-3
    rest: float = 1e-3
    decay: float = 0.02  # of weights, not of rates
    momentum: float = 0.95
    max_norm: float = 1.0  # gradients are clipped to it


class Optimiser:
    """Steps the masters of some of a network's parameters and copies them back.

    Args:
        network: Whose parameters.
        learning: Names of those that learn; all others are frozen.
        rates: Learning rates.
        precise: Float32 values of parameters, where they are known better than the network holds them.
    """

    def __init__(
        self, network: nn.Module, learning: Iterable[str], rates: Rates, precise: Mapping[str, Tensor] | None = None
    ) -> None:
        wanted, known = frozenset(learning), precise or {}
        self.rates = rates
        self.live: dict[str, nn.Parameter] = {}
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in wanted)
            if name in wanted:
                self.live[name] = parameter
        self.masters = {name: _master(live, known.get(name)) for name, live in self.live.items()}
        matrices = [n for n, p in self.masters.items() if p.ndim == 2 and not any(w in n for w in _NOT_FOR_MUON)]
        rest = [n for n in self.masters if n not in set(matrices)]
        self._steppers: list[torch.optim.Optimizer] = [self._adam(rest)]
        if matrices:
            self._steppers.append(self._muon(matrices))
        self._base = [[group["lr"] for group in stepper.param_groups] for stepper in self._steppers]

    def step(self, share_of_rate: float) -> float:
        """Apply the gradients at that share of the full rates and clear them; returns their norm before clipping."""
        for name, live in self.live.items():
            master = self.masters[name]
            if master is not live:
                master.grad = None if live.grad is None else live.grad.float()
                live.grad = None
        norm = float(nn.utils.clip_grad_norm_(self.masters.values(), self.rates.max_norm))
        for stepper, base in zip(self._steppers, self._base, strict=True):
            for group, rate in zip(stepper.param_groups, base, strict=True):
                group["lr"] = rate * share_of_rate
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        self._copy_back()
        return norm

    def state(self) -> list[dict[str, Any]]:
        """What the update rules remember, as tensors and plain values; the masters themselves are not in it."""
        return [stepper.state_dict() for stepper in self._steppers]

    def load(self, weights: Mapping[str, Tensor], state: Sequence[dict[str, Any]]) -> None:
        """Go on with these float32 weights and this `state`."""
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(weights[name])
        for stepper, saved in zip(self._steppers, state, strict=True):
            stepper.load_state_dict(saved)
        self._copy_back()

    @torch.no_grad()
    def _copy_back(self) -> None:
        for name, live in self.live.items():
            if self.masters[name] is not live:
                live.copy_(self.masters[name])

    def _adam(self, names: list[str]) -> torch.optim.Optimizer:
        tables = [self.masters[n] for n in names if self.masters[n].ndim >= 2]
        vectors = [self.masters[n] for n in names if self.masters[n].ndim < 2]
        groups = [{"params": tables, "weight_decay": self.rates.decay}, {"params": vectors, "weight_decay": 0.0}]
        return torch.optim.AdamW(
            [g for g in groups if g["params"]], lr=self.rates.rest, betas=(0.9, 0.95), foreach=True
        )

    def _muon(self, names: list[str]) -> torch.optim.Optimizer:
        return torch.optim.Muon(
            [self.masters[n] for n in names],
            lr=self.rates.matrices,
            weight_decay=self.rates.decay,
            momentum=self.rates.momentum,
            adjust_lr_fn="match_rms_adamw",
        )


def _master(parameter: nn.Parameter, precise: Tensor | None) -> nn.Parameter:
    """The parameter itself if it is float32, else a float32 copy."""
    if parameter.dtype == torch.float32:
        return parameter
    return nn.Parameter((parameter if precise is None else precise).detach().float().clone())


def rate_share(step: int, progress: float, *, warm_steps: int, decay_share: float, floor: float = 0.02) -> float:
    """Warm-up by steps, then constant, then down in a straight line over the last `decay_share` of the time."""
    warm = min(1.0, (step + 1) / warm_steps)
    if progress < 1 - decay_share:
        return warm
    return warm * max(floor, (1 - progress) / decay_share)
