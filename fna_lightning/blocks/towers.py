"""The two branches of a dense head before its predictions: plain ones, and FAD's graphs (spec FAD 1.2 to 1.5)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial, reduce, singledispatch
from typing import cast

import torch
from torch import Tensor, nn

from fna_lightning.architectures import Chain, HeadGenotype, TowerGenotype
from fna_lightning.blocks.chains import GROUPS, build_chain, norm_relu
from fna_lightning.errors import ConfigError

Nodes = Sequence[Sequence[tuple[int, nn.Module]]]
"""Of every node its edges: the number of the state that it reads, and what it computes of it."""


class Towers(nn.Module, ABC):
    """Two branches that run on every level of a pyramid with the same parameters."""

    @abstractmethod
    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """A level (N, width, H, W) -> what boxes, and what classes are predicted from, each of that shape."""


@singledispatch
def build_towers(head: object, width: int, channels: int, cells: int, groups: int = GROUPS) -> Towers:
    """Build the towers of a head's architecture, or of a space; each kind registers its own builder.

    Args:
        head: what they are.
        width: channels of the pyramid, and of all states.
        channels: that the edges compute with; where they are `width`, edges have no 1x1 convolutions around.
        cells: graphs in a row, alike and with parameters of their own.
        groups: of the group norms, by which both numbers of channels must divide.

    Raises:
        ConfigError: where they do not, or there is no cell.
    """
    raise TypeError(f"no towers for {type(head).__name__}: {width} {channels} {cells} {groups}")


class PlainTowers(Towers):
    """FCOS's own: 3x3 convolutions with bias, group norm and ReLU, of each branch its own (spec FAD 5.2).

    Weights are drawn from N(0, 0.01), biases are 0.

    Args:
        width: channels of the pyramid, and of all that is in between.
        depth: convolutions of each branch.
        groups: of the group norms.

    Raises:
        ConfigError: where the width does not divide by them.
    """

    def __init__(self, width: int, depth: int = 4, groups: int = GROUPS) -> None:
        super().__init__()
        self.box, self.classes = (_plain(width, depth, groups) for _ in range(2))

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """See `Towers.forward`."""
        return self.box(feature), self.classes(feature)


def _plain(width: int, depth: int, groups: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        convolution = nn.Conv2d(width, width, 3, padding=1)
        draw_small(convolution)
        layers += [convolution, *norm_relu(width, groups)]
    return nn.Sequential(*layers)


def draw_small(convolution: nn.Conv2d) -> None:
    """Draw its weights from N(0, 0.01), with biases of 0."""
    nn.init.normal_(convolution.weight, std=0.01)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)


class Cell(nn.Module):
    """A graph: every node adds up its edges, and some states are given out, their channels one after another.

    Inputs of another width than the states' are brought to it before.

    Args:
        in_widths: channels of both inputs.
        width: of the states.
        nodes: the edges, each a module that keeps shapes.
        concat: numbers of the states that are given out.
        groups: of the norms behind what changes a width.
    """

    def __init__(
        self, in_widths: tuple[int, int], width: int, nodes: Nodes, concat: Sequence[int], groups: int = GROUPS
    ) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(_to_width(channels, width, groups) for channels in in_widths)
        self.nodes = nn.ModuleList(nn.ModuleList(edge for _, edge in edges) for edges in nodes)
        self.sources = tuple(tuple(source for source, _ in edges) for edges in nodes)
        self.concat = tuple(concat)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Two inputs of one resolution -> (N, width * len(concat), H, W)."""
        states = [layer(x) for layer, x in zip(self.inputs, (first, second), strict=True)]
        for edges, sources in zip(self.nodes, self.sources, strict=True):
            modules = cast("nn.ModuleList", edges)
            terms = (edge(states[source]) for edge, source in zip(modules, sources, strict=True))
            states.append(reduce(torch.add, terms))
        return torch.cat([states[state] for state in self.concat], dim=1)


def _to_width(channels: int, width: int, groups: int) -> nn.Module:
    if channels == width:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels, width, 1), *norm_relu(width, groups))


class GraphTower(nn.Module):
    """Cells in a row, and a 1x1 convolution back to the width of the pyramid, without norm or activation.

    A cell reads what the two before it gave; the first reads the two inputs.

    Args:
        width: channels of the pyramid, and of all states.
        cells: how many.
        build_nodes: makes the edges of one.
        concat: states that each gives out.
        groups: of the group norms.

    Raises:
        ConfigError: where there is no cell.
    """

    def __init__(
        self, width: int, cells: int, build_nodes: Callable[[], Nodes], concat: Sequence[int], groups: int = GROUPS
    ) -> None:
        super().__init__()
        if cells < 1:
            raise ConfigError(f"{cells} cells: a tower needs one or more")
        self.cells = nn.ModuleList()
        widths = (width, width)
        for _ in range(cells):
            self.cells.append(Cell(widths, width, build_nodes(), concat, groups))
            widths = (widths[1], width * len(concat))
        self.reduce = nn.Conv2d(widths[1], width, 1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Two inputs (N, width, H, W) -> the same shape."""
        for cell in self.cells:
            first, second = second, cell(first, second)
        return self.reduce(second)


class GraphTowers(Towers):
    """A box tower over the level alone, and a class tower over what that gives and the level (spec FAD 1.2).

    Losses of classes therefore reach the box tower. The class tower's last convolution is drawn from N(0, 0.01).
    """

    def __init__(self, box: GraphTower, classes: GraphTower) -> None:
        super().__init__()
        self.box = box
        self.classes = classes
        draw_small(classes.reduce)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """See `Towers.forward`."""
        box = self.box(feature, feature)
        return box, self.classes(box, feature)


class GenotypeTowers(GraphTowers):
    """The towers of a genotype.

    Attributes:
        genotype: what they are of.
    """

    def __init__(
        self, genotype: HeadGenotype, width: int, channels: int, cells: int, groups: int = GROUPS
    ) -> None:
        def tower(graph: TowerGenotype) -> GraphTower:
            build_nodes = partial(_nodes_of, graph, width, channels, groups)
            return GraphTower(width, cells, build_nodes, graph.concat, groups)

        super().__init__(tower(genotype.box), tower(genotype.classes))
        self.genotype = genotype


def _nodes_of(graph: TowerGenotype, width: int, channels: int, groups: int) -> Nodes:
    return [
        [(edge.source, build_edge(edge.chain, width, channels, groups)) for edge in edges] for edges in graph.nodes
    ]


def build_edge(chain: Chain, width: int, channels: int, groups: int = GROUPS) -> nn.Sequential:
    """1x1 to `channels`, the chain, 1x1 back to `width`, with biases; the chain alone where both are equal."""
    blocks = build_chain(chain, channels, groups)
    narrow, wide = around_chains(width, channels, bias=True)
    return nn.Sequential(OrderedDict(reduce=narrow, chain=blocks, expand=wide))


def around_chains(width: int, channels: int, *, bias: bool) -> tuple[nn.Module, nn.Module]:
    """The 1x1 convolutions of an edge; where both numbers are equal, none (spec FAD 1.4)."""
    if width == channels:
        return nn.Identity(), nn.Identity()
    return nn.Conv2d(width, channels, 1, bias=bias), nn.Conv2d(channels, width, 1, bias=bias)


@build_towers.register
def _(head: HeadGenotype, width: int, channels: int, cells: int, groups: int = GROUPS) -> GenotypeTowers:
    return GenotypeTowers(head, width, channels, cells, groups)
