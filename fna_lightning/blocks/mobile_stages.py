"""The stages of a network of inverted residual blocks, for its backbone and its supernet alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import nn

from fna_lightning.architectures import MobileArchitecture, Stage
from fna_lightning.architectures.mobile import Layer
from fna_lightning.blocks.map_names import MapName, wanted_maps
from fna_lightning.blocks.mobile import ConvNorm, InvertedResidual, Norm
from fna_lightning.errors import ConfigError


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

    def layer(self, layer: Layer, index: int, norm: Norm) -> nn.Module:
        """`layer` at place `index` of the stage; all but the first add their input, which does where it may."""
        if layer is None:
            return nn.Identity()
        in_width, stride, residual = self.stage.width, 1, True
        if index == 0:
            in_width, stride = self.in_width, self.stride
            # By the stage's own stride: what is dilated in its place is still the block that it was.
            residual = self.stage.residual and in_width == self.stage.width and self.stage.stride == 1
        return InvertedResidual(
            layer,
            in_width,
            self.stage.width,
            stride=stride,
            dilation=self.dilation,
            norm=norm,
            residual=residual,
            exposed=self.exposed and index == 0,
        )

    def build(self, norm: Norm) -> nn.Sequential:
        """The stage as its architecture has it; skips stay in place as identities."""
        return nn.Sequential(*(self.layer(layer, index, norm) for index, layer in enumerate(self.stage.layers)))


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
    wanted = wanted_maps(out_stages, architecture.head_stage)
    if not wanted[-1].whole:
        raise ConfigError(
            f"out_stages={list(out_stages)}: nothing reads what follows {wanted[-1]} in its stage; "
            f"name {wanted[-1].stage} or a later stage too"
        )
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
