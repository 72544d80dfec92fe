"""Residual networks take over the parameters of their like, tensor by tensor."""

from __future__ import annotations

from torch import nn

from fna_lightning.backbones.resnet import ResNetBackbone
from fna_lightning.blocks import Backbone
from fna_lightning.checkpoints import Seed
from fna_lightning.errors import ConfigError
from fna_lightning.remapping.channels import ChannelMap
from fna_lightning.remapping.plan import Move, Plan, plan_from_seed
from fna_lightning.remapping.strategies import Strategy

_NORMS = {"conv1": "bn1", "conv2": "bn2", "conv3": "bn3", "0": "1"}
"""The norm behind each convolution; 0 is that of `downsample`."""


@plan_from_seed.register
def _(target: ResNetBackbone, seed: Seed, network: Backbone, strategy: Strategy) -> Plan:
    """Every convolution of the target from that of the same name."""
    del network, strategy
    if seed.architecture != target.architecture:
        raise ConfigError(
            f"the target is {target.architecture}, the seed {seed.architecture}: a ResNet takes over the "
            "parameters of the same one alone; give architecture=<the seed's>, or remap=random"
        )
    plan: Plan = []
    for name, module in target.named_modules():
        if isinstance(module, nn.Conv2d):
            place, _, own = name.rpartition(".")
            outputs = ChannelMap.first(module.out_channels, module.out_channels)
            inputs = ChannelMap.first(*[module.in_channels // module.groups] * 2)
            plan.append(Move(place, place, outputs, inputs, own, _NORMS[own]))
    return plan
