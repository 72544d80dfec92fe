"""The towers of a genotype from a search's supernet; heads have no seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from fna_lightning.architectures import Edge
from fna_lightning.blocks import GenotypeTowers
from fna_lightning.blocks.towers import Cell
from fna_lightning.remapping.placing import NO_SOURCE, Placed, place_supernet, taken

_BIASES = ("reduce.bias", "expand.bias")
"""Of a derived edge; a searched one has none."""


class _Place(NamedTuple):
    """Where an edge is."""

    target: str
    """Name of its module among the derived towers."""
    source: str
    """That of the supernet, which goes by the state that it reads."""
    edge: Edge


@place_supernet.register
def _(target: GenotypeTowers, supernet_state: Mapping[str, Tensor]) -> Placed:
    """Every edge from the place of its state, so that the derived towers compute what the path computed.

    A chain is the first blocks of its family's root, and its own branch. Where that is a 1x1 convolution, which
    decouples and which no derived chain has, it goes into the one behind it; where there is none, it is left out.
    Biases that the supernet lacks are zero.
    """
    own = target.state_dict()
    placed: Placed = {}
    for place in _places(target):
        for name in (name for name in own if name.startswith(f"{place.target}.")):
            end = name.removeprefix(f"{place.target}.")
            if end in _BIASES:
                placed[name] = (NO_SOURCE, torch.zeros_like(own[name]))
            else:
                source = f"{place.source}.{_source(end, place, supernet_state)}"
                placed[name] = (source, taken(source, supernet_state, own[name].shape))
        _fold_decoupler(place, placed, supernet_state)
    for name in own.keys() - placed.keys():
        placed[name] = (name, taken(name, supernet_state, own[name].shape))
    return placed


def _places(towers: GenotypeTowers) -> Iterator[_Place]:
    graphs = {"box": towers.genotype.box, "classes": towers.genotype.classes}
    for start, module in towers.named_modules():
        if isinstance(module, Cell):
            for node, edges in enumerate(graphs[start.partition(".")[0]].nodes):
                for number, edge in enumerate(edges):
                    at = f"{start}.nodes.{node}"
                    yield _Place(f"{at}.{number}", f"{at}.{edge.source}", edge)


def _source(end: str, place: _Place, supernet_state: Mapping[str, Tensor]) -> str:
    """Which tensor of the supernet's edge is `end` of the derived one."""
    if not end.startswith("chain."):
        return end
    _, block, rest = end.split(".", 2)
    chain, operation = place.edge.chain, place.edge.operation
    family = f"families.{chain.family}"
    if f"{place.source}.{family}.root.0.0.weight" not in supernet_state:  # nothing is shared
        return f"{family}.chains.{operation}.{block}.{rest}"
    part = f"root.{block}" if int(block) < chain.depth else f"branches.{operation}"
    return f"{family}.{part}.{rest}"


def _fold_decoupler(place: _Place, placed: Placed, supernet_state: Mapping[str, Tensor]) -> None:
    """Let the 1x1 convolution behind a chain do what the decoupling one before it did: their product."""
    name = f"{place.target}.expand.weight"
    decoupler = f"{place.source}.families.{place.edge.chain.family}.branches.{place.edge.operation}.weight"
    if name in placed and decoupler in supernet_state:
        source, weight = placed[name]
        product = weight.flatten(1).double() @ supernet_state[decoupler].flatten(1).double()
        placed[name] = (source, product.to(weight.dtype).view_as(weight))
