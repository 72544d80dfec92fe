"""The cost of every candidate of a supernet, made once and analytically."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from fna_lightning.costs.counter import count_madds, on_meta
from fna_lightning.supernets import LayerChoice, Supernet


def tabulate(supernet: Supernet, input_size: tuple[int, int], channels: int = 3) -> None:
    """Fill `costs` of every choice and `fixed_cost` of `supernet`, for one image of `input_size` (H, W).

    Every candidate is counted at the resolution at which its choice stands in the network.
    """
    shell = on_meta(supernet).eval()
    shell.set_path([0] * len(shell.choices()))
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def remember(choice: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        shapes[choice] = tuple(inputs[0].shape[1:])

    for choice in shell.choices():
        choice.register_forward_pre_hook(remember)
    total = count_madds(shell, (channels, *input_size))
    on_path = 0
    for real, choice in zip(supernet.choices(), shell.choices(), strict=True):
        candidates = cast("LayerChoice", choice).candidates.values()
        costs = [count_madds(candidate, shapes[choice]) for candidate in candidates]
        real.costs.copy_(torch.tensor(costs, dtype=torch.float64))
        on_path += costs[0]
    supernet.fixed_cost = float(total - on_path)
