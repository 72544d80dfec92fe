"""The chains of convolutions that the edges of FAD's graphs compute (spec FAD 1.6)."""

from __future__ import annotations

import math

from torch import nn

from fna_lightning.architectures import Chain
from fna_lightning.architectures.genotype import Family
from fna_lightning.errors import ConfigError

GROUPS = 32
"""Of every group norm, as published."""


def groups_of(*widths: int) -> int:
    """Groups of the norms of networks smaller than the published ones: as many of 32 as divide all widths.

    Each group has two channels where there are as many: one alone could not be normalised on a map of one pixel.
    """
    return min(math.gcd(GROUPS, *widths), max(1, min(widths) // 2))


def norm_relu(channels: int, groups: int = GROUPS) -> tuple[nn.GroupNorm, nn.ReLU]:
    """What every block ends in: an affine group norm, and a rectifier.

    Raises:
        ConfigError: where the channels do not divide by the groups.
    """
    if channels < 1 or channels % groups:
        raise ConfigError(f"{channels} channels: group norms of {groups} groups want a multiple of {groups}")
    return nn.GroupNorm(groups, channels), nn.ReLU(inplace=True)


def build_base(family: Family, channels: int, groups: int = GROUPS) -> nn.Sequential:
    """The 3x3 block of a family: dense with a bias, or a depthwise one without and a 1x1 with."""
    ending = norm_relu(channels, groups)
    if family == "std":
        return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), *ending)
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1),
        *ending,
    )


def build_dilated(dilation: int, channels: int, groups: int = GROUPS) -> nn.Sequential:
    """The last block of a chain: depthwise and dilated, then 1x1, both with a bias; the same in both families."""
    ending = norm_relu(channels, groups)
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=channels),
        nn.Conv2d(channels, channels, 1),
        *ending,
    )


def build_chain(chain: Chain, channels: int, groups: int = GROUPS) -> nn.Sequential:
    """The blocks of `chain` in series, (N, channels, H, W) -> the same shape.

    Raises:
        ConfigError: where the channels do not divide by the groups of the norms.
    """
    blocks = [build_base(chain.family, channels, groups) for _ in range(chain.depth)]
    if chain.dilation:
        blocks.append(build_dilated(chain.dilation, channels, groups))
    return nn.Sequential(*blocks)
