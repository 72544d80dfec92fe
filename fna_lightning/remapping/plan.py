"""What is carried where: a remapping as data, before any number moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Literal, NamedTuple

from torch import Tensor, nn

from fna_lightning.blocks import Backbone
from fna_lightning.checkpoints import Seed
from fna_lightning.errors import ConfigError
from fna_lightning.remapping.channels import ChannelMap
from fna_lightning.remapping.strategies import Strategy


class Computed(NamedTuple):
    """A tensor that is not picked channel by channel."""

    value: Tensor
    how: str
    """What it is, in a word for the report."""


@dataclass(frozen=True)
class Move:
    """A convolution with its norm, as in `ConvNorm`, where it comes from, and the maps of the streams it joins.

    Attributes:
        target: name in the target of the module that holds the two; empty where that is the target.
        source: that of its counterpart in the seed.
        outputs: of the stream that it writes.
        inputs: of the stream that it reads; for a depthwise convolution `ChannelMap.first(1, 1)`, for a grouped
            one within a group.
        conv: name of the convolution in the module that holds it.
        norm: name of the norm there.
        dead: channels of `outputs` that no gradient will reach, because all that writes and reads them is zero.
        computed: tensors that the maps do not give, by what they are of and their name there.
    """

    target: str
    source: str
    outputs: ChannelMap
    inputs: ChannelMap
    conv: str = "conv"
    norm: str = "norm"
    dead: int = 0
    computed: Mapping[tuple[Literal["conv", "norm"], str], Computed] = field(default_factory=dict)

    def tensors(self, kind: Literal["conv", "norm"], tensor: str) -> tuple[str, str]:
        """Names of a tensor of the convolution, or of the norm, in the seed and in the target."""
        end = f"{self.conv if kind == 'conv' else self.norm}.{tensor}"
        source, target = (f"{place}.{end}" if place else end for place in (self.source, self.target))
        return source, target


Plan = list[Move]


@singledispatch
def plan_from_seed(target: nn.Module, seed: Seed, network: Backbone, strategy: Strategy) -> Plan:
    """Which convolutions of `target` take their parameters from which of the seed's, channel by channel.

    Every kind of network registers its own rule, beside the others in this room, for its backbones and its
    supernets: what one rule is registered for is of one kind.

    Args:
        target: a backbone, a supernet or a head.
        seed: the trained network.
        network: the seed's structure, without numbers: names and layers of `seed.state`.
        strategy: the rule for width.

    Returns:
        One move for every convolution that has a counterpart.

    Raises:
        ConfigError: where no rule is known, or the two have different stages.
        CheckpointError: where a tensor that is needed is missing.
    """
    del network, strategy
    raise no_rule(target, seed)


def no_rule(target: nn.Module, seed: Seed) -> ConfigError:
    """What to raise where nothing can be carried over."""
    return ConfigError(
        f"no parameters can be carried over from a seed of kind {seed.architecture.kind} to a "
        f"{type(target).__name__}: give remap=random"
    )


@singledispatch
def chosen_layers(target: nn.Module) -> dict[str, str]:
    """Which candidate of a supernet each layer of `target` is, by the layer's name, where it was searched.

    Every kind of network whose supernet holds a `LayerChoice` in place of a layer registers its own answer.
    """
    del target
    return {}
