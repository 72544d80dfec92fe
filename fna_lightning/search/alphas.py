"""The architecture parameters of a gradient search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from fna_lightning.choices import Choices
from fna_lightning.costs import CostTable
from fna_lightning.errors import ConfigError
from fna_lightning.search.signal import GradientSignal

Derivation = Literal["probability", "raw"]
"""What a derivation compares across choices: the softmax of each (DARTS), or the parameters as such (FAD)."""


class Alphas(nn.Module):
    """One tensor of architecture parameters a choice; its softmax says what the search believes.

    Args:
        choices: what is searched; `Choice.start` is where the parameters begin.
        temperature: divides them in the mixture's softmax alone (SSDLite's release uses 0.9; spec FNA, Q6).
        derive: what `preferences` are.

    Attributes:
        signal: of the gradients that the losses have given them since it was last asked.

    Raises:
        ConfigError: where there is nothing to search.
    """

    def __init__(self, choices: Choices, temperature: float = 1.0, derive: Derivation = "probability") -> None:
        super().__init__()
        if not len(choices):
            raise ConfigError("the search needs a network with choices")
        self.values = nn.ParameterList(nn.Parameter(choice.start.clone()) for choice in choices)
        self.temperature = temperature
        self.derive: Derivation = derive
        self.signal = GradientSignal([len(value) for value in self.values])

    def weights(self) -> list[Tensor]:
        """(n,) per choice: softmax over the temperature, by which the mixture adds its candidates."""
        return [torch.softmax(value / self.temperature, dim=0) for value in self.values]

    def probabilities(self) -> list[Tensor]:
        """(n,) per choice: softmax, on the CPU and without gradient; one transfer for all."""
        return [torch.softmax(row, dim=0) for row in self._rows()]

    def exponentials(self) -> list[Tensor]:
        """(n,) float64 per choice: exp(alpha - the largest alpha of all), likewise; rows do not add up to one.

        Their logarithms compare candidates of different choices by the parameters themselves, as FAD does
        (spec FAD 3.5). Within one choice that is the order of the probabilities.
        """
        rows = [row.double() for row in self._rows()]
        largest = torch.cat(rows).max()
        return [(row - largest).exp() for row in rows]

    def preferences(self) -> list[Tensor]:
        """(n,) per choice: by what a network is derived, `probabilities` or `exponentials`."""
        return self.probabilities() if self.derive == "probability" else self.exponentials()

    def _rows(self) -> list[Tensor]:
        """The parameters, on the CPU and without gradient."""
        flat = torch.cat([value.detach() for value in self.values]).float().cpu()
        return list(flat.split([len(value) for value in self.values]))


def likely_paths(
    cost: CostTable,
    probabilities: Sequence[Tensor],
    limit: float | None,
    least: float | None,
    number: int,
    random_seed: int,
) -> list[list[int]]:
    """The most probable path within the limits, and others drawn from among these by their probability.

    A draw is the best path under log-probabilities to which Gumbel noise is added. Rows that do not add up to one
    are compared as they are.

    Args:
        cost: of the paths.
        probabilities: (n,) per choice, on the CPU; see `Alphas.preferences`.
        limit: see `CostTable.best_within`, as for `least`.
        least: likewise.
        number: of different paths; there are fewer where the draws find no more.
        random_seed: fixes the draws.
    """
    found = [cost.best_within(limit, probabilities, least)]
    generator = torch.Generator().manual_seed(random_seed)
    for _ in range(10 * number if number > 1 else 0):
        noisy = []
        for row in probabilities:
            gumbel = -torch.empty_like(row).exponential_(generator=generator).log()
            noisy.append(row.log() + gumbel)
        largest = torch.cat(noisy).max()
        path = cost.best_within(limit, [(row - largest).exp() for row in noisy], least)
        if path not in found and len(found) < number:
            found.append(path)
    return found
