"""The architecture parameters of a gradient search."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fna_lightning.choices import Choices
from fna_lightning.errors import ConfigError


class Alphas(nn.Module):
    """One tensor of architecture parameters a choice; its softmax says what the search believes.

    Args:
        choices: what is searched; `Choice.start` is where the parameters begin.
        temperature: divides them in the mixture's softmax alone (SSDLite's release uses 0.9; spec FNA, Q6).

    Raises:
        ConfigError: where there is nothing to search.
    """

    def __init__(self, choices: Choices, temperature: float = 1.0) -> None:
        super().__init__()
        if not len(choices):
            raise ConfigError("the search needs a network with choices")
        self.values = nn.ParameterList(nn.Parameter(choice.start.clone()) for choice in choices)
        self.temperature = temperature

    def weights(self) -> list[Tensor]:
        """(n,) per choice: softmax over the temperature, by which the mixture adds its candidates."""
        return [torch.softmax(value / self.temperature, dim=0) for value in self.values]

    def probabilities(self) -> list[Tensor]:
        """(n,) per choice: softmax, on the CPU and without gradient; one transfer for all."""
        flat = torch.cat([value.detach() for value in self.values]).float().cpu()
        return [torch.softmax(row, dim=0) for row in flat.split([len(value) for value in self.values])]
