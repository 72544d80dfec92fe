"""FAD's space: which chains the nodes of a head's two towers read, and of which states (spec FAD 1 to 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, product
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from fna_lightning.architectures import Architecture, Chain, Edge, HeadGenotype, TowerGenotype
from fna_lightning.architectures.genotype import CHAINS, CHAINS_WITH_DILATION_3, FAMILIES, INPUTS, NONE
from fna_lightning.blocks import build_chain, build_towers
from fna_lightning.blocks.chains import GROUPS, build_base, build_dilated
from fna_lightning.blocks.towers import GraphTower, GraphTowers, Nodes, around_chains, build_edge
from fna_lightning.choices import Choice, Choices, Joint, Supernet, weighted_sum
from fna_lightning.errors import ConfigError

_KEPT = 2
"""Edges of a node in the derived network."""
_MOST_NODES = 4
"""Of a tower; the pairs of edges and of operations of a fifth would be more than 1,500."""


@dataclass(frozen=True)
class TowerSpace:
    """Every node may read any two earlier states by any of the chains (spec FAD 1.3, 1.6).

    Attributes:
        nodes: of each tower.
        dilation_3: add the chains that end in dilation 3, the paper's twelve in place of the release's ten.
        sharing: compute all chains of a family on an edge as prefixes and branches of one (spec FAD 2).
        decoupling: of shared chains: give out through a 1x1 convolution what deeper chains go on from.

    Raises:
        ConfigError: for a number of nodes that cannot be.
    """

    part: ClassVar[str] = "head"

    nodes: int = 3
    dilation_3: bool = False
    sharing: bool = True
    decoupling: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= _MOST_NODES:
            raise ConfigError(f"nodes={self.nodes}: give 1 to {_MOST_NODES}")

    @property
    def operations(self) -> tuple[str, ...]:
        """Names of the chains, in the order of the architecture parameters."""
        return CHAINS_WITH_DILATION_3 if self.dilation_3 else CHAINS

    @property
    def names(self) -> tuple[str, ...]:
        """The candidates of every edge: its chain, or `none`."""
        return (*self.operations, NONE)


class SharedChains(nn.Module):
    """Chains of one family, of which the deepest is computed and the others branch off (spec FAD 2.2).

    Args:
        chains: in the order of their outputs.
        channels: of inputs and outputs.
        decoupling: whether what deeper chains go on from is given out through a 1x1 convolution.
        groups: of the group norms.
    """

    def __init__(self, chains: Sequence[Chain], channels: int, decoupling: bool, groups: int) -> None:
        super().__init__()
        deepest = max(chain.depth for chain in chains)

        def branch(chain: Chain) -> nn.Module:
            if chain.dilation:
                return build_dilated(chain.dilation, channels, groups)
            taps = decoupling and chain.depth < deepest
            return nn.Conv2d(channels, channels, 1, bias=False) if taps else nn.Identity()

        self.root = nn.ModuleList(build_base(chains[0].family, channels, groups) for _ in range(deepest))
        self.branches = nn.ModuleDict({str(chain): branch(chain) for chain in chains})
        self._depths = {str(chain): chain.depth for chain in chains}

    def forward(self, x: Tensor) -> list[Tensor]:
        """The outputs of all chains, each of the shape of `x`."""
        prefixes = [x]
        for block in self.root:
            prefixes.append(block(prefixes[-1]))
        return [branch(prefixes[self._depths[name]]) for name, branch in self.branches.items()]

    def only(self, name: str, x: Tensor) -> Tensor:
        """The output of one chain, computed without the others."""
        for block in self.root[: self._depths[name]]:
            x = block(x)
        return self.branches[name](x)


class SeparateChains(nn.Module):
    """Chains of one family side by side, as in a plain gradient search."""

    def __init__(self, chains: Sequence[Chain], channels: int, groups: int) -> None:
        super().__init__()
        self.chains = nn.ModuleDict({str(chain): build_chain(chain, channels, groups) for chain in chains})

    def forward(self, x: Tensor) -> list[Tensor]:
        """The outputs of all chains, each of the shape of `x`."""
        return [chain(x) for chain in self.chains.values()]

    def only(self, name: str, x: Tensor) -> Tensor:
        """The output of one chain."""
        return self.chains[name](x)


class EdgeChoice(Choice):
    """Which chain an edge is, or none; the edge of every cell of a tower holds it, and computes by it.

    Attributes:
        chosen: name of the active candidate; None for the mixture.
    """

    @property
    def chosen(self) -> str | None:
        """See the class."""
        return None if self.active is None else self.names[self.active]


class SearchedEdge(nn.Module):
    """1x1 down, the chains, 1x1 back, of which the chains are chosen or mixed (spec FAD 1.4, 2.3).

    The two convolutions have no bias, and serve all candidates: chains are mixed before the second. Where the
    path has no edge here, zeros come out and nothing is computed.
    """

    def __init__(self, choice: EdgeChoice, space: TowerSpace, width: int, channels: int, groups: int) -> None:
        super().__init__()
        chains = [Chain.parse(name) for name in space.operations]
        self.choice = choice
        self.families = nn.ModuleDict()
        for family in FAMILIES:
            own = [chain for chain in chains if chain.family == family]
            self.families[family] = (
                SharedChains(own, channels, space.decoupling, groups)
                if space.sharing
                else SeparateChains(own, channels, groups)
            )
        self.reduce, self.expand = around_chains(width, channels, bias=False)
        self._sizes = (width, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) -> the same shape."""
        chosen = self.choice.chosen
        if chosen == NONE:
            return torch.zeros_like(x)
        if chosen is not None:
            family = cast("SharedChains", self.families[Chain.parse(chosen).family])
            return self.expand(family.only(chosen, self.reduce(x)))
        x = self.reduce(x)
        outputs = [output for family in self.families.values() for output in family(x)]
        # The last weight is that of none, which adds nothing.
        return self.expand(weighted_sum(self.choice.mixture()[:-1], outputs))

    def counted_as(self) -> nn.Module:
        """What `fna_lightning.costs.tabulate` counts: derived edges have biases, and nothing is decoupled."""
        return _DerivedEdge(self.choice, *self._sizes)


