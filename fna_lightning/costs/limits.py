"""Hard limits on several costs of the same paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fna_lightning.choices import Path
from fna_lightning.costs.knapsack import Term, cheapest_path
from fna_lightning.costs.table import UNITS, CostTable, amount_text
from fna_lightning.errors import ConfigError

_ROUNDS = 200
"""Of the search for a path that keeps all limits; each weighs those more that the last path broke."""


@dataclass(frozen=True)
class Limits:
    """Costs of a network's paths, each with the most that it may be; with none every path is allowed."""

    limits: Sequence[tuple[CostTable, float]] = ()

    def allow(self, path: Path) -> bool:
        """Whether `path` keeps all limits."""
        return all(cost.of(path) <= limit for cost, limit in self.limits)

    def kept_path(self, sizes: Sequence[int]) -> list[int]:
        """A path that keeps all limits: the cheapest, where costs are weighed so that none breaks its limit.

        Args:
            sizes: candidates of each choice.

        Raises:
            ConfigError: where one limit cannot be met, or no path is found that keeps all.
        """
        for cost, limit in self.limits:
            cost.check_limit(limit)
        weights = np.ones(len(self.limits))
        for _ in range(_ROUNDS):
            path = cheapest_path(sizes, self._weighed(weights))
            if self.allow(path):
                return path
            weights *= np.array([cost.of(path) / limit for cost, limit in self.limits])
            weights /= weights.sum()
        texts = [f"{amount_text(limit)} {UNITS[cost.quantity]}" for cost, limit in self.limits]
        raise ConfigError(f"no path was found within {' and '.join(texts)} at once: raise one of them")

    def _weighed(self, weights: np.ndarray) -> list[Term]:
        return [
            Term(choices, costs * (weight / limit))
            for (cost, limit), weight in zip(self.limits, weights, strict=True)
            for choices, costs in cost.terms
        ]
