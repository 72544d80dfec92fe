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
from fna_lightning.remapping.pairing import Names, hidden_map, move, names_of, pairs
from fna_lightning.remapping.plan import Computed, Move, Plan, chosen_layers, plan_from_seed
from fna_lightning.remapping.refit import Refit, refit
from fna_lightning.remapping.report import ZERO
from fna_lightning.remapping.strategies import Strategy
from fna_lightning.supernets import MobileSupernet


@plan_from_seed.register(MobileBackbone)
@plan_from_seed.register(MobileSupernet)
def _(target: StagedNetwork, seed: Seed, network: Backbone, strategy: Strategy) -> Plan:
    """Remap depth, width and kernel to every block of a backbone or a supernet."""
    assert isinstance(network, MobileBackbone), "of the target's kind"
    blocks = _Blocks(names_of(target), names_of(network), seed, strategy)
    plan: Plan = []
    for layer, source, added in pairs(target, network, InvertedResidual, strategy):
        if isinstance(layer, InvertedResidual) and isinstance(source, InvertedResidual):
            plan += blocks.moves(layer, source, identity=added and strategy.depth == "identity")
        elif isinstance(layer, ConvNorm) and isinstance(source, ConvNorm):
            plan.append(blocks.move(layer, source))
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


class _Blocks:
    """Plans blocks one by one; candidates of one layer share what is found out about its source."""

    def __init__(self, own: Names, names: Names, seed: Seed, strategy: Strategy) -> None:
        self._own = own
        self._names = names
        self._seed = seed
        self._strategy = strategy
        self._refit = cache(self._refitted)

    def move(
        self,
        layer: ConvNorm,
        source: ConvNorm,
        outputs: ChannelMap | None = None,
        inputs: ChannelMap | None = None,
    ) -> Move:
        """One convolution, see `fna_lightning.remapping.pairing.move`."""
        return move(layer, source, self._own, self._names, outputs, inputs)

    def moves(self, block: InvertedResidual, source: InvertedResidual, *, identity: bool) -> Plan:
        """The moves of a block's convolutions, which share the map of its hidden stream."""
        width = block.depthwise.conv.out_channels
        fitted = self._refit(source, width)
        if fitted is None:
            first = source.expand if isinstance(source.expand, ConvNorm) else source.depthwise
            hidden = hidden_map(self._names[first], width, self._seed, self._strategy)
            project = self.move(block.project, source.project, inputs=hidden)
        else:
            hidden = ChannelMap.of(fitted.kept, width)
            project = self._fitted(self.move(block.project, source.project, inputs=hidden), fitted)
        if identity and block.residual:
            project = _silent(project, block.project.conv.out_channels)
        plan = [self.move(block.depthwise, source.depthwise, outputs=hidden), project]
        if isinstance(block.expand, ConvNorm) and isinstance(source.expand, ConvNorm):
            plan.append(self.move(block.expand, source.expand, outputs=hidden))
        return plan

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
