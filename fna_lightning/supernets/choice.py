"""A choice: candidates, one architecture parameter and one cost per candidate, and what is active."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

ALPHA_INIT_DEVIATION = 1e-3
"""Architecture parameters start as N(0, 1e-3) (spec FNA 2.3)."""


class Choice(nn.Module):
    """One decision of a search space; how its candidates are computed is a subclass's affair.

    Attributes:
        names: the candidates' names, in the order of `alpha`.
        alpha: (n,) architecture parameters.
        costs: (n,) float64, multiply-adds of each candidate; zeros until `fna_lightning.costs.tabulate`.
        active: the candidate of the path, or None for the softmax mixture of all.
        temperature: divides alpha in the mixture's softmax (SSDLite's release uses 0.9; spec FNA, Q6).
    """

    costs: Tensor

    def __init__(self, names: Sequence[str], temperature: float = 1.0) -> None:
        super().__init__()
        self.names = tuple(names)
        self.alpha = nn.Parameter(ALPHA_INIT_DEVIATION * torch.randn(len(self.names)))
        # A function of the space and the input size, made anew with every supernet.
        self.register_buffer("costs", torch.zeros(len(self.names), dtype=torch.float64), persistent=False)
        self.active: int | None = None
        self.temperature = temperature

    def mixture_weights(self) -> Tensor:
        """(n,) softmax of alpha over the temperature, by which the mixture adds its candidates."""
        return torch.softmax(self.alpha / self.temperature, dim=0)


class LayerChoice(Choice):
    """A choice between whole layers that are computed separately (FNA, equation 4).

    Layers that return several maps, such as an exposed `InvertedResidual`, have each of them mixed.
    """

    def __init__(self, candidates: Mapping[str, nn.Module], temperature: float = 1.0) -> None:
        super().__init__(list(candidates), temperature)
        self.candidates = nn.ModuleDict(candidates)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The active candidate's output, or the weighted sum of all."""
        if self.active is not None:
            return self.candidates[self.names[self.active]](x)
        weights = self.mixture_weights()
        outputs = [layer(x) for layer in self.candidates.values()]
        if isinstance(outputs[0], tuple):
            return tuple(weighted_sum(weights, maps) for maps in zip(*outputs, strict=True))
        return weighted_sum(weights, outputs)


def weighted_sum(weights: Tensor, maps: Iterable[Tensor]) -> Tensor:
    """The sum of `maps`, all of one shape, by the (n,) `weights`."""
    terms = (weight * each for weight, each in zip(weights, maps, strict=True))
    total = next(terms)
    for term in terms:
        total = total + term
    return total
