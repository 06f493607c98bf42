"""`a+b*0.3+c:1000`: which samples an epoch holds and in which order; the same on every machine for one seed.

`*0.3` takes three tenths of a data set in an epoch, other ones in the next until all had their turn; `*2` takes each
twice. `:1000` takes at most a thousand. Both together: `a*0.5:1000`.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import ConfigError
from train.data.registry import DatasetEntry, Registry

Indices = npt.NDArray[np.int64]

FORM = "NAME, NAME*0.3 (three tenths of it in an epoch), NAME:1000 (at most so many) or NAME*0.3:1000, joined by +"
LARGEST_WEIGHT = 1000.0

_TERM = re.compile(r"(?P<name>[^*:\s]+)(?:\*(?P<weight>[^*:]+))?(?::(?P<limit>\d+))?")


@dataclass(frozen=True)
class Ingredient:
    """One data set of a mixture."""

    dataset: DatasetEntry
    weight: float = 1.0  # how often each of its samples occurs in an epoch, on average
    limit: int | None = None  # samples in an epoch, at most

    def per_epoch(self, available: int) -> int:
        """How many samples an epoch takes of so many."""
        wanted = round(self.weight * available)
        return wanted if self.limit is None else min(wanted, self.limit)


def parse_mixture(text: str, registry: Registry) -> tuple[Ingredient, ...]:
    """Read a mixture as a user writes it.

    Raises:
        ConfigError: Not of this form, an unknown name (the nearest is told), or a name twice.
    """
    ingredients = tuple(_ingredient(term.strip(), registry) for term in text.split("+"))
    names = [i.dataset.name for i in ingredients]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"mixture {text!r} names {twice} more than once; write {twice}*2 to take it twice")
    return ingredients


class Mixture:
    """The samples of every epoch.

    Args:
        ingredients: What is mixed.
        available: Samples (or packs of them) of each.
        seed: Of the order.

    Raises:
        ConfigError: An ingredient gives no sample.
    """

    def __init__(self, ingredients: Sequence[Ingredient], available: Sequence[int], *, seed: int) -> None:
        self._seed = seed
        self._available = tuple(available)
        self.counts = tuple(i.per_epoch(n) for i, n in zip(ingredients, available, strict=True))
        self._names = tuple(i.dataset.name for i in ingredients)
        for ingredient, n, count in zip(ingredients, available, self.counts, strict=True):
            if count == 0:
                asked = f"weight {ingredient.weight:g} and limit {ingredient.limit}"
                raise ConfigError(f"{ingredient.dataset.name} has {n} samples, of which {asked} take none")

    def __len__(self) -> int:
        """Samples in an epoch."""
        return sum(self.counts)

    def epoch(self, number: int) -> Indices:
        """The samples of one epoch in their order.

        Args:
            number: From 0.

        Returns:
            int64 [len(self), 2]: data set, sample of it.
        """
        chosen = [self._chosen(k, number) for k in range(len(self.counts))]
        which = np.repeat(np.arange(len(chosen)), [len(c) for c in chosen])
        together = np.stack([which, np.concatenate(chosen)], axis=1)
        order = np.random.default_rng([self._seed, 1, number]).permutation(len(together))
        return together[order]

    def _chosen(self, dataset: int, epoch: int) -> Indices:
        """The next `count` of a fixed shuffled circle, so that all have had their turn before one has two more."""
        circle = np.random.default_rng([self._seed, 0, _name_seed(self._names[dataset])])
        shuffled = circle.permutation(self._available[dataset])
        count = self.counts[dataset]
        return shuffled[(epoch * count + np.arange(count)) % len(shuffled)]


def _name_seed(name: str) -> int:
    """A data set is shuffled alike whatever it is mixed with."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "little")


def _ingredient(term: str, registry: Registry) -> Ingredient:
    found = _TERM.fullmatch(term)
    if found is None:
        raise ConfigError(f"{term!r} in a mixture is not {FORM}")
    limit = None if found["limit"] is None else int(found["limit"])
    if limit == 0:
        raise ConfigError(f"{term!r} takes no sample; leave it out")
    return Ingredient(registry.find(found["name"]), _weight(found["weight"], term), limit)


def _weight(text: str | None, term: str) -> float:
    if text is None:
        return 1.0
    try:
        weight = float(text)
    except ValueError:
        raise ConfigError(f"{text!r} in {term!r} is no weight; mixtures are {FORM}") from None
    if not math.isfinite(weight) or not 0.0 < weight <= LARGEST_WEIGHT:
        raise ConfigError(f"weight {text} in {term!r} is not above 0 and at most {LARGEST_WEIGHT:g}")
    return weight
