"""Which block of a seed each block of a mobile network takes its parameters from, and which channels."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from fna_lightning.backbones import MobileBackbone
from fna_lightning.blocks import Backbone, ConvNorm, InvertedResidual, StagedNetwork
from fna_lightning.checkpoints import Seed
from fna_lightning.remapping.channels import ChannelMap
from fna_lightning.remapping.pairing import Names, hidden_map, names_of, pairs
from fna_lightning.remapping.plan import Computed, Move, Plan, chosen_layers, plan_from_seed
from fna_lightning.remapping.refit import Refit, refit
from fna_lightning.remapping.report import ZERO
from fna_lightning.remapping.strategies import Strategy
from fna_lightning.remapping.streams import Streams
from fna_lightning.supernets import MobileSupernet


@plan_from_seed.register(MobileBackbone)
@plan_from_seed.register(MobileSupernet)
def _(target: StagedNetwork, seed: Seed, network: Backbone, strategy: Strategy) -> Plan:
    """Remap depth, width and kernel to every block of a backbone or a supernet."""
    assert isinstance(network, MobileBackbone), "of the target's kind"
    streams = Streams(target, network, seed, strategy)
    own = names_of(target)
    blocks = _Blocks(own, names_of(network), seed, strategy)
    plan: Plan = []
    for layer, source, number, place, source_place, added in pairs(target, network, InvertedResidual, strategy):
        writes, dead = streams.into(number), streams.never_learn(number)
        if isinstance(layer, InvertedResidual) and isinstance(source, InvertedResidual):
            before = streams.read_by(number, place)
            # A layer in the middle of its stage that comes from a first one reads another stream than that did.
            reads = streams.into(before) if bool(place) == bool(source_place) else _unrelated(layer, source)
            identity = added and strategy.depth == "identity"
            moves = blocks.moves(layer, source, reads, writes, nested=streams.nested(before), identity=identity)
            plan += moves if place else _reported(moves, own[layer.project], dead)
        elif isinstance(layer, ConvNorm) and isinstance(source, ConvNorm):
            plan.append(replace(blocks.move(layer, source, streams.into(number - 1), writes), dead=dead))
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


def _reported(moves: Plan, target: str, dead: int) -> Plan:
    """The same with what the layer `target` writes and never learns."""
    return [replace(each, dead=dead) if each.target == target else each for each in moves]


def _unrelated(block: InvertedResidual, source: InvertedResidual) -> ChannelMap:
    """Of the channels that a block reads, the first that another read."""
    layers = (each.expand if isinstance(each.expand, ConvNorm) else each.depthwise for each in (block, source))
    return ChannelMap.first(*(layer.conv.in_channels for layer in layers))


class _Blocks:
    """Plans blocks one by one; candidates of one layer share what is found out about its source."""

    def __init__(self, own: Names, names: Names, seed: Seed, strategy: Strategy) -> None:
        self._own = own
        self._names = names
        self._seed = seed
        self._strategy = strategy
        self._refit = cache(self._refitted)

    def move(self, layer: ConvNorm, source: ConvNorm, inputs: ChannelMap | None, outputs: ChannelMap) -> Move:
        """One convolution; a depthwise one has no inputs."""
        return Move(self._own[layer], self._names[source], outputs, inputs or ChannelMap.first(1, 1))

    def moves(
        self,
        block: InvertedResidual,
        source: InvertedResidual,
        reads: ChannelMap,
        writes: ChannelMap,
        *,
        nested: bool,
        identity: bool,
    ) -> Plan:
        """The moves of a block's convolutions, which share the map of its hidden stream.

        Args:
            block: of the target.
            source: its counterpart.
            reads: the map of its input.
            writes: of its output.
            nested: whether any prefix of its input, and so of its hidden stream, may run alone.
            identity: whether it is to begin as an identity, if it has a residual.
        """
        hidden, fitted = self._hidden(block, source, reads, nested)
        project = self.move(block.project, source.project, hidden, writes)
        if fitted is not None:
            project = self._fitted(project, fitted)
        if identity and block.residual:
            project = _silent(project, block.project.conv.out_channels)
        plan = [self.move(block.depthwise, source.depthwise, None, hidden), project]
        if isinstance(block.expand, ConvNorm) and isinstance(source.expand, ConvNorm):
            dead = 0 if self._strategy.grow == "random" else int((~hidden.carried).sum())
            plan.append(replace(self.move(block.expand, source.expand, reads, hidden), dead=dead))
        return plan

    def _hidden(
        self, block: InvertedResidual, source: InvertedResidual, reads: ChannelMap, nested: bool
    ) -> tuple[ChannelMap, Refit | None]:
        """The map of a block's hidden stream, and how its projection is refitted, if it is."""
        expands, expanded = (isinstance(each.expand, ConvNorm) for each in (block, source))
        if not expands and not expanded:
            return reads, None
        width = block.depthwise.conv.out_channels
        writer = self._names[source.expand if expanded else source.depthwise]
        fitted = self._refit(source, width)
        if fitted is None:
            return hidden_map(writer, width, self._seed, self._strategy, nested=nested), None
        if nested:
            fitted = fitted.ranked(self._seed.tensor(f"{writer}.norm.weight").abs())
        return ChannelMap.of(fitted.kept, width), fitted

    def _refitted(self, source: InvertedResidual, width: int) -> Refit | None:
        """The seed's projection over `width` of its channels; None where it keeps all, or they are not known."""
        project = self._names[source.project]
        moments = self._seed.moments.get(project)
        if not self._strategy.refit or moments is None or width >= len(moments.mean):
            return None
        weight = self._seed.tensor(f"{project}.conv.weight").flatten(1)
        return refit(weight, self._seed.tensor(f"{project}.norm.weight"), moments, width)

    def _fitted(self, project: Move, fitted: Refit) -> Move:
        """A projection that is refitted; its norm gives what it gave, from a smaller deviation."""

        def refitted(rows: Tensor, missing: float) -> Computed:
            return Computed(project.outputs.rows(rows, missing), "refitted")

        source, _ = project.tensors("norm", "weight")
        scale = self._seed.tensor(source)
        return replace(
            project,
            computed={
                ("conv", "weight"): refitted(fitted.weight, 0),
                ("norm", "weight"): refitted(scale * fitted.ratio.to(scale), 1),
                ("norm", "running_mean"): refitted(fitted.mean, 0),
                ("norm", "running_var"): refitted(fitted.variance, 1),
            },
        )


def _silent(project: Move, channels: int) -> Move:
    """The end of a residual block that begins as an identity, from which its norm's scale learns first."""
    zero = Computed(torch.zeros(channels), ZERO)
    return replace(project, computed={**project.computed, ("norm", "weight"): zero, ("norm", "bias"): zero})
