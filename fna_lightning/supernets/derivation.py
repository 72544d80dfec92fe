"""The best path under a hard limit of cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fna_lightning.errors import ConfigError

_STEPS = 20_000
_IMPROBABLE = -1e6
"""Stands for the logarithm of zero, so that a vanished probability stays above what the limit forbids."""


def best_path_within(
    values: Sequence[NDArray[np.float64]], costs: Sequence[NDArray[np.float64]], limit: float
) -> list[int]:
    """Choose one candidate per choice: largest sum of `values` with a sum of `costs` of at most `limit`.

    A multiple-choice knapsack, solved by dynamic programming over the cost in excess of the cheapest
    path, in `_STEPS` steps of equal size and rounded up: the limit always holds, and what is lost is at
    most one step a choice.

    Args:
        values: (n_i,) per choice, such as log-probabilities.
        costs: (n_i,) per choice, not negative.
        limit: in the unit of `costs`.

    Raises:
        ConfigError: where even the cheapest path exceeds `limit`.
    """
    cheapest = sum(float(row.min()) for row in costs)
    budget = limit - cheapest
    if budget < 0:
        raise ConfigError(
            f"a limit of {limit / 1e6:.1f} M multiply-adds cannot be met: "
            f"the cheapest path needs {cheapest / 1e6:.1f} M"
        )
    step = max(budget / _STEPS, 1e-9)
    best = np.zeros(_STEPS + 1)
    taken: list[NDArray[np.int64]] = []
    for value, cost in zip(values, costs, strict=True):
        excess = np.ceil((cost - cost.min()) / step - 1e-9).clip(max=_STEPS + 1).astype(np.int64)
        table = np.full((len(value), _STEPS + 1), -np.inf)
        for row, gain, needed in zip(table, np.maximum(value, _IMPROBABLE), excess, strict=True):
            row[needed:] = best[: max(_STEPS + 1 - needed, 0)] + gain
        taken.append(table.argmax(axis=0))
        best = table.max(axis=0)
        # Steps left over, so that the walk back knows how much each candidate used.
        taken[-1] = np.stack([taken[-1], excess[taken[-1]]])
    path, left = [], _STEPS
    for choice in reversed(taken):
        path.append(int(choice[0, left]))
        left -= int(choice[1, left])
    return path[::-1]
