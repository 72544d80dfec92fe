"""Stages in series with named feature maps: the frame that backbones and supernets share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from fna_lightning.architectures import MobileArchitecture, Stage
from fna_lightning.blocks.mobile import ConvNorm, Norm
from fna_lightning.errors import ConfigError

StageBuilder = Callable[[int, Stage, int, int, int], nn.Module]
"""(number, stage, C_in, stride, dilation) -> the stage's module."""


class StagedNetwork(nn.Module):
    """Runs stages in series up to the last one wanted and returns the maps of `out_stages` by name.

    Attributes:
        out_channels: channels of every map that `forward` returns, by stage number as text.
        strides: pixels of the input per pixel of each map, by the same names.
    """

    def __init__(self, stages: Sequence[nn.Module], out_channels: dict[str, int], strides: dict[str, int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.out_channels = out_channels
        self.strides = strides

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> maps (N, out_channels[name], H / strides[name], W / strides[name])."""
        x, maps = images, {}
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if str(number) in self.out_channels:
                maps[str(number)] = x
        return maps


def build_mobile_stages(
    architecture: MobileArchitecture,
    out_stages: Sequence[int],
    output_stride: int | None,
    norm: Norm,
    build_stage: StageBuilder,
) -> tuple[list[nn.Module], dict[str, int], dict[str, int]]:
    """The arguments of `StagedNetwork` for a mobile architecture whose middle `build_stage` fills.

    Raises:
        ConfigError: where `out_stages` names a stage that the architecture lacks.
    """
    wanted = sorted(set(out_stages))
    if not wanted or wanted[0] < 0 or wanted[-1] > architecture.head_stage:
        raise ConfigError(
            f"out_stages={list(out_stages)}: give numbers from 0 (stem) to {architecture.head_stage} (last 1x1)"
        )
    modules: list[nn.Module] = []
    out_channels: dict[str, int] = {}
    strides: dict[str, int] = {}
    total, in_width = 1, 3
    layout = architecture.strides_and_dilations(output_stride)
    for number in range(wanted[-1] + 1):
        (stride, dilation), width = layout[number], architecture.widths[number]
        if number == 0:
            modules.append(ConvNorm(in_width, width, 3, stride=stride, norm=norm))
        elif number == architecture.head_stage:
            modules.append(ConvNorm(in_width, width, norm=norm))
        else:
            modules.append(build_stage(number, architecture.stages[number - 1], in_width, stride, dilation))
        total, in_width = total * stride, width
        if number in wanted:
            out_channels[str(number)], strides[str(number)] = width, total
    return modules, out_channels, strides
