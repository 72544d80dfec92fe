"""From where an evolution draws paths, those that train its supernet and those that it scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fna_lightning.choices import Path


def propose(
    sizes: Sequence[int], near_seed: float, seed_path: Path | None, believed: Sequence[Tensor] | None
) -> list[Tensor]:
    """(n,) probabilities per choice.

    Args:
        sizes: candidates of each choice.
        near_seed: with which a choice takes the candidate of the seed's own network.
        seed_path: that network's; None where the space has it not, and nothing is near it.
        believed: (n,) what is drawn otherwise, as by another search's architecture parameters; uniform without.
    """
    rows = [torch.full((size,), 1 / size) for size in sizes] if believed is None else list(believed)
    if seed_path is None:
        return rows
    near = [(1 - near_seed) * row for row in rows]
    for row, index in zip(near, seed_path, strict=True):
        row[index] += near_seed
    return near
