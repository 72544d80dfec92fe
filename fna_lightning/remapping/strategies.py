"""The rules by name: which channels are kept, and where kernel taps go (spec FNA, section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fna_lightning.errors import ConfigError


@dataclass(frozen=True)
class Strategy:
    """A remapping rule.

    Attributes:
        width: which hidden channels survive where there are fewer: the first ones (FNA), or those of
            largest |scale| of their batch norm, standard deviation, or L1 norm (FNA, table 7).
        kernel: `centre` aligns the kernels' centres and pads with zeros (FNA); `dilation` spreads the
            taps evenly over a larger kernel.
        depth: what a stage's layers come from. `copy` counts those that are there, and repeats the seed's last one
            behind it (FNA). `identity` goes by their places, skips included, and lets a residual block behind the
            seed's last begin as an identity: a copy whose last norm has scale and offset zero, which learn first.
        refit: whether hidden channels are chosen and the convolution that reads them refitted by least squares,
            where the seed's moments are known (`Seed.moments`); `width` chooses where they are not.
    """

    width: Literal["first", "bn", "std", "l1"] = "first"
    kernel: Literal["centre", "dilation"] = "centre"
    depth: Literal["copy", "identity"] = "copy"
    refit: bool = False


STRATEGIES: dict[str, Strategy | None] = {
    "fna": Strategy(),
    "width_bn": Strategy(width="bn"),
    "width_std": Strategy(width="std"),
    "width_l1": Strategy(width="l1"),
    "kernel_dilation": Strategy(kernel="dilation"),
    "preserving": Strategy(width="bn", depth="identity", refit=True),
    "random": None,
}
"""The rules by name; `random` carries nothing over."""


def strategy_named(name: str) -> Strategy | None:
    """The rule of that name, None for `random`.

    Raises:
        ConfigError: for another name.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"remap.strategy={name}: give one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name]


def hidden_channels(rows: Tensor, scale: Tensor, wanted: int, strategy: Strategy) -> Tensor:
    """Indices, ascending, of the hidden channels of a block that survive.

    Args:
        rows: (hidden, ...) the convolution that makes the hidden channels.
        scale: (hidden,) weight of the batch norm behind it.
        wanted: hidden channels of the target.
        strategy: its `width` ranks the channels.
    """
    kept = min(wanted, rows.shape[0])
    if strategy.width == "first" or kept == rows.shape[0]:
        return torch.arange(kept)
    flat = rows.flatten(1)
    value = {
        "bn": lambda: scale.abs(),
        "std": lambda: flat.std(dim=1),
        "l1": lambda: flat.abs().sum(dim=1),
    }[strategy.width]()
    return value.topk(kept).indices.sort().values
