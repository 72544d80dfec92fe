"""Paths for the training of a supernet that are drawn evenly over ranges of their cost (spec DetNAS 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from fna_lightning.costs import CostTable
from fna_lightning.errors import ConfigError

_TRIES = 500


class CostBins:
    """Draws a bin of costs, and uniform paths until one costs what the bin says.

    Uniform paths alone crowd around a mean cost: of DetNAS's 300M space 1 % are in the cheapest of its seven bins
    of 10 M multiply-adds, 32 % in the middle one.

    Args:
        cost: of the paths.
        edges: of the bins, ascending, in its unit.

    Raises:
        ConfigError: where the edges do not ascend, or no path costs what some bin says.
    """

    def __init__(self, cost: CostTable, edges: Sequence[float]) -> None:
        low, high = cost.bounds()
        if len(edges) < 2 or any(upper <= lower for lower, upper in pairwise(edges)):
            raise ConfigError(f"search.cost_bins={list(edges)}: give the edges of the bins, ascending")
        if edges[1] <= low or edges[-2] > high:
            raise ConfigError(
                f"search.cost_bins={list(edges)}: paths cost {low:.4g} to {high:.4g}, so that a bin is empty"
            )
        self._cost = cost
        self._edges = tuple(edges)

    def __call__(self, random_seed: int, iteration: int) -> list[int]:
        """The path of an iteration, the same on every rank; any one where 500 draws meet no path of the bin."""
        rng = np.random.default_rng([random_seed, iteration])
        number = int(rng.integers(len(self._edges) - 1))
        paths = rng.integers(self._cost.sizes, size=(_TRIES, len(self._cost.sizes)))
        costs = self._cost.of_all(paths)
        fits = (costs >= self._edges[number]) & (costs < self._edges[number + 1])
        return paths[int(fits.argmax())].tolist()
