"""The heads that FAD searches (Zhong et al. 2020, 2007.12075), as data: two small graphs of chains."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

from fna_lightning.architectures.kinds import Architecture, register_kind
from fna_lightning.architectures.reading import Reader
from fna_lightning.errors import ArchitectureError

Family = Literal["std", "sinSep"]
FAMILIES: tuple[Family, ...] = ("std", "sinSep")
"""Dense convolutions, and depthwise-separable ones."""

NONE = "none"
"""How searches call an edge that is left out."""
INPUTS = 2
"""States that are given to a graph; its nodes are the states behind them."""

_CHAIN = re.compile(r"(std|sinSep)_conv_3x3(?:_x([23]))?(\+dil_conv_3x3(_r3)?)?")
_LONGEST = 20_000
"""Characters of a text; the published ones have some 600."""
_DEEPEST = 6
"""Brackets within one another."""
_MOST = 16
"""Nodes of a tower, and edges of a node."""
_FORM = "Genotype(normal=[[('std_conv_3x3', 0), ('std_conv_3x3', 1)], ...], normal_concat=range(2, 5))"


@dataclass(frozen=True)
class Chain:
    """What an edge computes: one to three 3x3 blocks in series, and a dilated one behind them (spec FAD 1.6).

    Attributes:
        family: of the first blocks; the dilated one is separable in both.
        depth: how many these are.
        dilation: of the last block, 2 or 3; 0 leaves it out.

    Raises:
        ArchitectureError: for other numbers.
    """

    family: Family
    depth: int = 1
    dilation: int = 0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES or self.depth not in (1, 2, 3) or self.dilation not in (0, 2, 3):
            raise ArchitectureError(
                f"a chain of family {self.family!r}, depth {self.depth} and dilation {self.dilation}: "
                "give std or sinSep, 1 to 3, and 0, 2 or 3"
            )

    @property
    def receptive_field(self) -> int:
        """Side in pixels of what one output sees."""
        return 1 + 2 * self.depth + 2 * self.dilation

    def __str__(self) -> str:
        depth = f"_x{self.depth}" if self.depth > 1 else ""
        dilated = {0: "", 2: "+dil_conv_3x3", 3: "+dil_conv_3x3_r3"}[self.dilation]
        return f"{self.family}_conv_3x3{depth}{dilated}"

    @classmethod
    def parse(cls, name: str) -> Chain:
        """Read the published name.

        Raises:
            ArchitectureError: for any other.
        """
        match = _CHAIN.fullmatch(name)
        if match is None:
            raise ArchitectureError(
                f"operation {name[:40]!r} is unknown: write std_conv_3x3 or sinSep_conv_3x3, behind it _x2, _x3 "
                "or nothing, behind that +dil_conv_3x3, +dil_conv_3x3_r3 or nothing"
            )
        dilation = (3 if match[4] else 2) if match[3] else 0
        return cls(cast("Family", match[1]), int(match[2] or 1), dilation)


def _names(dilations: Sequence[int]) -> tuple[str, ...]:
    """The chains of both families in the order in which a root gives them out (spec FAD 2.2)."""
    branches = [Chain(family="std", dilation=dilation) for dilation in dilations]
    chains = [Chain("std"), *branches, Chain("std", 2), Chain("std", 2, 2), Chain("std", 3)]
    return tuple(str(Chain(family, each.depth, each.dilation)) for family in FAMILIES for each in chains)


CHAINS = _names([2])
"""The ten operations of the release."""
CHAINS_WITH_DILATION_3 = _names([3, 2])
"""The paper's twelve."""


@dataclass(frozen=True)
class Edge:
    """What a node reads.

    Attributes:
        operation: name of a `Chain`.
        source: number of the state that it is computed of: an input, 0 or 1, or an earlier node, 2 and more.
    """

    operation: str
    source: int

    @property
    def chain(self) -> Chain:
        """Its operation."""
        return Chain.parse(self.operation)


