"""Cost against quality of many networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from fna_lightning.reporting.pictures.style import (
    COLOURS,
    FAINT,
    INK,
    SMALL,
    counts_on,
    literal,
    new_figure,
    plain,
    shortened,
)

Point = tuple[str, float | None, float | None]
"""(label, cost, metric); less cost and more metric are better."""
Place = tuple[tuple[int, int], Literal["left", "center", "right"], Literal["top", "bottom"]]

# Offsets in points and alignments that are tried for a label, in this order: the line of the front never
# comes into the upper left of its points, and beaten points lie to the lower right of it.
_UPPER_LEFT: Place = ((-6, 6), "right", "bottom")
_UPPER_RIGHT: Place = ((6, 6), "left", "bottom")
_LOWER_LEFT: Place = ((-6, -5), "right", "top")
_LOWER_RIGHT: Place = ((6, -5), "left", "top")
_ABOVE: Place = ((0, 12), "center", "bottom")
_BELOW: Place = ((0, -12), "center", "top")
_FAR: tuple[Place, ...] = (
    ((-14, 24), "right", "bottom"),
    ((-14, 40), "right", "bottom"),
    ((-4, 56), "right", "bottom"),
)
_FRONT_PLACES = (_UPPER_LEFT, _ABOVE, _UPPER_RIGHT, *_FAR, _LOWER_RIGHT, _BELOW, _LOWER_LEFT)
_BEATEN_PLACES = (_LOWER_RIGHT, _UPPER_RIGHT, _BELOW, _LOWER_LEFT, _ABOVE, _UPPER_LEFT)
_LEADER = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 5, "relpos": (1, 0)}
"""From a label to its point, where they are not close."""
_CLOSE = 12
"""Points."""


def pareto_front(points: Sequence[Point]) -> list[int]:
    """Indices of the points that no other point beats, by rising cost.

    A point is beaten by one that costs no more and scores no less, and is better in one of them; equal
    points stay side by side. Points without a finite cost and metric take no part.
    """
    known = sorted((cost, -metric, index) for index, (cost, metric) in _known(points).items())
    front: list[int] = []
    best: tuple[float, float] | None = None
    for cost, loss, index in known:
        if best is None or loss < best[1] or (cost, loss) == best:
            front.append(index)
            best = (cost, loss)
    return front


def draw_pareto(points: Sequence[Point], metric_name: str = "metric") -> Figure:
    """Draw points with the Pareto front as a line; labels where there is room, those of the front first.

    Args:
        points: (label, cost, metric); those without a finite cost and metric are left out.
        metric_name: the y axis; the x axis counts multiply-adds.
    """
    figure = new_figure(7.0, 4.4)
    axes = figure.subplots()
    plain(axes, f"{metric_name} against multiply-adds", "multiply-adds", metric_name)
    counts_on(axes.xaxis)
    front = pareto_front(points)
    place = _known(points)
    others = [index for index in place if index not in set(front)]
    if others:
        axes.scatter(*zip(*(place[i] for i in others), strict=True), s=26, color=FAINT, label="beaten", zorder=2)
    if front:
        x, y = zip(*(place[i] for i in front), strict=True)
        # Steps, not slopes: nothing is known of networks between two points.
        axes.step(x, y, where="post", color=COLOURS[0], linewidth=1.4, zorder=3)
        axes.scatter(x, y, s=40, color=COLOURS[0], label="Pareto front", zorder=3)
        figure.legend(fontsize=SMALL, frameon=False, loc="outside lower left", ncols=2)
    axes.margins(0.14)
    _place_labels(
        figure, axes, [points[i][0] for i in front + others], [place[i] for i in front + others], len(front)
    )
    return figure


def _known(points: Sequence[Point]) -> dict[int, tuple[float, float]]:
    """(cost, metric) by index, of the points that have both."""
    return {
        index: (float(cost), float(metric))
        for index, (_, cost, metric) in enumerate(points)
        if cost is not None and metric is not None and math.isfinite(cost) and math.isfinite(metric)
    }


def _place_labels(
    figure: Figure, axes: Axes, labels: Sequence[str], places: Sequence[tuple[float, float]], front: int
) -> None:
    """Write each label beside its point, where it covers nothing; leave it out where there is no room.

    Args:
        figure: of the axes.
        axes: with the points drawn.
        labels: those of the front first, by rising cost.
        places: the points.
        front: how many of them are the front; their labels may cross its line if they must.
    """
    figure.draw_without_rendering()
    # The layout would shift what is measured now.
    figure.set_layout_engine("none")
    pixels = axes.transData.transform(places) if places else []
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in pixels]
    line = _steps([(x, y) for x, y in pixels[:front]])
    for number, (text, place) in enumerate(zip(labels, places, strict=True)):
        on_front = number < front
        colour = INK if on_front else FAINT
        note = axes.annotate(
            literal(shortened(text, 44)), place, (0, 0), textcoords="offset points", fontsize=SMALL, color=colour,
            arrowprops=_LEADER, gid="label",
        )  # fmt: skip
        tries = (taken + line, taken) if on_front else (taken + line,)
        extent = _find_room(axes, note, _FRONT_PLACES if on_front else _BEATEN_PLACES, tries)
        if extent is None:
            note.remove()
        else:
            taken.append(extent)


def _steps(points: Sequence[tuple[float, float]]) -> list[Bbox]:
    """The front's line, which runs to the right and then up."""
    boxes = []
    for (x0, y0), (x1, y1) in pairwise(points):
        boxes += [Bbox.from_extents(x0, y0 - 1, x1, y0 + 1), Bbox.from_extents(x1 - 1, y0, x1 + 1, y1)]
    return boxes


def _find_room(axes: Axes, note: Annotation, places: Sequence[Place], tries: Sequence[list[Bbox]]) -> Bbox | None:
    """Move `note` to the first place inside `axes` that covers nothing; of the obstacles, the first list wins."""
    for obstacles in tries:
        for (x, y), ha, va in places:
            note.set_position((x, y))
            note.set_horizontalalignment(ha)
            note.set_verticalalignment(va)
            if note.arrow_patch is not None:
                note.arrow_patch.set_visible(abs(y) > _CLOSE)
            note.get_window_extent()  # brings the note to its position
            extent = Text.get_window_extent(note)  # its own, without the line to the point
            room = axes.bbox
            inside = (
                extent.x0 >= room.x0 and extent.x1 <= room.x1 and extent.y0 >= room.y0 and extent.y1 <= room.y1
            )
            if inside and not any(extent.overlaps(other) for other in obstacles):
                return extent
    return None
