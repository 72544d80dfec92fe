"""Hard limits on several costs of the same paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from fna_lightning.choices import Decisions, Path
from fna_lightning.costs.knapsack import Term, cheapest_path
from fna_lightning.costs.table import UNITS, CostTable, amount_text
from fna_lightning.errors import ConfigError

_ROUNDS = 200
"""Of the search for a path that keeps all limits; each weighs those more that the last path broke."""


@dataclass(frozen=True)
class Limits:
    """Costs of a network's paths, each with the most that it may be; with none every path is allowed.

    Attributes:
        limits: a cost, and the most that it may be.
        least: that the first one's cost must reach; see `reaching`.
    """

    limits: Sequence[tuple[CostTable, float]] = ()
    least: float = 0.0

    def allow(self, path: Path) -> bool:
        """Whether `path` keeps all limits."""
        return self.excess(path) <= 0

    def excess(self, path: Path) -> float:
        """By how much `path` breaks limits, each a part of its own, summed; 0 for one that keeps them."""
        if not self.limits:
            return 0.0
        costs = [cost.of(path) for cost, _ in self.limits]
        over = sum(max(cost / limit - 1, 0.0) for cost, (_, limit) in zip(costs, self.limits, strict=True))
        return over + (max(1 - costs[0] / self.least, 0.0) if self.least else 0.0)

    def reaching(self, least: float, decisions: Decisions) -> Limits:
        """The same with a least cost for the first of them, where some path is found that keeps that too."""
        wanted = replace(self, least=least)
        return wanted if wanted._dear_path(decisions) is not None else self

    def kept_path(self, decisions: Decisions) -> list[int]:
        """A path that keeps all limits: the cheapest, where costs are weighed so that none breaks its limit.

        Args:
            decisions: of the network that the costs are of.

        Raises:
            ConfigError: where one limit cannot be met, or no path is found that keeps all.
        """
        if self.least and (dear := self._dear_path(decisions)) is not None:
            return dear
        for cost, limit in self.limits:
            cost.check_limit(limit)
        weights = np.ones(len(self.limits))
        for _ in range(_ROUNDS):
            path = decisions.path(cheapest_path(decisions.sizes, self._weighed(weights)))
            if self.allow(path):
                return path
            weights *= np.array([cost.of(path) / limit for cost, limit in self.limits])
            weights /= weights.sum()
        texts = [f"{amount_text(limit)} {UNITS[cost.quantity]}" for cost, limit in self.limits]
        raise ConfigError(f"no path was found within {' and '.join(texts)} at once: raise one of them")

    def _dear_path(self, decisions: Decisions) -> list[int] | None:
        """A path that reaches the least cost and keeps all limits; None where none is found."""
        (cost, limit), *others = self.limits
        uniform = [torch.full((size,), 1 / size) for size in cost.sizes]
        path = cost.best_within(limit, uniform, self.least)
        genes = decisions.genes(path)
        for place, size in enumerate(decisions.sizes) if others else ():
            options = [[*genes[:place], gene, *genes[place + 1 :]] for gene in range(size)]
            genes = min(options, key=lambda each: self.excess(decisions.path(each)))
        path = decisions.path(genes)
        return path if self.allow(path) else None

    def _weighed(self, weights: np.ndarray) -> list[Term]:
        return [
            Term(choices, costs * (weight / limit))
            for (cost, limit), weight in zip(self.limits, weights, strict=True)
            for choices, costs in cost.decided()
        ]