class _DerivedEdge(nn.Module):
    """Of an edge's candidates those that the derived network has."""

    def __init__(self, choice: EdgeChoice, width: int, channels: int, groups: int) -> None:
        super().__init__()
        self.choice = choice
        names = (name for name in choice.names if name != NONE)
        self.edges = nn.ModuleDict({n: build_edge(Chain.parse(n), width, channels, groups) for n in names})

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) -> the same shape."""
        chosen = self.choice.chosen
        return torch.zeros_like(x) if chosen in (None, NONE) else self.edges[chosen](x)


class SearchedTower(GraphTower):
    """A tower whose nodes have an edge from every earlier state.

    Cells have parameters of their own and the choices in common, which are named by node and state.
    """

    def __init__(self, space: TowerSpace, width: int, channels: int, cells: int, groups: int) -> None:
        choices = [[EdgeChoice(space.names) for _ in range(INPUTS + node)] for node in range(space.nodes)]
        states = range(INPUTS, INPUTS + space.nodes)
        build = partial(SearchedEdge, space=space, width=width, channels=channels, groups=groups)

        def build_nodes() -> Nodes:
            return [[(state, build(choice)) for state, choice in enumerate(node)] for node in choices]

        super().__init__(width, cells, build_nodes, states, groups)
        # Cells come behind the choices, which then go by their own names and not by a place in the first cell.
        own = self.cells
        del self.cells
        self.choices = nn.ModuleList(nn.ModuleList(node) for node in choices)
        self.cells = own


class TowerSupernet(GraphTowers, Supernet):
    """All edges and chains of a `TowerSpace`, in the wiring of the derived towers.

    The edge from state `j` to node `i` of the box tower is the choice `box.choices.<i>.<j>`, and in cell `k` the
    module `box.cells.<k>.nodes.<i>.<j>`; of the class tower likewise.
    """

    def __init__(self, space: TowerSpace, width: int, channels: int, cells: int, groups: int = GROUPS) -> None:
        super().__init__(*(SearchedTower(space, width, channels, cells, groups) for _ in range(2)))
        self.space = space

    def architecture_of(self, path: Sequence[int]) -> HeadGenotype:
        """The edges of `path` that are not none, of each node in the order of their states.

        Raises:
            ConfigError: where a node would not have exactly two.
        """
        left = iter(path)
        towers = []
        for name in ("box", "classes"):
            nodes = []
            for number in range(self.space.nodes):
                chosen = [(self.space.names[next(left)], source) for source in range(INPUTS + number)]
                nodes.append(tuple(Edge(operation, source) for operation, source in chosen if operation != NONE))
                if len(nodes[-1]) != _KEPT:
                    raise ConfigError(
                        f"the path leaves {len(nodes[-1])} edges to node {number} of the {name} tower: choose "
                        f"{NONE} for all but {_KEPT}"
                    )
            towers.append(TowerGenotype(tuple(nodes), self._concat))
        return HeadGenotype(*towers)

    def path_of(self, architecture: Architecture) -> list[int] | None:
        """See `Supernet.path_of`."""
        if not isinstance(architecture, HeadGenotype):
            return None
        path = []
        for tower in (architecture.box, architecture.classes):
            if len(tower.nodes) != self.space.nodes or sorted(tower.concat) != list(self._concat):
                return None
            for number, edges in enumerate(tower.nodes):
                chosen = {edge.source: edge.operation for edge in edges}
                if not len(edges) == len(chosen) == _KEPT or not set(chosen.values()) <= set(self.space.names):
                    return None
                path += [self.space.names.index(chosen.get(source, NONE)) for source in range(INPUTS + number)]
        return path

    def joint(self) -> list[Joint]:
        """Of every node its edges: any two of them by any two operations, with none for all others.

        What speaks for a combination are the two that are kept (spec FAD 3.5).
        """
        choices, found = list(Choices(self)), []
        for number in [*range(self.space.nodes)] * 2:
            own, choices = choices[: INPUTS + number], choices[INPUTS + number :]
            options = np.array(list(self._combinations(len(own))), dtype=np.int64)
            found.append(Joint(own, options, options != self.space.names.index(NONE)))
        return found

    def _combinations(self, edges: int) -> Iterator[list[int]]:
        operations = range(len(self.space.operations))
        for places in combinations(range(edges), _KEPT):
            for chosen in product(operations, repeat=_KEPT):
                row = [len(operations)] * edges
                for place, operation in zip(places, chosen, strict=True):
                    row[place] = operation
                yield row

    @property
    def _concat(self) -> tuple[int, ...]:
        return tuple(range(INPUTS, INPUTS + self.space.nodes))


@build_towers.register
def _(head: TowerSpace, width: int, channels: int, cells: int, groups: int = GROUPS) -> TowerSupernet:
    return TowerSupernet(head, width, channels, cells, groups)
