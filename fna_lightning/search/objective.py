"""The cost term of the architecture objective."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fna_lightning.costs import CostTable
from fna_lightning.errors import ConfigError

GIGA = 1e9


@dataclass(frozen=True)
class CostObjective:
    """lambda * log_tau(cost), or lambda * |log_tau(cost / target)| (FNA, equation 6; spec FNA 3.3).

    The bare term pulls for ever towards cheap candidates, and searches have collapsed to skips under it.
    With a target the pull ends, and turns round, where the network costs what was asked for: the one that the most
    probable candidates make, since a mixture of that cost may hold a path of half of it.

    Attributes:
        weight: lambda.
        log_base: tau.
        target: cost of all that is counted, in the unit and at the input size of the table.

    Raises:
        ConfigError: for values with which there is no logarithm.
    """

    weight: float
    log_base: float = 10.0
    target: float | None = None

    def __post_init__(self) -> None:
        if self.log_base <= 0 or self.log_base == 1:
            raise ConfigError(f"cost.log_base={self.log_base}: give a positive number other than 1")
        if self.target is not None and self.target <= 0:
            raise ConfigError(f"cost.target={self.target}: give multiply-adds or parameters, such as 3.0e9")

    def __call__(self, cost: CostTable, weights: Sequence[Tensor]) -> Tensor:
        """Scalar float64, differentiable in the mixture's `weights`.

        Without a target FNA's term counts the choices alone. With one, the cost is that of the most probable path,
        and its gradient goes straight through to the mixture's weights.
        """
        if self.target is None:
            ratio = (cost.searched(weights) / GIGA).log()
        else:
            ratio = (cost.expected(_most_probable(cost, weights)) / self.target).log().abs()
        return self.weight / math.log(self.log_base) * ratio


def _most_probable(cost: CostTable, weights: Sequence[Tensor]) -> list[Tensor]:
    """(n,) per choice: one on the most probable path and zero elsewhere, with the gradient of `weights`."""
    taken = cost.decisions.taken([row.detach() for row in weights])
    return [one + row - row.detach() for one, row in zip(taken, weights, strict=True)]
