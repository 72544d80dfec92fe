"""A choice: named candidates, of which a path takes one and a mixture all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fna_lightning.errors import ConfigError

START_DEVIATION = 1e-3
"""Architecture parameters start as N(0, 1e-3) (spec FNA 2.3)."""


class Choice(nn.Module):
    """One decision of a search space; how its candidates are computed is a subclass's affair.

    One choice may govern several places: a module that runs on several maps, or that several modules hold.
    It is set through the view `Choices`, which finds it once, and holds no parameter of its own.

    Attributes:
        names: the candidates' names; a path names one of them by its index.
        active: the candidate of the path; None for the mixture.
        weights: (n,) by which the mixture adds its candidates; None for a path.
        start: (n,) where the architecture parameters of a gradient search begin. Drawn here, among the layers,
            so that one random seed fixes a supernet whole; no part of its state.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.active: int | None = None
        self.weights: Tensor | None = None
        self.start = START_DEVIATION * torch.randn(len(self.names))

    def __getstate__(self) -> dict[str, Any]:
        """For copies, which do not take part in the gradient of the mixture that is set."""
        weights = None if self.weights is None else self.weights.detach()
        return {**self.__dict__, "weights": weights}

    def mixture(self) -> Tensor:
        """(n,) the weights of the mixture.

        Raises:
            RuntimeError: where neither a path nor a mixture was set.
        """
        if self.weights is None:
            raise RuntimeError("no candidate is chosen: call set_path or set_mixture of Choices(network) first")
        return self.weights


class LayerChoice(Choice):
    """A choice between whole layers that are computed separately (FNA, equation 4).

    Layers that return several maps, such as an exposed `InvertedResidual`, have each of them mixed.
    """

    def __init__(self, candidates: Mapping[str, nn.Module]) -> None:
        super().__init__(list(candidates))
        self.candidates = nn.ModuleDict(candidates)

    @staticmethod
    def name_of(layer: str, candidate: str) -> str:
        """The module name of `candidate` in a network where the choice's own is `layer`."""
        return f"{layer}.candidates.{candidate}"

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The active candidate's output, or the weighted sum of all."""
        if self.active is not None:
            return self.candidates[self.names[self.active]](x)
        weights = self.mixture()
        outputs = [layer(x) for layer in self.candidates.values()]
        if isinstance(outputs[0], tuple):
            return tuple(weighted_sum(weights, maps) for maps in zip(*outputs, strict=True))
        return weighted_sum(weights, outputs)


class ValueChoice(Choice):
    """A choice between numbers that modules read, such as the channels of a stage.

    A module that computes by it holds it as a submodule: that is how its cost is known to depend on it, and how
    one number governs several places.

    Args:
        values: positive, ascending, each once.

    Raises:
        ConfigError: where they are not.
    """

    _in_use: Tensor

    def __init__(self, values: Sequence[int]) -> None:
        super().__init__([str(value) for value in values])
        if not values or min(values) < 1 or sorted(set(values)) != list(values):
            raise ConfigError(
                f"a choice between the numbers {list(values)}: give positive ones, ascending, each once"
            )
        self.values = tuple(values)
        self.largest = values[-1]
        in_use = torch.arange(self.largest)[:, None] < torch.tensor(self.values)
        self.register_buffer("_in_use", in_use, persistent=False)

    @property
    def value(self) -> int | None:
        """The path's number; None for the mixture, which has `prefix_weights`."""
        return None if self.active is None else self.values[self.active]

    def prefix_weights(self) -> Tensor:
        """(largest,) how likely each channel is in use: the summed weights of all larger numbers."""
        return (self.mixture() * self._in_use).sum(dim=1)


def weighted_sum(weights: Tensor, maps: Iterable[Tensor]) -> Tensor:
    """The sum of `maps`, all of one shape, by the (n,) `weights`."""
    terms = (weight * each for weight, each in zip(weights, maps, strict=True))
    total = next(terms)
    for term in terms:
        total = total + term
    return total
