"""Cost against quality of many networks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
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

# Offsets in points and alignments that are tried for a label, in this order.
_PLACES = (
    ((6, 5), "left", "bottom"),
    ((-6, 5), "right", "bottom"),
    ((6, -5), "left", "top"),
    ((-6, -5), "right", "top"),
    ((0, 14), "center", "bottom"),
    ((0, -14), "center", "top"),
)


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


def draw_pareto(points: Sequence[Point], cost_name: str = "multiply-adds", metric_name: str = "metric") -> Figure:
    """Draw points with the Pareto front as a line; labels where there is room, those of the front first.

    Args:
        points: (label, cost, metric); those without a finite cost and metric are left out.
        cost_name: the x axis; counts.
        metric_name: the y axis.
    """
    figure = new_figure(7.0, 4.4)
    axes = figure.subplots()
    plain(axes, f"{metric_name} against {cost_name}", cost_name, metric_name)
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
        axes.legend(fontsize=SMALL, frameon=False, loc="lower right")
    axes.margins(0.14)
    _place_labels(
        figure, axes, [(points[i][0], place[i], INK if i in front else FAINT) for i in [*front, *others]]
    )
    return figure


def _known(points: Sequence[Point]) -> dict[int, tuple[float, float]]:
    """(cost, metric) by index, of the points that have both."""
    return {
        index: (float(cost), float(metric))
        for index, (_, cost, metric) in enumerate(points)
        if cost is not None and metric is not None and math.isfinite(cost) and math.isfinite(metric)
    }


def _place_labels(figure: Figure, axes: Axes, labels: Sequence[tuple[str, tuple[float, float], str]]) -> None:
    """Write each label at the first place beside its point that is free; without one, leave it out."""
    figure.draw_without_rendering()
    # The layout would shift what was measured.
    figure.set_layout_engine("none")
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    renderer = canvas.get_renderer()
    points = axes.transData.transform([place for _, place, _ in labels]) if labels else []
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in points]
    if legend := axes.get_legend():
        taken.append(legend.get_window_extent(renderer))
    room = figure.bbox
    for text, place, colour in labels:
        for offset, ha, va in _PLACES:
            note = _annotate(axes, text, place, offset, ha, va, colour)
            extent = note.get_window_extent(renderer)
            inside = (
                extent.x0 >= room.x0
                and extent.x1 <= room.x1
                and extent.y1 <= room.y1
                and extent.y0 >= axes.bbox.y0
            )
            if inside and not any(extent.overlaps(other) for other in taken):
                taken.append(extent)
                break
            note.remove()


def _annotate(
    axes: Axes, text: str, place: tuple[float, float], offset: tuple[float, float], ha: str, va: str, colour: str
) -> Annotation:
    return axes.annotate(
        literal(shortened(text, 44)), place, offset, textcoords="offset points", ha=ha, va=va,
        fontsize=SMALL, color=colour,
    )  # fmt: skip
