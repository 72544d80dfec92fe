"""Which block of a seed each block of ShuffleNetV2's family takes its parameters from, and which channels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from fna_lightning.architectures import ShuffleArchitecture
from fna_lightning.backbones import ShuffleBackbone
from fna_lightning.blocks import Backbone, ConvNorm, ShuffleBlock, StagedNetwork
from fna_lightning.checkpoints import Seed
from fna_lightning.errors import ConfigError
from fna_lightning.remapping.channels import ChannelMap
from fna_lightning.remapping.pairing import Names, hidden_map, move, names_of, pairs
from fna_lightning.remapping.plan import Plan, chosen_layers, plan_from_seed
from fna_lightning.remapping.strategies import Strategy
from fna_lightning.supernets import ShuffleSupernet

_IN_COMMON = {3: (0, 1, 2), 6: (1, 2, 5)}
"""By the number of a main branch's convolutions, those that shuffle and Xception blocks have both: the one that
writes the hidden channels, the depthwise one over them, and the one that writes the output."""


@plan_from_seed.register(ShuffleBackbone)
@plan_from_seed.register(ShuffleSupernet)
def _(target: StagedNetwork, seed: Seed, network: Backbone, strategy: Strategy) -> Plan:
    """Remap depth, width, kernel and operation to every block of a backbone or a supernet.

    An Xception block that comes from a shuffle block keeps the three convolutions that this lacks.
    """
    assert isinstance(network, ShuffleBackbone), "of the target's kind"
    _check_layout(target, network.architecture)
    own, names = names_of(target), names_of(network)
    plan: Plan = []
    for layer, source, *_ in pairs(target, network, ShuffleBlock, strategy):
        if isinstance(layer, ShuffleBlock) and isinstance(source, ShuffleBlock):
            plan += _branch(_main_pairs(layer, source), own, names, seed, strategy)
            if layer.side is not None and source.side is not None:
                plan += _branch(zip(layer.side, source.side, strict=True), own, names, seed, strategy)
        elif isinstance(layer, ConvNorm) and isinstance(source, ConvNorm):
            plan.append(move(layer, source, own, names))
    return plan


@chosen_layers.register
def _(target: ShuffleBackbone) -> dict[str, str]:
    return {
        f"stages.{number}.{index}": operation
        for number, stage in enumerate(target.architecture.stages[: len(target.stages) - 1], start=1)
        for index, operation in enumerate(stage.layers)
    }


def _check_layout(target: StagedNetwork, seed: ShuffleArchitecture) -> None:
    """Complain of a target that would read the seed's channels in another order than they were written in."""
    if any(module.layout != seed.form for module in target.modules() if isinstance(module, ShuffleBlock)):
        raise ConfigError(
            f"the seed's channels are split and shuffled in layout {seed.layout}, the target's in another, where "
            f"its parameters are of no use: give architecture.layout={seed.layout}, or remap=random"
        )


def _main_pairs(block: ShuffleBlock, source: ShuffleBlock) -> Iterable[tuple[object, object]]:
    """(convolution of the block, its counterpart) along the main branch."""
    if len(block.main) == len(source.main):
        return zip(block.main, source.main, strict=True)
    ours, theirs = _IN_COMMON[len(block.main)], _IN_COMMON[len(source.main)]
    return ((block.main[own], source.main[its]) for own, its in zip(ours, theirs, strict=True))


def _branch(
    convolutions: Iterable[tuple[object, object]], own: Names, names: Names, seed: Seed, strategy: Strategy
) -> Plan:
    """The moves along a branch: neighbours share the map of the stream between them.

    Of what comes in and goes out the first channels are taken, of hidden streams those that the strategy chooses.
    """
    series = [(cast("ConvNorm", layer), cast("ConvNorm", source)) for layer, source in convolutions]
    plan: Plan = []
    stream: ChannelMap | None = None
    for layer, source in series:
        if layer.conv.groups > 1:  # depthwise: it writes what it reads
            plan.append(move(layer, source, own, names, outputs=stream))
        elif layer is series[-1][0]:
            plan.append(move(layer, source, own, names, inputs=stream))
        else:
            hidden = hidden_map(names[source], layer.conv.out_channels, seed, strategy)
            plan.append(move(layer, source, own, names, outputs=hidden, inputs=stream))
            stream = hidden
    return plan
