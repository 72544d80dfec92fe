"""A toy system: a backbone whose widths are searched, in sliced weights: neighbours multiply (as in NAA)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from fna_lightning.architectures import Architecture, Level, register_kind
from fna_lightning.backbones import build_backbone
from fna_lightning.blocks import Backbone, ConvNorm
from fna_lightning.checkpoints import Seed
from fna_lightning.choices import Supernet, ValueChoice
from fna_lightning.remapping import ChannelMap, Move, Plan, place_supernet, plan_from_seed
from fna_lightning.supernets import build_supernet

LAST = 10
"""Channels of the last map, which are not searched."""


@register_kind
@dataclass(frozen=True)
class WidthArchitecture(Architecture):
    """Channels of all convolutions but the last."""

    kind: ClassVar[str] = "widths"
    part: ClassVar[str] = "backbone"
    text_form: ClassVar[str] = "widths"

    widths: tuple[int, ...]

    def __str__(self) -> str:
        return f"widths{self.widths}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"kind": self.kind, "widths": list(self.widths)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> WidthArchitecture:
        """From plain data."""
        return cls(tuple(data["widths"]))

    @classmethod
    def recognises(cls, line: str) -> bool:
        """`widths(...)`."""
        return line.strip().startswith("widths(")

    @classmethod
    def from_text(cls, text: str) -> WidthArchitecture:
        """From `widths(...)`."""
        return cls(tuple(int(number) for number in re.findall(r"[0-9]+", text)))

    def levels(self, output_stride: int | None = None) -> tuple[Level, ...]:
        """The last map alone."""
        assert output_stride is None
        return (Level("last", 2 ** (len(self.widths) + 1), LAST),)


@dataclass(frozen=True)
class WidthSpace:
    """What each width may be."""

    part: ClassVar[str] = "backbone"

    widths: tuple[tuple[int, ...], ...] = ((4, 8), (2, 6, 12))


class SlicedConv(nn.Module):
    """A convolution of which as many channels are used as its choices say, and a norm without parameters.

    In the mixture every output channel counts by how likely it is in use.
    """

    def __init__(self, inputs: ValueChoice | int, outputs: ValueChoice | int) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        widths = [width if isinstance(width, int) else width.largest for width in (outputs, inputs)]
        self.conv = nn.Conv2d(widths[1], widths[0], 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0], affine=False, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) -> (N, width, H / 2, W / 2)."""
        width = self.outputs.value if isinstance(self.outputs, ValueChoice) else None
        y = F.conv2d(x, self.conv.weight[:width, : x.shape[1]], stride=2, padding=1)
        y = self.norm(y).relu()
        if isinstance(self.outputs, ValueChoice) and width is None:
            y = y * self.outputs.prefix_weights()[:, None, None]
        return y


class WidthSupernet(Backbone, Supernet):
    """As many sliced convolutions as widths, and one more."""

    def __init__(self, space: WidthSpace) -> None:
        super().__init__()
        self.space = space
        choices = [ValueChoice(values) for values in space.widths]
        self.layers = nn.Sequential(*map(SlicedConv, [3, *choices], [*choices, LAST]))
        self.out_channels, self.strides = {"last": LAST}, {"last": 2 ** (len(choices) + 1)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> the last map."""
        return {"last": self.layers(images)}

    def architecture_of(self, path: Sequence[int]) -> WidthArchitecture:
        """The widths of `path`."""
        return WidthArchitecture(
            tuple(values[index] for values, index in zip(self.space.widths, path, strict=True))
        )


class WidthBackbone(Backbone):
    """Plain convolutions."""

    def __init__(self, architecture: WidthArchitecture) -> None:
        super().__init__()
        widths = [3, *architecture.widths, LAST]
        self.layers = nn.Sequential(*(ConvNorm(c, d, 3, stride=2) for c, d in pairwise(widths)))
        self.out_channels, self.strides = {"last": LAST}, {"last": 2 ** len(self.layers)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> the last map."""
        return {"last": self.layers(images)}


@build_supernet.register
def _(space: WidthSpace, *_: Any, **__: Any) -> Backbone:
    return WidthSupernet(space)


@build_backbone.register
def _(architecture: WidthArchitecture, *_: Any, **__: Any) -> Backbone:
    return WidthBackbone(architecture)


@plan_from_seed.register(WidthBackbone)
@plan_from_seed.register(WidthSupernet)
def _(target: Any, seed: Seed, network: Any, strategy: Any) -> Plan:
    """Layer by layer, the first channels of each stream."""
    del seed, strategy
    plan, inputs = [], ChannelMap.first(3, 3)
    for index, (layer, source) in enumerate(zip(target.layers, network.layers, strict=True)):
        outputs = ChannelMap.first(layer.conv.out_channels, source.conv.out_channels)
        plan.append(Move(f"layers.{index}", f"layers.{index}", outputs, inputs))
        inputs = outputs
    return plan


@place_supernet.register
def _(target: WidthBackbone, supernet_state: Mapping[str, Tensor]) -> dict[str, tuple[str, Tensor]]:
    """The first channels of the supernet's convolutions."""
    weights = {name: own for name, own in target.state_dict().items() if name.endswith("conv.weight")}
    return {name: (name, supernet_state[name][: len(own), : own.shape[1]]) for name, own in weights.items()}
