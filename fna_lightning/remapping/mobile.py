"""Which block of a seed each block of a mobile network takes its parameters from, and which channels."""

from __future__ import annotations

from fna_lightning.backbones import MobileBackbone
from fna_lightning.blocks import Backbone, ConvNorm, InvertedResidual, StagedNetwork
from fna_lightning.checkpoints import Seed
from fna_lightning.remapping.pairing import Names, hidden_map, move, names_of, pairs
from fna_lightning.remapping.plan import Plan, chosen_layers, plan_from_seed
from fna_lightning.remapping.strategies import Strategy
from fna_lightning.supernets import MobileSupernet


@plan_from_seed.register(MobileBackbone)
@plan_from_seed.register(MobileSupernet)
def _(target: StagedNetwork, seed: Seed, network: Backbone, strategy: Strategy) -> Plan:
    """Remap depth, width and kernel to every block of a backbone or a supernet."""
    assert isinstance(network, MobileBackbone), "of the target's kind"
    own, names = names_of(target), names_of(network)
    plan: Plan = []
    for layer, source in pairs(target, network, InvertedResidual):
        if isinstance(layer, InvertedResidual) and isinstance(source, InvertedResidual):
            plan += _block(layer, source, own, names, seed, strategy)
        elif isinstance(layer, ConvNorm) and isinstance(source, ConvNorm):
            plan.append(move(layer, source, own, names))
    return plan


@chosen_layers.register
def _(target: MobileBackbone) -> dict[str, str]:
    architecture, names = target.architecture, names_of(target)
    return {
        names[layer]: str(operation)
        for stage, module in zip(architecture.stages, target.stages[1:], strict=False)
        for operation, layer in zip(stage.layers, module.children(), strict=True)
        if operation is not None
    }


def _block(
    block: InvertedResidual, source: InvertedResidual, own: Names, names: Names, seed: Seed, strategy: Strategy
) -> Plan:
    """The moves of a block's convolutions, which share the map of its hidden stream."""
    first = source.expand if isinstance(source.expand, ConvNorm) else source.depthwise
    hidden = hidden_map(names[first], block.depthwise.conv.out_channels, seed, strategy)
    plan = [
        move(block.depthwise, source.depthwise, own, names, outputs=hidden),
        move(block.project, source.project, own, names, inputs=hidden),
    ]
    if isinstance(block.expand, ConvNorm) and isinstance(source.expand, ConvNorm):
        plan.append(move(block.expand, source.expand, own, names, outputs=hidden))
    return plan
