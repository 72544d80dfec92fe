"""The rules by name: which channels are kept, and where kernel taps go (spec FNA, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from fna_lightning.errors import ConfigError

Growth = Literal["zero", "duplicate", "random"]


@dataclass(frozen=True)
class Strategy:
    """A remapping rule.

    Attributes:
        width: which channels of a stream survive where there are fewer: the first ones (FNA), or those of
            largest |scale| of their batch norm, standard deviation, or L1 norm (FNA, table 7).
        kernel: `centre` aligns the kernels' centres and pads with zeros (FNA); `dilation` spreads the
            taps evenly over a larger kernel.
        depth: what a stage's layers come from. `copy` counts those that are there, and repeats the seed's last one
            behind it (FNA). `identity` goes by their places, skips included, and lets a residual block behind the
            seed's last begin as an identity: a copy whose last norm has scale and offset zero, which learn first.
        grow: what channels become that the seed has no more of. `zero`: nothing reads or writes them (FNA), and
            behind other remapped layers they never learn (spec NAA 3.4). `duplicate`: copies of others, which keep
            the function. `random`: what the target drew for them.
        refit: whether hidden channels are chosen and the convolution that reads them refitted by least squares,
            where the seed's moments are known (`Seed.moments`); `width` chooses where they are not.
    """

    width: Literal["first", "bn", "std", "l1"] = "first"
    kernel: Literal["centre", "dilation"] = "centre"
    depth: Literal["copy", "identity"] = "copy"
    grow: Growth = "zero"
    refit: bool = False


STRATEGIES: dict[str, Strategy | None] = {
    "fna": Strategy(),
    "width_bn": Strategy(width="bn"),
    "width_std": Strategy(width="std"),
    "width_l1": Strategy(width="l1"),
    "kernel_dilation": Strategy(kernel="dilation"),
    "preserving": Strategy(width="bn", depth="identity", grow="duplicate", refit=True),
    "random": None,
}
"""The rules by name; `random` carries nothing over."""


def strategy_named(name: str, grow: str | None = None) -> Strategy | None:
    """The rule of that name, None for `random`; with another growth where one is given.

    Raises:
        ConfigError: for another name.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"remap.strategy={name}: give one of {', '.join(STRATEGIES)}")
    if grow is not None and grow not in get_args(Growth):
        raise ConfigError(
            f"remap.grow={grow}: give one of {', '.join(get_args(Growth))}, or null for the strategy's"
        )
    rule = STRATEGIES[name]
    return rule if rule is None or grow is None else replace(rule, grow=cast("Growth", grow))


def kept_channels(
    writers: Sequence[tuple[Tensor, Tensor]], wanted: int, strategy: Strategy, *, ranked: bool = False
) -> Tensor:
    """Indices of the channels of a stream that survive: ascending, or where `ranked` the most important first.

    Args:
        writers: of every convolution that writes the stream its weight (channels, ...), and that of the batch norm
            behind it (channels,); what is important to several counts for all of them.
        wanted: channels of the target.
        strategy: its `width` ranks the channels.
        ranked: whether their order matters, because a prefix of them may run alone.
    """
    number = len(writers[0][1])
    kept = min(wanted, number)
    if strategy.width == "first" or (kept == number and not ranked):
        return torch.arange(kept)
    measure = {
        "bn": lambda _, scale: scale.abs(),
        "std": lambda rows, _: rows.flatten(1).std(dim=1),
        "l1": lambda rows, _: rows.flatten(1).abs().sum(dim=1),
    }[strategy.width]
    value = torch.stack([measure(rows, scale) for rows, scale in writers]).sum(dim=0)
    best = value.topk(kept).indices
    return best if ranked else best.sort().values
