"""Which block of a seed each block of a mobile network takes its parameters from, and which channels."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from fna_lightning.backbones import MobileBackbone
from fna_lightning.blocks import Backbone, ConvNorm, InvertedResidual, StagedNetwork
from fna_lightning.checkpoints import Seed
from fna_lightning.choices import LayerChoice
from fna_lightning.errors import ConfigError
from fna_lightning.remapping.channels import ChannelMap
from fna_lightning.remapping.plan import Move, Plan, chosen_layers, plan_from_seed
from fna_lightning.remapping.strategies import Strategy, hidden_channels
from fna_lightning.supernets import MobileSupernet

_DEPTHWISE = ChannelMap.first(1, 1)
Names = dict[nn.Module, str]


@plan_from_seed.register(MobileBackbone)
@plan_from_seed.register(MobileSupernet)
def _(target: StagedNetwork, seed: Seed, network: Backbone, strategy: Strategy) -> Plan:
    """Remap depth, width and kernel to every block of a backbone or a supernet."""
    assert isinstance(network, MobileBackbone), "of the target's kind"
    own, names = _names(target), _names(network)
    plan: Plan = []
    for layer, source in _pairs(target, network):
        if isinstance(layer, InvertedResidual) and isinstance(source, InvertedResidual):
            plan += _block(layer, source, own, names, seed, strategy)
        elif isinstance(layer, ConvNorm) and isinstance(source, ConvNorm):
            plan.append(_move(layer, source, own, names))
    return plan


@chosen_layers.register
def _(target: MobileBackbone) -> dict[str, str]:
    architecture, names = target.architecture, _names(target)
    return {
        names[layer]: str(operation)
        for stage, module in zip(architecture.stages, target.stages[1:], strict=False)
        for operation, layer in zip(stage.layers, module.children(), strict=True)
        if operation is not None
    }


def _names(network: nn.Module) -> Names:
    return {module: name for name, module in network.named_modules()}


def _pairs(target: StagedNetwork, seed: MobileBackbone) -> Iterator[tuple[nn.Module, nn.Module]]:
    """(layer of the target, layer of the seed): depth remapping, f(i) = min(i, l) (spec FNA 5.1)."""
    stem, *stages, last = seed.stages
    for number, stage in enumerate(target.stages):
        if isinstance(stage, ConvNorm):
            yield stage, stem if number == 0 else last
            continue
        if number > len(stages):
            raise ConfigError(f"the target has a stage {number}, the seed only {len(stages)} stages")
        sources = [layer for layer in stages[number - 1].children() if isinstance(layer, InvertedResidual)]
        depth = 0
        for layer in stage.children():
            blocks = [block for block in _candidates(layer) if isinstance(block, InvertedResidual)]
            yield from ((block, sources[min(depth, len(sources) - 1)]) for block in blocks)
            depth += bool(blocks)  # A skip has no parameters and no place in the seed's count.


def _candidates(layer: nn.Module) -> Iterator[nn.Module]:
    """What may stand in a layer's place."""
    return layer.candidates.children() if isinstance(layer, LayerChoice) else iter((layer,))


def _block(
    block: InvertedResidual, source: InvertedResidual, own: Names, names: Names, seed: Seed, strategy: Strategy
) -> Plan:
    """The moves of a block's convolutions, which share the map of its hidden stream."""
    first = source.expand if isinstance(source.expand, ConvNorm) else source.depthwise
    width = block.depthwise.conv.out_channels
    kept = hidden_channels(
        seed.tensor(f"{names[first]}.conv.weight"), seed.tensor(f"{names[first]}.norm.weight"), width, strategy
    )
    hidden = ChannelMap.of(kept, width)
    plan = [
        Move(own[block.depthwise], names[source.depthwise], hidden, _DEPTHWISE),
        _move(block.project, source.project, own, names, inputs=hidden),
    ]
    if isinstance(block.expand, ConvNorm) and isinstance(source.expand, ConvNorm):
        plan.append(_move(block.expand, source.expand, own, names, outputs=hidden))
    return plan


def _move(
    layer: ConvNorm,
    source: ConvNorm,
    own: Names,
    names: Names,
    outputs: ChannelMap | None = None,
    inputs: ChannelMap | None = None,
) -> Move:
    """One convolution; of streams that are not given the first channels."""
    new, old = layer.conv, source.conv
    outputs = outputs or ChannelMap.first(new.out_channels, old.out_channels)
    inputs = inputs or ChannelMap.first(new.in_channels, old.in_channels)
    return Move(own[layer], names[source], outputs, inputs)
