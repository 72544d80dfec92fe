"""Backbones as data, layer by layer, from which `feature_network.py` builds them again."""

from __future__ import annotations

from functools import singledispatch
from typing import Any, cast

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from fna_lightning.backbones import ResNetBackbone
from fna_lightning.blocks import Backbone, ConvNorm, InvertedResidual, StagedNetwork
from fna_lightning.blocks.map_names import MapName
from fna_lightning.blocks.shuffle import ShuffleBlock

Layer = dict[str, Any]


@singledispatch
def steps(backbone: Backbone) -> list[Layer]:
    """The modules of a backbone in the order in which they run, see `feature_network.FeatureNetwork`."""
    raise TypeError(f"no description of {type(backbone).__name__}")


@steps.register
def _(backbone: StagedNetwork) -> list[Layer]:
    result: list[Layer] = []
    for number, stage in enumerate(backbone.stages):
        name, expanded = f"stages.{number}", str(MapName(number, whole=False))
        if expanded in backbone.out_channels:
            # What is inside the first layer leaves the series, so that each layer is a step.
            layers = cast("nn.Sequential", stage)
            result += [{"name": f"{name}.{place}", "layer": describe(each)} for place, each in enumerate(layers)]
            result[-len(layers)]["expanded"] = expanded
        else:
            result.append({"name": name, "layer": describe(stage)})
        if str(number) in backbone.out_channels:
            result[-1]["map"] = str(number)
    return result


@steps.register
def _(backbone: ResNetBackbone) -> list[Layer]:
    result = [{"name": name, "layer": describe(module)} for name, module in backbone.named_children()]
    for step in result:
        number = "0" if step["name"] == "relu" else step["name"].removeprefix("layer")
        if number in backbone.out_channels:
            step["map"] = number
    return result


@singledispatch
def describe(module: nn.Module) -> Layer:
    """A layer: its `kind`, its settings, and the layers `inside` it by their names."""
    raise TypeError(f"no description of {type(module).__name__}")


@describe.register
def _(module: nn.Conv2d) -> Layer:
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    return {"kind": "conv", **{name: getattr(module, name) for name in names}, "bias": module.bias is not None}


@describe.register
def _(module: nn.BatchNorm2d) -> Layer:
    names = ("num_features", "eps", "momentum", "affine", "track_running_stats")
    return {"kind": "norm", **{name: getattr(module, name) for name in names}}


@describe.register
def _(module: FrozenBatchNorm2d) -> Layer:
    return {"kind": "norm", "num_features": module.get_buffer("weight").numel(), "eps": module.eps}


@describe.register
def _(module: nn.ReLU) -> Layer:
    return {"kind": "relu", "inplace": module.inplace}


@describe.register
def _(module: nn.ReLU6) -> Layer:
    return {"kind": "relu6", "inplace": module.inplace}


@describe.register
def _(module: nn.Identity) -> Layer:
    del module
    return {"kind": "identity"}


@describe.register
def _(module: nn.MaxPool2d) -> Layer:
    names = ("kernel_size", "stride", "padding")
    return {"kind": "pool", **{name: getattr(module, name) for name in names}}


@describe.register(nn.Sequential)
@describe.register(ConvNorm)
def _(module: nn.Module) -> Layer:
    return {"kind": "sequence", "inside": _inside(module)}


@describe.register
def _(module: InvertedResidual) -> Layer:
    flags = {"residual": module.residual, "exposed": module.exposed}
    return {"kind": "inverted_residual", "inside": _inside(module), **flags}


@describe.register
def _(module: ShuffleBlock) -> Layer:
    inside = {"main": describe(module.main), "side": None if module.side is None else describe(module.side)}
    return {"kind": "shuffle", "inside": inside, "shuffle": module.layout.shuffle}


@describe.register(BasicBlock)
@describe.register(Bottleneck)
def _(module: nn.Module) -> Layer:
    inside = {name: each for name, each in _inside(module).items() if name != "relu"}
    return {"kind": "residual", "inside": {"downsample": None, **inside}}


def _inside(module: nn.Module) -> dict[str, Layer]:
    """By name; in the order in which these modules run, in which all of them are made."""
    return {name: describe(each) for name, each in module.named_children()}