@dataclass(frozen=True)
class TowerGenotype:
    """The graph of one tower (spec FAD 1.3): nodes add up their edges, and some states are the output together.

    Attributes:
        nodes: edges of each node, in the order of the text, which makes no difference to the network.
        concat: numbers of the states whose channels are the output, nodes alone.

    Raises:
        ArchitectureError: naming the node and the edge that cannot be.
    """

    nodes: tuple[tuple[Edge, ...], ...]
    concat: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.nodes) <= _MOST:
            raise ArchitectureError(f"{len(self.nodes)} nodes: give 1 to {_MOST}")
        for number, edges in enumerate(self.nodes):
            if not 1 <= len(edges) <= _MOST:
                raise ArchitectureError(f"node {number} has {len(edges)} edges: give 1 to {_MOST}")
            for place, edge in enumerate(edges):
                _check_edge(edge, number, f"node {number}, edge {place}")
        last = INPUTS + len(self.nodes) - 1
        if not self.concat or len(set(self.concat)) != len(self.concat):
            raise ArchitectureError(f"concat {list(self.concat)[:_MOST]}: give each state once, and at least one")
        if not all(INPUTS <= state <= last for state in self.concat):
            raise ArchitectureError(
                f"concat {list(self.concat)[:_MOST]}: its nodes are the states {INPUTS} to {last}"
            )

    def fields_of(self, first: int, second: int) -> tuple[int, ...]:
        """Receptive fields of all states, from those of the inputs."""
        fields = [first, second]
        for edges in self.nodes:
            fields.append(max(fields[edge.source] + edge.chain.receptive_field - 1 for edge in edges))
        return tuple(fields)

    def output_field(self, first: int, second: int, cells: int) -> int:
        """Receptive field of the output of several graphs in a row, each behind the two before it."""
        for _ in range(cells):
            fields = self.fields_of(first, second)
            first, second = second, max(fields[state] for state in self.concat)
        return second

    def __str__(self) -> str:
        nodes = ", ".join(f"[{', '.join(str((e.operation, e.source)) for e in edges)}]" for edges in self.nodes)
        first, last = self.concat[0], self.concat[-1]
        whole = self.concat == tuple(range(first, last + 1))
        concat = f"range({first}, {last + 1})" if whole else str(list(self.concat))
        return f"Genotype(normal=[{nodes}], normal_concat={concat})"

    def to_dict(self) -> dict[str, Any]:
        """Plain lists: nodes of edges of (operation, source)."""
        nodes = [[[edge.operation, edge.source] for edge in edges] for edges in self.nodes]
        return {"nodes": nodes, "concat": list(self.concat)}


def _check_edge(edge: Edge, node: int, where: str) -> None:
    try:
        Chain.parse(edge.operation)
    except ArchitectureError as error:
        raise ArchitectureError(f"{where}: {error}") from error
    last = INPUTS + node - 1
    if not 0 <= edge.source <= last:
        raise ArchitectureError(f"{where}: source {edge.source} is no earlier state: choose 0 to {last}")


