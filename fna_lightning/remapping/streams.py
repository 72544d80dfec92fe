"""The streams between the stages of mobile networks, each with one map for all layers that write or read it.

What residuals join must agree: the channels of a stage are ranked once, and all take the same (spec NAA 8.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from torch import Tensor

from fna_lightning.blocks import ConvNorm, InvertedResidual, StagedNetwork
from fna_lightning.checkpoints import Seed
from fna_lightning.remapping.channels import ChannelMap
from fna_lightning.remapping.pairing import names_of
from fna_lightning.remapping.strategies import Strategy, kept_channels
from fna_lightning.supernets import MobileSupernet


class Streams:
    """What each stage's channels carry of the seed's, by the number of the stage.

    Args:
        target: a backbone or a supernet, whose stages have their largest channels.
        network: the seed's structure.
        seed: the trained network.
        strategy: which channels are kept, and what the others become.
    """

    def __init__(self, target: StagedNetwork, network: StagedNetwork, seed: Seed, strategy: Strategy) -> None:
        self._target = target
        self._network = network
        self._names = names_of(network)
        self._seed = seed
        self._strategy = strategy
        self._nested = target.stages_of_searched_width if isinstance(target, MobileSupernet) else []
        self.into = cache(self._into)

    def nested(self, number: int) -> bool:
        """Whether any prefix of the stage's channels may run alone, because a supernet searches how many."""
        return number in self._nested

    def read_by(self, number: int, place: int) -> int:
        """The stage whose channels the layer at `place` of a stage reads."""
        return number if place else number - 1

    def _into(self, number: int) -> ChannelMap:
        """The map of what stage `number` of the target gives; of the picture, before the stem, its colours."""
        if number < 0:
            return ChannelMap.first(3, 3)
        wanted = _writers(self._target, number)[0].conv.out_channels
        ends = isinstance(self._target.stages[number], ConvNorm) and number > 0
        writers = _writers(self._network, len(self._network.stages) - 1 if ends else number)
        parts = [(self._tensor(writer, "conv"), self._tensor(writer, "norm")) for writer in writers]
        nested = self.nested(number)
        kept = kept_channels(parts, wanted, self._strategy, ranked=nested)
        return ChannelMap.grown(kept, wanted, self._strategy.grow == "duplicate", nested)

    def never_learn(self, number: int) -> int:
        """How many of the stage's channels get no gradient, because nothing is carried to them.

        Where their writer and all readers are zero, none; what a head reads is its own, and learns unless a
        rectifier stands between (spec NAA 3.4).
        """
        read = str(number) in self._target.out_channels and not isinstance(self._target.stages[number], ConvNorm)
        return 0 if read or self._strategy.grow == "random" else int((~self.into(number).carried).sum())

    def _tensor(self, layer: ConvNorm, part: str) -> Tensor:
        return self._seed.tensor(f"{self._names[layer]}.{part}.weight")


def _writers(network: StagedNetwork, number: int) -> Sequence[ConvNorm]:
    """The convolutions that write the channels of a stage."""
    stage = network.stages[number]
    if isinstance(stage, ConvNorm):
        return [stage]
    return [block.project for block in stage.modules() if isinstance(block, InvertedResidual)]
