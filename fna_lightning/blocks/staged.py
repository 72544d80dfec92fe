"""Stages in series with named feature maps: the frame that backbones and supernets share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from fna_lightning.blocks.map_names import MapName
from fna_lightning.blocks.network import Backbone


class StagedNetwork(Backbone):
    """Runs stages in series up to the last one wanted and returns the maps of `out_stages` by name.

    Attributes:
        out_channels: channels of every map that `forward` returns, by the text of its `MapName`, shallow first.
        strides: pixels of the input per pixel of each map, by the same names.
    """

    def __init__(self, stages: Sequence[nn.Module], out_channels: dict[str, int], strides: dict[str, int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.out_channels = out_channels
        self.strides = strides

    def stage_modules(self) -> list[list[nn.Module]]:
        """See `Backbone.stage_modules`."""
        return [[stage] for stage in self.stages]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> maps (N, out_channels[name], H / strides[name], W / strides[name])."""
        x, maps = images, {}
        for number, stage in enumerate(self.stages):
            expanded = str(MapName(number, whole=False))
            if expanded in self.out_channels:
                first, *others = cast("nn.Sequential", stage)
                x, maps[expanded] = first(x)
                for layer in others:
                    x = layer(x)
            else:
                x = stage(x)
            if str(number) in self.out_channels:
                maps[str(number)] = x
        return maps
