"""Stages in series with named feature maps: the frame that backbones and supernets share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from torch import Tensor, nn

from fna_lightning.architectures import MobileArchitecture, Stage
from fna_lightning.architectures.mobile import Layer
from fna_lightning.blocks.mobile import ConvNorm, Norm
from fna_lightning.blocks.network import Backbone
from fna_lightning.errors import ConfigError

_MAP_NAME = re.compile(r"(-?[0-9]{1,4})(\.expand)?")


class MapName(NamedTuple):
    """A map of a network by stage: `6` is what stage 6 returns.

    `6.expand` is the map inside its first layer between expansion and depthwise convolution, still at the
    resolution of the stage before. Names sort as the network computes the maps.
    """

    stage: int
    whole: bool = True

    @classmethod
    def parse(cls, name: int | str) -> MapName:
        """Read a stage's number, or `<number>.expand`.

        Raises:
            ConfigError: for any other text.
        """
        match = _MAP_NAME.fullmatch(str(name))
        if match is None:
            raise ConfigError(
                f"the map {str(name)[:40]!r}: give the number of a stage such as 6, or 6.expand for what the "
                "expansion in its first layer gives"
            )
        return cls(int(match[1]), match[2] is None)

    def __str__(self) -> str:
        return f"{self.stage}" if self.whole else f"{self.stage}.expand"


class StagePlan(NamedTuple):
    """What a stage of inverted residual blocks is built from."""

    number: int
    stage: Stage
    in_width: int
    """Channels of its input."""
    stride: int
    """Of its first layer."""
    dilation: int
    """Of all its layers."""
    exposed: bool
    """Whether its first layer also returns its expanded map."""


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


def build_mobile_stages(
    architecture: MobileArchitecture,
    out_stages: Sequence[int | str],
    output_stride: int | None,
    norm: Norm,
    first_layers: Callable[[int], Sequence[Layer]],
    build_stage: Callable[[StagePlan], nn.Module],
) -> tuple[list[nn.Module], dict[str, int], dict[str, int]]:
    """The arguments of `StagedNetwork` for a mobile architecture whose middle `build_stage` fills.

    Args:
        architecture: widths and strides.
        out_stages: names of the maps wanted, see `MapName`; the network ends with the last of them.
        output_stride: the largest stride wanted.
        norm: of stem and last 1x1 convolution.
        first_layers: what the first layer of a stage is or may be, by the stage's number.
        build_stage: makes the stage of a plan.

    Raises:
        ConfigError: where `out_stages` names a map that the network does not have.
    """
    wanted = _wanted(out_stages, architecture.head_stage)
    modules: list[nn.Module] = []
    out_channels: dict[str, int] = {}
    strides: dict[str, int] = {}
    total, in_width = 1, 3
    layout = architecture.strides_and_dilations(output_stride)
    for number in range(wanted[-1].stage + 1):
        (stride, dilation), width = layout[number], architecture.widths[number]
        expanded = MapName(number, whole=False)
        if expanded in wanted:
            layers = first_layers(number) if 0 < number < architecture.head_stage else ()
            out_channels[str(expanded)] = in_width * _expansion(expanded, layers)
            strides[str(expanded)] = total
        if number == 0:
            modules.append(ConvNorm(in_width, width, 3, stride=stride, norm=norm))
        elif number == architecture.head_stage:
            modules.append(ConvNorm(in_width, width, norm=norm))
        else:
            stage = architecture.stages[number - 1]
            modules.append(build_stage(StagePlan(number, stage, in_width, stride, dilation, expanded in wanted)))
        total, in_width = total * stride, width
        if MapName(number) in wanted:
            out_channels[str(number)], strides[str(number)] = width, total
    return modules, out_channels, strides


def _wanted(out_stages: Sequence[int | str], last: int) -> list[MapName]:
    """The names of `out_stages` once each, in the order in which their maps are computed."""
    wanted = sorted({MapName.parse(name) for name in out_stages})
    if not wanted or wanted[0].stage < 0 or wanted[-1].stage > last:
        raise ConfigError(
            f"out_stages={list(out_stages)}: give numbers from 0 (stem) to {last} (last 1x1), or such as 6.expand"
        )
    if not wanted[-1].whole:
        raise ConfigError(
            f"out_stages={list(out_stages)}: nothing reads what follows {wanted[-1]} in its stage; "
            f"name {wanted[-1].stage} or a later stage too"
        )
    return wanted


def _expansion(name: MapName, layers: Sequence[Layer]) -> int:
    """The one expansion of `layers`, on which the channels of the map `name` depend."""
    expansions = {1 if layer is None else layer.expansion for layer in layers}
    largest = max(expansions, default=1)
    if largest == 1:
        raise ConfigError(
            f"there is no map {name}: the first layer of stage {name.stage} does not expand its input"
        )
    if len(expansions) > 1:
        operations = ", ".join(str(layer) for layer in layers if layer is not None and layer.expansion == largest)
        raise ConfigError(
            f"the map {name} cannot be mixed of expansions {sorted(expansions)}: "
            f"give space.first_candidates={{{name.stage}: [{operations}]}}"
        )
    return largest
