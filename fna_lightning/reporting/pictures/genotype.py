"""The two towers of a genotype as graphs: a card a node, a row an edge, lines from the states that are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Patch, PathPatch
from matplotlib.path import Path

from fna_lightning.architectures import Chain, HeadGenotype, TowerGenotype
from fna_lightning.architectures.genotype import INPUTS
from fna_lightning.reporting.pictures.architecture import draw_architecture
from fna_lightning.reporting.pictures.style import COLOURS, FAINT, INK, SMALL, new_figure

# Measures are inches, the units of the axes.
_CARD, _OUTPUT, _INPUT, _GAP = 2.25, 1.05, 0.95, 0.8
_HEADER, _ROW, _BEAD = 0.27, 0.42, 0.17
_PILL, _APART = 0.34, 0.36
"""Height of an input, and its distance from the middle."""
_NARROWEST = 7.8
"""Of pictures, for the texts above towers."""
_LANE = 0.16
"""Between lines that pass above or below cards."""
_MARGIN, _TITLE, _BETWEEN, _LEGEND = 0.25, 0.42, 0.5, 0.42

_STD, _SEPARABLE, _DILATED = COLOURS[0], COLOURS[2], COLOURS[1]
_LEVEL, _BOX = "#5b6770", COLOURS[3]
_NODES = ("#8465b5", "#c08a1e", "#4fa3d1", "#8d6e63", "#9e9d24", "#d0708a")
_PAPER, _EDGE = "#fafaf7", "#d5d5cf"

_LEGEND_TEXTS = {
    _STD: "3×3, dense",
    _SEPARABLE: "3×3, depthwise and 1×1",
    _DILATED: "3×3, depthwise with this dilation, and 1×1",
}


class _Card(NamedTuple):
    """What is drawn of a node, or of the output behind all of them."""

    name: str
    title: str
    field: int
    colour: str
    x: float
    width: float
    rows: Sequence[tuple[int, Chain | None]]
    """The states that it reads, and by which chain; None as they are."""

    @property
    def height(self) -> float:
        return _HEADER + _ROW * len(self.rows) + 0.06

    def row(self, middle: float, place: int) -> float:
        """Height of the middle of a row."""
        return middle + self.height / 2 - _HEADER - _ROW * (place + 0.5)


class _Tower:
    """The places of a tower's cards, and of the lines between them."""

    def __init__(self, name: str, graph: TowerGenotype, inputs: Sequence[tuple[str, str, int]]) -> None:
        self.name = name
        self.inputs = inputs
        """Label, colour and receptive field of each."""
        fields = graph.fields_of(inputs[0][2], inputs[1][2])
        self.colours = [colour for _, colour, _ in inputs]
        self.cards: list[_Card] = []
        x = _MARGIN + _INPUT + _GAP
        for number, edges in enumerate(graph.nodes):
            state, colour = INPUTS + number, _NODES[number % len(_NODES)]
            rows = [(edge.source, edge.chain) for edge in edges]
            self.cards.append(
                _Card(f"{name} node {state}", f"node {state}", fields[state], colour, x, _CARD, rows)
            )
            self.colours.append(colour)
            x += _CARD + _GAP
        field = max(fields[state] for state in graph.concat)
        rows = [(state, None) for state in graph.concat]
        self.cards.append(_Card(f"{name} output", "output", field, INK, x, _OUTPUT, rows))
        self.width = x + _OUTPUT + _MARGIN
        far = sorted({source for _, card, source, _ in self._reads() if self._is_far(card, source)})
        self.lanes = {source: (place // 2 + 1) * (1 if place % 2 == 0 else -1) for place, source in enumerate(far)}
        tallest = max([2 * (_APART + _PILL / 2), *(card.height for card in self.cards)])
        self.above = tallest / 2 + _LANE * max([0, *self.lanes.values()]) + 0.1
        self.below = tallest / 2 - _LANE * min([0, *self.lanes.values()]) + 0.1
        self._tallest = tallest

    def _reads(self) -> list[tuple[int, int, int, Chain | None]]:
        """(row, card, state, chain) of all lines."""
        return [
            (place, number, source, chain)
            for number, card in enumerate(self.cards)
            for place, (source, chain) in enumerate(card.rows)
        ]

    @staticmethod
    def _is_far(card: int, source: int) -> bool:
        """Whether cards lie between the two."""
        return max(source - INPUTS, -1) + 1 < card

    def draw(self, axes: Axes, middle: float) -> None:
        """Draw lines, then what they join."""
        for place, number, source, _ in self._reads():
            card = self.cards[number]
            line = self._line(source, (card.x, card.row(middle, place)), middle, far=self._is_far(number, source))
            colour = self.colours[source]
            axes.add_patch(
                PathPatch(line, facecolor="none", edgecolor=colour, linewidth=1.8, capstyle="round", zorder=1)
            )
        for number, (label, colour, _) in enumerate(self.inputs):
            x, y = self._input(number, middle)
            _box(
                axes,
                (x, y - _PILL / 2),
                _INPUT,
                0.34,
                f"{self.name} input {number}",
                facecolor=colour,
                edgecolor=colour,
            )
            axes.text(
                x + _INPUT / 2, y, f"{number}  {label}", ha="center", va="center", fontsize=SMALL, color="white",
                weight="bold", zorder=4,
            )  # fmt: skip
        for card in self.cards:
            self._draw_card(axes, card, middle)

    def _input(self, number: int, middle: float) -> tuple[float, float]:
        return _MARGIN, middle + (_APART if number == 0 else -_APART)

    def top_of_input(self, middle: float) -> tuple[float, float]:
        """Where a line from above meets input 0."""
        x, y = self._input(0, middle)
        return x + _INPUT / 2, y + _PILL / 2

    def bottom_of_output(self, middle: float) -> tuple[float, float]:
        """Where a line downwards leaves the output."""
        card = self.cards[-1]
        return card.x + card.width / 2, middle - card.height / 2

    def _line(self, source: int, end: tuple[float, float], middle: float, *, far: bool) -> Path:
        if source < INPUTS:
            x, y = self._input(source, middle)
            start = (x + _INPUT, y)
        else:
            card = self.cards[source - INPUTS]
            start = (card.x + card.width, middle + card.height / 2 - _HEADER / 2)
        if not far:
            return Path(*_bend([start], start, end))
        lane = self.lanes[source]
        y = middle + (self._tallest / 2 if lane > 0 else -self._tallest / 2) + _LANE * lane
        vertices, codes = _bend([start], start, (start[0] + _GAP, y))
        vertices.append((end[0] - _GAP, y))
        codes.append(int(Path.LINETO))
        more, bends = _bend([], vertices[-1], end)
        return Path(vertices + more, codes + bends)

    def _draw_card(self, axes: Axes, card: _Card, middle: float) -> None:
        top = middle + card.height / 2
        _box(axes, (card.x, top - card.height), card.width, card.height, card.name)
        _box(
            axes, (card.x, top - _HEADER), card.width, _HEADER, f"{card.name} header",
            facecolor=card.colour, edgecolor=card.colour,
        )  # fmt: skip
        axes.text(
            card.x + 0.1, top - _HEADER / 2, card.title, va="center", fontsize=SMALL, color="white", weight="bold",
            zorder=4,
        )  # fmt: skip
        axes.text(
            card.x + card.width - 0.08, top - _HEADER / 2, f"{card.field}×{card.field}", ha="right", va="center",
            fontsize=SMALL, color="white", zorder=4,
        )  # fmt: skip
        for place, (source, chain) in enumerate(card.rows):
            y = card.row(middle, place)
            axes.add_patch(
                Circle(
                    (card.x, y), 0.085, facecolor=self.colours[source], edgecolor="white", linewidth=1, zorder=5
                )
            )
            axes.text(
                card.x, y - 0.005, str(source), ha="center", va="center", fontsize=SMALL - 2, color="white",
                weight="bold", zorder=6,
            )  # fmt: skip
            if chain is None:
                text = f"node {source}"
                axes.text(card.x + 0.18, y, text, va="center", fontsize=SMALL, color=INK, zorder=4)
            else:
                _draw_chain(axes, card, chain, y, f"{card.name} edge {place}")


def _draw_chain(axes: Axes, card: _Card, chain: Chain, y: float, name: str) -> None:
    """Its blocks as squares, its name below them and its receptive field at the right."""
    colour = _STD if chain.family == "std" else _SEPARABLE
    blocks = [(colour, "")] * chain.depth + [(_DILATED, str(chain.dilation))] * bool(chain.dilation)
    x = card.x + 0.18
    for number, (face, text) in enumerate(blocks):
        if number:
            axes.plot([x - 0.06, x], [y + 0.07] * 2, color=FAINT, linewidth=1, zorder=3)
        _box(axes, (x, y + 0.07 - _BEAD / 2), _BEAD, _BEAD, name, facecolor=face, edgecolor=face, zorder=4)
        axes.text(
            x + _BEAD / 2, y + 0.065, text, ha="center", va="center", fontsize=SMALL - 1, color="white",
            weight="bold", zorder=5,
        )  # fmt: skip
        x += _BEAD + 0.06
    axes.text(card.x + 0.18, y - 0.12, str(chain), va="center", fontsize=SMALL - 2, color=FAINT, zorder=4)
    axes.text(
        card.x + card.width - 0.08, y + 0.065, f"{chain.receptive_field}×{chain.receptive_field}", ha="right",
        va="center", fontsize=SMALL, color=INK, zorder=4,
    )  # fmt: skip


def _box(
    axes: Axes, corner: tuple[float, float], width: float, height: float, name: str, *,
    facecolor: str = _PAPER, edgecolor: str = _EDGE, zorder: int = 3,
) -> None:  # fmt: skip
    style = {"facecolor": facecolor, "edgecolor": edgecolor, "linewidth": 0.9, "gid": name, "zorder": zorder}
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle="round,pad=0,rounding_size=0.045", **style))


