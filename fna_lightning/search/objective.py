"""The cost term of the architecture objective."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from fna_lightning.errors import ConfigError
from fna_lightning.supernets import Supernet

GIGA = 1e9


@dataclass(frozen=True)
class CostObjective:
    """lambda * log_tau(cost), or lambda * |log_tau(cost / target)| (FNA, equation 6; spec FNA 3.3).

    The bare term pulls for ever towards cheap candidates, and searches have collapsed to skips under it.
    With a target the pull ends, and turns round, where the network costs what was asked for; the
    derived network then never exceeds it.

    Attributes:
        weight: lambda.
        log_base: tau.
        target: multiply-adds of the whole backbone, at the input size at which costs were tabulated.

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
            raise ConfigError(f"cost.target={self.target}: give multiply-adds, such as 3.0e9")

    def __call__(self, supernet: Supernet) -> Tensor:
        """Scalar float64, differentiable in the supernet's alphas."""
        cost = supernet.expected_cost()
        if self.target is None:
            ratio = (cost / GIGA).log()
        else:
            ratio = ((cost + supernet.fixed_cost) / self.target).log().abs()
        return self.weight / math.log(self.log_base) * ratio

    def limit(self, supernet: Supernet) -> float | None:
        """What the choices of a derived network may cost together; None without target."""
        return None if self.target is None else self.target - supernet.fixed_cost
