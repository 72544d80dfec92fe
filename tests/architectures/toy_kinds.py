"""Two further kinds of architecture, from nothing but public parts: plain convolutions, and a head's graph."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from matplotlib.figure import Figure
from torch import nn

from fna_lightning.architectures import Architecture, Level, maps_at, register_kind
from fna_lightning.backbones import build_backbone
from fna_lightning.blocks import Backbone, ConvNorm, Norm
from fna_lightning.checkpoints import READERS, Dialect, SeedReader
from fna_lightning.errors import ArchitectureError
from fna_lightning.reporting.pictures import draw_architecture


@dataclass(frozen=True)
class PlainArchitecture(Architecture):
    """Convolutions of stride 2 one behind the other; their maps are `x1`, `x2`, ..."""

    kind: ClassVar[str] = "plain"
    part: ClassVar[str] = "backbone"
    text_form: ClassVar[str] = "a list of widths"

    widths: tuple[int, ...]

    def __str__(self):
        return f"widths: {' '.join(map(str, self.widths))}"

    def to_dict(self):
        return {"kind": self.kind, "widths": list(self.widths)}

    @classmethod
    def from_dict(cls, data):
        if not isinstance(data.get("widths"), list):
            raise ArchitectureError("plain lacks the key 'widths'")
        return cls(tuple(data["widths"]))

    @classmethod
    def recognises(cls, line):
        return line.startswith("widths: ")

    @classmethod
    def from_text(cls, text):
        return cls(tuple(map(int, text.split()[1:])))

    def levels(self, output_stride=None):
        return tuple(
            Level(f"x{place}", min(2**place, output_stride or 2**place), width)
            for place, width in enumerate(self.widths, start=1)
        )


@dataclass(frozen=True)
class GraphArchitecture(Architecture):
    """What the two towers of a head compute, a line each."""

    kind: ClassVar[str] = "graph"
    part: ClassVar[str] = "head"
    text_form: ClassVar[str] = "a Graph"

    towers: tuple[str, str]

    def __str__(self):
        return "\n".join(f"Graph(normal=[({name!r}, 0)])" for name in self.towers)

    def to_dict(self):
        return {"kind": self.kind, "towers": list(self.towers)}

    @classmethod
    def from_dict(cls, data):
        return cls(tuple(data["towers"]))

    @classmethod
    def recognises(cls, line):
        return line.startswith("Graph(")

    @classmethod
    def from_text(cls, text):
        return cls(tuple(re.findall(r"normal=\[\('(\w+)'", text)))


class PlainBackbone(Backbone):
    def __init__(self, architecture, names, output_stride, norm):
        super().__init__()
        levels = architecture.levels(output_stride)
        self.out_channels = {level.name: level.channels for level in levels if level.name in names}
        self.strides = {level.name: level.stride for level in levels if level.name in names}
        self.layers, width, stride = nn.ModuleDict(), 3, 1
        for level in levels:
            layer = ConvNorm(width, level.channels, 3, stride=level.stride // stride, norm=norm)
            self.layers[level.name], width, stride = layer, level.channels, level.stride

    def forward(self, images):
        maps, x = {}, images
        for name, layer in self.layers.items():
            x = layer(x)
            maps[name] = x
        return {name: maps[name] for name in self.out_channels}


@build_backbone.register
def _(architecture: PlainArchitecture, out_stages=None, *, output_stride=None, norm=Norm()):  # noqa: B008 - frozen
    names = maps_at(architecture.levels(output_stride), ["last"]) if out_stages is None else out_stages
    return PlainBackbone(architecture, names, output_stride, norm)


@draw_architecture.register
def _(architecture: PlainArchitecture) -> Figure:
    figure = Figure()
    figure.suptitle(str(architecture))
    return figure


@draw_architecture.register
def _(architecture: GraphArchitecture) -> Figure:
    figure = Figure()
    figure.suptitle(" and ".join(architecture.towers))
    return figure


def _rename(state):
    return {f"layers.x{key[4]}{key[5:]}": tensor for key, tensor in state.items() if key.startswith("conv")}


def _infer(state):
    names = (f"layers.x{place}.conv.weight" for place in range(1, 10))
    return PlainArchitecture(tuple(state[name].shape[0] for name in names if name in state))


def register():
    register_kind(PlainArchitecture)
    register_kind(GraphArchitecture)
    own = Dialect("this project", lambda key: key.startswith("layers."), lambda state: state)
    READERS["plain"] = SeedReader((own, Dialect("Toy", lambda key: key.startswith("conv"), _rename)), _infer)
