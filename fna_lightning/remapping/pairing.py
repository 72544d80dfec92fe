"""What the rules of all kinds of networks in stages share: which block comes from which, and moves by default."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from fna_lightning.blocks import ConvNorm, StagedNetwork
from fna_lightning.checkpoints import Seed
from fna_lightning.choices import LayerChoice
from fna_lightning.errors import ConfigError
from fna_lightning.remapping.channels import ChannelMap
from fna_lightning.remapping.plan import Move
from fna_lightning.remapping.strategies import Strategy, kept_channels

Names = dict[nn.Module, str]


def names_of(network: nn.Module) -> Names:
    """The name of every module of `network`."""
    return {module: name for name, module in network.named_modules()}


class Pair(NamedTuple):
    """A layer of the target and the layer of the seed that it takes its parameters from."""

    layer: nn.Module
    source: nn.Module
    stage: int
    """The number of the layer's stage."""
    place: int = 0
    """Its own place there."""
    source_place: int = 0
    """That of its source in the seed's stage."""
    added: bool = False
    """Whether the seed has none in its place, so that the source is that of another."""


def pairs(
    target: StagedNetwork, seed: StagedNetwork, block_type: type[nn.Module], strategy: Strategy
) -> Iterator[Pair]:
    """Depth remapping: layer i of a stage comes from layer min(i, l) of the seed's (spec FNA 5.1).

    Layers are the convolutions of stem and end, and blocks of `block_type`, all that a choice may take among them.
    How they are counted is the strategy's `depth`.

    Raises:
        ConfigError: where the seed has fewer stages.
    """
    stem, *stages, last = seed.stages
    for number, stage in enumerate(target.stages):
        if isinstance(stage, ConvNorm):
            yield Pair(stage, stem if number == 0 else last, number)
            continue
        if number > len(stages):
            raise ConfigError(f"the target has a stage {number}, the seed only {len(stages)} stages")
        sources = [layer for layer in stages[number - 1].children() if isinstance(layer, block_type)]
        depth = 0
        for place, layer in enumerate(stage.children()):
            blocks = [block for block in _candidates(layer) if isinstance(block, block_type)]
            own = place if strategy.depth == "identity" else depth
            of = min(own, len(sources) - 1)
            yield from (Pair(block, sources[of], number, place, of, own >= len(sources)) for block in blocks)
            depth += bool(blocks)  # A skip has no parameters and no place in the seed's count.


def move(
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
    inputs = inputs or ChannelMap.first(new.weight.shape[1], old.weight.shape[1])
    return Move(own[layer], names[source], outputs, inputs)


def hidden_map(writer: str, width: int, seed: Seed, strategy: Strategy, *, nested: bool = False) -> ChannelMap:
    """Of a hidden stream of `width` channels, from that which the seed's convolution `writer` writes.

    See `ChannelMap.grown` for what is `nested`.
    """
    parts = seed.tensor(f"{writer}.conv.weight"), seed.tensor(f"{writer}.norm.weight")
    kept = kept_channels([parts], width, strategy, ranked=nested)
    return ChannelMap.grown(kept, width, strategy.grow == "duplicate", nested)


def _candidates(layer: nn.Module) -> Iterator[nn.Module]:
    """What may stand in a layer's place."""
    return layer.candidates.children() if isinstance(layer, LayerChoice) else iter((layer,))