def _bend(
    vertices: list[tuple[float, float]], start: tuple[float, float], end: tuple[float, float]
) -> tuple[list[tuple[float, float]], list[int]]:
    """An S from `start` to `end`, level at both."""
    middle = (start[0] + end[0]) / 2
    codes = [int(Path.MOVETO)] * len(vertices) + [int(Path.CURVE4)] * 3
    return [*vertices, (middle, start[1]), (middle, end[1]), end], codes


@draw_architecture.register
def draw_genotype(architecture: HeadGenotype) -> Figure:
    """Draw the box tower, and below it the class tower, which reads what that gives.

    A node is a card with a row for each edge: the state that it reads, the blocks of its chain, and how much one
    output of that sees. What a node sees of the level, in a tower of one cell, stands in the card's head.
    """
    level = ("level", _LEVEL, 1)
    box = _Tower("box", architecture.box, (level, level))
    given = ("box tower", _BOX, box.cards[-1].field)
    classes = _Tower("class", architecture.classes, (given, level))
    width = max(box.width, classes.width, _NARROWEST)
    height = box.above + box.below + classes.above + classes.below + _TITLE * 2 + _BETWEEN + _LEGEND
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.axis("off")
    upper = height - _TITLE - box.above
    lower = _LEGEND + classes.below
    _draw_link(axes, box.bottom_of_output(upper), classes.top_of_input(lower), upper - box.below - _BETWEEN / 3)
    for tower, middle, several in zip((box, classes), (upper, lower), architecture.fields(2), strict=True):
        _draw_title(axes, tower, middle, several)
        tower.draw(axes, middle)
    handles = [Patch(facecolor=colour, label=text) for colour, text in _LEGEND_TEXTS.items()]
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(_MARGIN / width, 0.0), ncols=3, fontsize=SMALL,
        frameon=False, borderaxespad=0.2, handlelength=1.0, handleheight=1.0,
    )  # fmt: skip
    return figure