@register_kind
@dataclass(frozen=True)
class HeadGenotype(Architecture):
    """The two towers of a head; the class tower's input 0 is what the box tower gives (spec FAD 1.2).

    Attributes:
        box: of the branch that boxes, and how central a place is, are predicted from.
        classes: of the branch that classes are predicted from.
    """

    kind: ClassVar[str] = "genotype"
    part: ClassVar[str] = "head"
    text_form: ClassVar[str] = "two Genotype(...)"

    box: TowerGenotype
    classes: TowerGenotype

    def fields(self, cells: int) -> tuple[int, int]:
        """Receptive fields of the box and of the class tower's output, in pixels of a level."""
        box = self.box.output_field(1, 1, cells)
        return box, self.classes.output_field(box, 1, cells)

    def __str__(self) -> str:
        return f"{self.box}\n{self.classes}"

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings; `from_dict` reads it back equal."""
        return {"kind": self.kind, "box": self.box.to_dict(), "classes": self.classes.to_dict()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> HeadGenotype:
        """Read what `to_dict` gives.

        Raises:
            ArchitectureError: naming the key that is missing, unknown or of the wrong type.
        """
        reader = Reader(data, cls.kind)
        towers = {name: reader.take(name, dict) for name in ("box", "classes")}
        reader.finish()
        return cls(**{name: _tower_of(tower, name) for name, tower in towers.items()})

    @classmethod
    def recognises(cls, line: str) -> bool:
        """`Genotype(...)`."""
        return line.lstrip().startswith("Genotype(")

    @classmethod
    def from_text(cls, text: str) -> HeadGenotype:
        """Read the two published lines, the box tower's first; only literals are read, nothing is evaluated.

        Raises:
            ArchitectureError: naming the tower, and what is wrong there.
        """
        if len(text) > _LONGEST:
            raise ArchitectureError(
                f"the genotype has {len(text)} characters: {_LONGEST} are the most that are read"
            )
        lines = list(_whole_lines(text))
        if len(lines) != 2:
            raise ArchitectureError(
                f"the text holds {len(lines)} Genotype(...): write two, that of the box tower before that of the "
                "class tower"
            )
        box, classes = (_parse_tower(line, name) for line, name in zip(lines, ("box", "classes"), strict=True))
        return cls(box, classes)


def _whole_lines(text: str) -> Iterator[str]:
    """One text a genotype, each of which may go over several lines."""
    line = ""
    for piece in text.splitlines():
        if HeadGenotype.recognises(piece) and line.strip():
            yield line
            line = ""
        line += f" {piece.strip()}"
    yield line


def _parse_tower(line: str, where: str) -> TowerGenotype:
    """The tower of one `Genotype(...)`.

    Raises:
        ArchitectureError: with `where` before what is wrong.
    """
    line = line.strip()
    refused = ArchitectureError(f"{where}: {line[:60]!r} is no genotype: write {_FORM}")
    if _depth(line) > _DEEPEST:
        raise refused
    try:
        call = ast.parse(line, mode="eval").body
        if not isinstance(call, ast.Call) or call.args or ast.unparse(call.func) != "Genotype":
            raise refused
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        if len(call.keywords) != 2 or given.keys() != {"normal", "normal_concat"}:
            raise refused
        nodes, concat = ast.literal_eval(given["normal"]), _literal_states(given["normal_concat"])
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise refused from error
    return _tower(nodes, concat, where)


def _depth(line: str) -> int:
    """Of brackets within one another."""
    depth = deepest = 0
    for character in line:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _literal_states(node: ast.expr) -> object:
    """A list, or the numbers of `range(a, b)`; as many as a tower can have, and one more to be complained of."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "range" and not node.keywords:
        first, last = (ast.literal_eval(argument) for argument in node.args)
        return list(range(first, last)[: _MOST + 1])
    return ast.literal_eval(node)


def _tower_of(data: dict[str, Any], where: str) -> TowerGenotype:
    """A tower from its plain form."""
    reader = Reader(data, where)
    nodes, concat = reader.take("nodes", list), reader.take("concat", list)
    reader.finish()
    return _tower(nodes, concat, where)


def _tower(nodes: object, concat: object, where: str) -> TowerGenotype:
    """A tower from untrusted lists, whose numbers and names `TowerGenotype` judges.

    Raises:
        ArchitectureError: with `where` before what is wrong.
    """
    try:
        if not isinstance(nodes, (list, tuple)) or not all(isinstance(edges, (list, tuple)) for edges in nodes):
            raise ArchitectureError(f"nodes {str(nodes)[:40]}: give a list of edges for each")
        if not isinstance(concat, (list, tuple)) or not all(type(state) is int for state in concat):
            raise ArchitectureError(f"concat {str(concat)[:40]}: give a list of states")
        found = tuple(
            tuple(_edge(pair, f"node {number}, edge {place}") for place, pair in enumerate(edges))
            for number, edges in enumerate(nodes)
        )
        return TowerGenotype(found, tuple(concat))
    except ArchitectureError as error:
        raise ArchitectureError(f"{where}: {error}") from error


def _edge(pair: object, where: str) -> Edge:
    if isinstance(pair, (list, tuple)) and [type(part) for part in pair] == [str, int]:
        return Edge(*pair)
    raise ArchitectureError(f"{where} is {str(pair)[:40]!r}: give an operation and the number of a state")
