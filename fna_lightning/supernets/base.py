"""What can be asked of every supernet, written once over its choices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from fna_lightning.architectures import Architecture
from fna_lightning.errors import ConfigError
from fna_lightning.supernets.choice import Choice
from fna_lightning.supernets.derivation import best_path_within

Policy = Literal["uniform", "probability"]


class Supernet(nn.Module, ABC):
    """A network that contains choices.

    A path is one candidate index per choice, in the order of `choices()`. Costs are multiply-adds of
    the choices alone, which is what FNA's objective sums (spec FNA 3.3); the layers that stay cost
    `fixed_cost`. A space whose candidates' costs depend on each other overrides `expected_cost` and
    `path_cost`.
    """

    fixed_cost: float = 0.0

    @cached_property
    def _choices(self) -> list[Choice]:
        # Kept, because every step asks for them and the walk visits thousands of modules.
        return [module for module in self.modules() if isinstance(module, Choice)]

    def choices(self) -> list[Choice]:
        """All choices, in the order in which the network was built."""
        return self._choices

    def alphas(self) -> list[nn.Parameter]:
        """The architecture parameters, one tensor a choice."""
        return [choice.alpha for choice in self.choices()]

    def set_path(self, path: Sequence[int]) -> None:
        """Compute only the candidates of `path` from now on.

        Raises:
            ConfigError: where `path` does not name one candidate for every choice.
        """
        choices = self.choices()
        if len(path) != len(choices):
            raise ConfigError(f"a path of {len(path)} entries: this supernet has {len(choices)} choices")
        for number, (choice, index) in enumerate(zip(choices, path, strict=True)):
            if not 0 <= index < len(choice.names):
                raise ConfigError(f"path entry {number} is {index}: choose 0 to {len(choice.names) - 1}")
        for choice, index in zip(choices, path, strict=True):
            choice.active = int(index)

    def set_mixture(self) -> None:
        """Compute every candidate and add them by their softmax weights from now on."""
        for choice in self.choices():
            choice.active = None

    def probabilities(self) -> list[Tensor]:
        """Softmax of alpha of each choice, on the CPU, without gradient: one transfer for all."""
        choices = self.choices()
        flat = torch.cat([choice.alpha.detach() for choice in choices]).float().cpu()
        return [torch.softmax(row, dim=0) for row in flat.split([len(choice.names) for choice in choices])]

    def sample_path(self, seed: int, iteration: int, policy: Policy = "uniform") -> list[int]:
        """Draw one candidate per choice, independently; a function of (seed, iteration) and of alpha.

        Every rank therefore draws the same path without communication, and a resumed run draws what
        the uninterrupted one would have drawn. `probability` reads alpha from the device (one transfer).
        """
        draws = np.random.default_rng([seed, iteration]).random(len(self.choices()))
        if policy == "uniform":
            sizes = [len(choice.names) for choice in self.choices()]
            return [int(draw * size) for draw, size in zip(draws, sizes, strict=True)]
        path = []
        for draw, row in zip(draws, self.probabilities(), strict=True):
            steps = np.cumsum(row.numpy().astype(np.float64))
            path.append(int(np.searchsorted(steps / steps[-1], draw, side="right")))
        return path

    def best_path(self, limit: float | None = None) -> list[int]:
        """The most probable candidate of every choice, the first one where several are equal.

        Args:
            limit: multiply-adds of the choices that must not be exceeded; then the path of the
                largest product of probabilities within it.

        Raises:
            ConfigError: where no path is as cheap as `limit`.
        """
        probabilities = self.probabilities()
        path = [int(row.argmax()) for row in probabilities]
        if limit is None or self.path_cost(path) <= limit:
            return path
        logs = [row.double().log().numpy() for row in probabilities]
        return best_path_within(logs, [choice.costs.cpu().numpy() for choice in self.choices()], limit)

    def expected_cost(self) -> Tensor:
        """Scalar float64: multiply-adds expected under the mixture's weights, differentiable in alpha."""
        choices = self.choices()
        terms = [(choice.mixture_weights().double() * choice.costs).sum() for choice in choices]
        return torch.stack(terms).sum()

    def path_cost(self, path: Sequence[int]) -> float:
        """Multiply-adds of the candidates of `path`."""
        return float(sum(c.costs[index].item() for c, index in zip(self.choices(), path, strict=True)))

    def derive(self, limit: float | None = None) -> Architecture:
        """The architecture of `best_path(limit)`."""
        return self.architecture_of(self.best_path(limit))

    @abstractmethod
    def architecture_of(self, path: Sequence[int]) -> Architecture:
        """The network that `path` stands for."""
