"""Residual networks, built by torchvision."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from fna_lightning.architectures import ResNetArchitecture, maps_named, pyramid_maps
from fna_lightning.backbones.build import build_backbone
from fna_lightning.blocks import Backbone, Norm

_BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}


class ResNetBackbone(Backbone):
    """Torchvision's ResNet up to the last map that is wanted; its modules have torchvision's names."""

    def __init__(
        self,
        architecture: ResNetArchitecture,
        out_stages: Sequence[int | str],
        output_stride: int | None = None,
        norm: Norm = Norm(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        self.architecture = architecture
        levels = architecture.levels(output_stride)
        wanted = maps_named(levels, out_stages)
        kept = [level for level in levels if level.name in wanted]
        self.out_channels = {level.name: level.channels for level in kept}
        self.strides = {level.name: level.stride for level in kept}
        whole = ResNet(
            _BLOCKS[architecture.block],
            list(architecture.depths),
            groups=architecture.groups,
            width_per_group=architecture.width_per_group,
            replace_stride_with_dilation=list(architecture.dilated(output_stride)),
            norm_layer=norm.build,
        )
        self.conv1, self.bn1, self.relu, self.maxpool = whole.conv1, whole.bn1, whole.relu, whole.maxpool
        for number in range(1, int(kept[-1].name) + 1):
            self.add_module(f"layer{number}", whole.get_submodule(f"layer{number}"))

    def stage_modules(self) -> list[list[nn.Module]]:
        """See `Backbone.stage_modules`: the stem, then the stages."""
        return [[self.conv1, self.bn1], *([self.get_submodule(f"layer{k}")] for k in self._numbers())]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> maps (N, out_channels[name], H / strides[name], W / strides[name])."""
        x = self.relu(self.bn1(self.conv1(images)))
        maps = {"0": x} if "0" in self.out_channels else {}
        x = self.maxpool(x)
        for number in self._numbers():
            x = self.get_submodule(f"layer{number}")(x)
            if str(number) in self.out_channels:
                maps[str(number)] = x
        return maps

    def _numbers(self) -> range:
        """Of the stages that are built."""
        return range(1, int(list(self.out_channels)[-1]) + 1)


@build_backbone.register
def _(
    architecture: ResNetArchitecture,
    out_stages: Sequence[int | str] | None = None,
    *,
    output_stride: int | None = None,
    norm: Norm = Norm(),  # noqa: B008 - frozen
) -> ResNetBackbone:
    if out_stages is None:
        out_stages = pyramid_maps(architecture.levels(output_stride))
    return ResNetBackbone(architecture, out_stages, output_stride, norm)
