"""Atrous spatial pyramid pooling (Chen et al. 2017, 1706.05587): one map, seen at several scales side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops.misc import Conv2dNormActivation

from fna_lightning.blocks import initialise
from fna_lightning.errors import ConfigError

RATES_STRIDE = 16
"""The stride in pixels of the map for which atrous rates are given."""


class ASPP(nn.Module):
    """A 1x1, a dilated 3x3 for every rate, and the mean over the image; all joined by a 1x1.

    Batch norm and ReLU are behind every convolution, dropout of whole channels behind the last.

    Args:
        in_channels: of the map.
        channels: of every branch and of the result.
        rates: dilations on a map of stride 16.
        stride: of the map, in pixels of the image; on a finer one dilations grow, so that the same part of
            the image is seen (spec FNA 6.3).
        separable: whether a 3x3 is depthwise, with a 1x1 behind it.
        dropout: share of channels dropped in training.

    Raises:
        ConfigError: a rate is less than 1.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        rates: Sequence[int],
        stride: int,
        *,
        separable: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        if not rates or min(rates) < 1:
            raise ConfigError(f"detector.atrous_rates={list(rates)}: give one dilation or more, each 1 or more")
        dilations = [max(1, rate * RATES_STRIDE // stride) for rate in rates]
        branch = separable_branch if separable else dense_branch
        self.branches = nn.ModuleList(
            [
                Conv2dNormActivation(in_channels, channels, 1),
                *(branch(in_channels, channels, dilation) for dilation in dilations),
            ]
        )
        self.pooling = Conv2dNormActivation(in_channels, channels, 1)
        self.project = Conv2dNormActivation((len(self.branches) + 1) * channels, channels, 1)
        self.dropout = nn.Dropout2d(dropout)
        # Not N(0, .01) as in FNA's release: before a batch norm the deviation only sets how fast a layer learns at
        # first, and this is the backbone's own.
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) -> (N, channels, h, w)."""
        maps = [branch(x) for branch in self.branches]
        pooled = self.pooling(x.mean(dim=(2, 3), keepdim=True))
        # Not expanded: the concatenation would lose a channels-last layout.
        maps.append(torch.empty_like(maps[0]).copy_(pooled))
        return self.dropout(self.project(torch.cat(maps, dim=1)))


def dense_branch(in_channels: int, channels: int, dilation: int) -> Conv2dNormActivation:
    """A dilated 3x3 with batch norm and ReLU."""
    return Conv2dNormActivation(in_channels, channels, 3, dilation=dilation)


def separable_branch(in_channels: int, channels: int, dilation: int) -> nn.Sequential:
    """A dilated depthwise 3x3 and a 1x1, each with batch norm and ReLU."""
    return nn.Sequential(
        Conv2dNormActivation(in_channels, in_channels, 3, dilation=dilation, groups=in_channels),
        Conv2dNormActivation(in_channels, channels, 1),
    )
