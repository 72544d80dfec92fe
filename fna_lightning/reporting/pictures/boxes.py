"""A network in stages as rows of boxes, one a layer: what the drawings of several kinds share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from fna_lightning.reporting.pictures.style import FAINT, INK, SMALL, new_figure

TALLEST = 3.0
"""The greatest height of a box."""
_ROW_UNITS = 32.0
"""Boxes, with their gaps, that one row holds before the next begins."""
_INCHES_PER_UNIT = 0.4
_ROW_INCHES = 2.7
_BOX = 0.84
"""Width of a box; the pitch is 1."""
_GAP = 0.7
"""Between two stages."""
_STAGE_WIDTH = 2.1
"""The least a stage takes, so that its notes do not run into the next."""
_STEM_COLOUR = "#c9c9c9"


class Box(NamedTuple):
    """A layer."""

    height: float
    """Up to `TALLEST`."""
    text: str
    """Written above it."""
    colour: str | None
    """None leaves it hollow."""


class Stage(NamedTuple):
    """Layers, and what is noted below them."""

    boxes: Sequence[Box]
    in_width: int
    width: int
    stride: int


def draw_stages(
    stages: Sequence[Stage], title: str, legend: Sequence[Patch], *, row_height: float = TALLEST
) -> Figure:
    """Draw stem and stages, numbered from 1, in as many rows as it takes; a stage is never divided.

    Args:
        stages: their first one's `in_width` is the stem's width.
        title: over all of it.
        legend: what colours mean.
        row_height: of the tallest box.
    """
    rows = _rows(stages)
    units = max(_width(row, with_stem=number == 0) for number, (_, row) in enumerate(rows))
    inches = _ROW_INCHES - (TALLEST - row_height) * _INCHES_PER_UNIT
    figure = new_figure(max(6.0, units * _INCHES_PER_UNIT), inches * len(rows) + 0.7)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)
    grid = figure.subplots(len(rows), 1, squeeze=False)
    for axes, (first, row) in zip(grid[:, 0], rows, strict=True):
        axes.set_xlim(-0.3, max(units, 6.0 / _INCHES_PER_UNIT))
        axes.set_ylim(-1.95, row_height + 0.95)
        axes.axis("off")
        x = _draw_stem(axes, stages[0].in_width) if first == 1 else 0.0
        for number, stage in enumerate(row, start=first):
            _draw_stage(axes, x, number, stage)
            x += _stage_width(stage) + _GAP
    figure.legend(handles=legend, loc="outside lower left", ncols=8, fontsize=SMALL, frameon=False)
    return figure


def kernel_colour(kernel: int) -> str:
    """Blue, darker for larger kernels; 3, 5 and 7 are far apart."""
    return to_hex(colormaps["Blues"](min(0.3 + 0.16 * (kernel - 3), 1.0) if kernel >= 3 else 0.12))


def kernel_patch(kernel: int) -> Patch:
    """The colour of a kernel, for legends."""
    return Patch(facecolor=kernel_colour(kernel), edgecolor=INK, label=f"kernel {kernel}×{kernel}")


def _stage_width(stage: Stage) -> float:
    return max(float(len(stage.boxes)), _STAGE_WIDTH)


def _width(stages: Sequence[Stage], *, with_stem: bool) -> float:
    stem = _STAGE_WIDTH + _GAP if with_stem else 0.0
    return stem + sum(_stage_width(stage) + _GAP for stage in stages)


def _rows(stages: Sequence[Stage]) -> list[tuple[int, list[Stage]]]:
    """(number of the first stage, stages) of every row."""
    rows: list[tuple[int, list[Stage]]] = [(1, [])]
    for number, stage in enumerate(stages, start=1):
        _, row = rows[-1]
        if row and _width([*row, stage], with_stem=len(rows) == 1) > _ROW_UNITS:
            rows.append((number, [stage]))
        else:
            row.append(stage)
    return rows


def _draw_stem(axes: Axes, width: int) -> float:
    axes.add_patch(Rectangle((0, 0), _BOX, 1.0, facecolor=_STEM_COLOUR, edgecolor=INK, linewidth=0.6, gid="stem"))
    axes.text(_BOX / 2, 1.1, "3×3", ha="center", va="bottom", fontsize=SMALL, color=INK)
    _note(axes, 0.0, 1, "stem", f"3 → {width}", 2)
    return _STAGE_WIDTH + _GAP


def _draw_stage(axes: Axes, x: float, number: int, stage: Stage) -> None:
    for place, box in enumerate(stage.boxes):
        style = {"facecolor": "none", "edgecolor": FAINT, "linestyle": (0, (2, 1.5)), "linewidth": 1.0}
        if box.colour is not None:
            style = {"facecolor": box.colour, "edgecolor": INK, "linewidth": 0.6}
        left = x + place + (1 - _BOX) / 2
        axes.add_patch(Rectangle((left, 0), _BOX, box.height, gid=f"stage {number} layer {place}", **style))
        axes.text(
            left + _BOX / 2, box.height + 0.1, box.text, ha="center", va="bottom",
            fontsize=SMALL - 1, color=FAINT if box.colour is None else INK, linespacing=0.95,
        )  # fmt: skip
    widths = f"{stage.in_width} → {stage.width}"
    _note(axes, x, len(stage.boxes), f"stage {number}", widths, stage.stride)


def _note(axes: Axes, x: float, boxes: int, name: str, widths: str, stride: int) -> None:
    """A brace below the boxes, with name, channels and stride of the stage."""
    axes.plot([x + 0.08, x + boxes - 0.08], [-0.2, -0.2], color=INK, linewidth=1.2, solid_capstyle="butt")
    axes.text(x + 0.08, -0.38, name, va="top", fontsize=SMALL, color=INK, weight="bold")
    axes.text(x + 0.08, -0.88, widths, va="top", fontsize=SMALL, color=INK)
    # What halves the resolution is what one looks for.
    colour = "#D55E00" if stride > 1 else FAINT
    axes.text(x + 0.08, -1.38, f"stride {stride}", va="top", fontsize=SMALL, color=colour)
