"""Mean and covariance of what convolutions read, over pictures and positions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fna_lightning.checkpoints import Moments


@torch.no_grad()
def measure_moments(
    network: nn.Module, inputs: Iterable[Tensor], readers: Mapping[str, nn.Module]
) -> dict[str, Moments]:
    """The moments of what each of `readers` is called with when `network` runs on `inputs` as in training.

    Args:
        network: is left in training mode, its running statistics moved.
        inputs: what it runs on, one after the other.
        readers: modules in it that are called with maps (N, C, H, W), by any name.

    Returns:
        Of every reader that was called, by its name.
    """
    counts: dict[str, int] = {}
    sums: dict[str, tuple[Tensor, Tensor]] = {}

    def observer(name: str) -> Any:
        def observe(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            flat = arguments[0].transpose(0, 1).flatten(1).double()
            total, products = sums.get(name, (0.0, 0.0))
            counts[name] = counts.get(name, 0) + flat.shape[1]
            sums[name] = total + flat.sum(dim=1), products + flat @ flat.T

        return observe

    hooks = [reader.register_forward_pre_hook(observer(name)) for name, reader in readers.items()]
    try:
        network.train()
        for value in inputs:
            network(value)
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    for name, (total, products) in sums.items():
        mean = total / counts[name]
        found[name] = Moments(mean.cpu(), (products / counts[name] - mean.outer(mean)).cpu())
    return found