def _draw_title(axes: Axes, tower: _Tower, middle: float, several: int) -> None:
    y = middle + tower.above + 0.12
    x, field = tower.cards[0].x, tower.cards[-1].field
    axes.text(x, y, f"{tower.name} tower", fontsize=11, color=INK, weight="bold")
    note = f"an output sees {field}×{field} pixels of the level, {several}×{several} in a tower of two cells"
    axes.text(x + 1.1, y, note, fontsize=SMALL, color=INK)


def _draw_link(axes: Axes, start: tuple[float, float], end: tuple[float, float], y: float) -> None:
    """The line from the box tower's output round to the class tower's input 0."""
    (right, top), (left, bottom), bend = start, end, 0.15
    points = [
        (right, top), (right, y + bend), (right, y), (right - bend, y),
        (left + bend, y), (left, y), (left, y - bend), (left, bottom),
    ]  # fmt: skip
    codes = [
        Path.MOVETO,
        Path.LINETO,
        Path.CURVE3,
        Path.CURVE3,
        Path.LINETO,
        Path.CURVE3,
        Path.CURVE3,
        Path.LINETO,
    ]
    axes.add_patch(
        PathPatch(Path(points, codes), facecolor="none", edgecolor=_BOX, linewidth=2.4, zorder=1, gid="link")
    )
