"""A network of inverted residual blocks as a row of boxes."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from fna_lightning.architectures import MobileArchitecture, Stage
from fna_lightning.architectures.mobile import Layer
from fna_lightning.reporting.pictures.architecture import draw_architecture
from fna_lightning.reporting.pictures.style import FAINT, INK, SMALL, new_figure

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
_TALLEST, _LOWEST = 3.0, 0.45
"""Heights of the largest expansion and of a skip."""
_STEM_COLOUR = "#c9c9c9"


@draw_architecture.register
def draw_mobile(architecture: MobileArchitecture) -> Figure:
    """Draw one box a layer: darker for larger kernels, taller for larger expansions, hollow for skips.

    Below every stage stand its number, its widths and its stride. The last 1x1 convolution, which not
    every network builds, is left out.
    """
    rows = _rows(architecture.stages)
    units = max(_width(stages, with_stem=number == 0) for number, (_, stages) in enumerate(rows))
    figure = new_figure(max(6.0, units * _INCHES_PER_UNIT), _ROW_INCHES * len(rows) + 0.7)
    figure.suptitle(_title(architecture), x=0.01, ha="left", fontsize=10, color=INK)
    grid = figure.subplots(len(rows), 1, squeeze=False)
    tallest = max(layer.expansion for stage in architecture.stages for layer in stage.operations)
    for axes, (first, stages) in zip(grid[:, 0], rows, strict=True):
        axes.set_xlim(-0.3, max(units, 6.0 / _INCHES_PER_UNIT))
        axes.set_ylim(-1.95, _TALLEST + 0.95)
        axes.axis("off")
        x = _draw_stem(axes, architecture.stem_width) if first == 1 else 0.0
        for number, stage in enumerate(stages, start=first):
            _draw_stage(axes, x, number, architecture.in_widths[number - 1], stage, tallest)
            x += _stage_width(stage) + _GAP
    figure.legend(handles=_legend(architecture), loc="outside lower left", ncols=8, fontsize=SMALL, frameon=False)
    return figure


def kernel_colour(kernel: int) -> str:
    """Blue, darker for larger kernels; 3, 5 and 7 are far apart."""
    return to_hex(colormaps["Blues"](min(0.3 + 0.16 * (kernel - 3), 1.0) if kernel >= 3 else 0.12))


def _title(architecture: MobileArchitecture) -> str:
    layers = [layer for stage in architecture.stages for layer in stage.layers]
    skips = layers.count(None)
    skipped = f" and {skips} skip{'s' * (skips > 1)}" if skips else ""
    return f"{len(layers) - skips} layers in {len(architecture.stages)} stages{skipped}; height: expansion e"


def _stage_width(stage: Stage) -> float:
    return max(float(len(stage.layers)), _STAGE_WIDTH)


def _width(stages: Sequence[Stage], *, with_stem: bool) -> float:
    stem = _STAGE_WIDTH + _GAP if with_stem else 0.0
    return stem + sum(_stage_width(stage) + _GAP for stage in stages)


def _rows(stages: Sequence[Stage]) -> list[tuple[int, list[Stage]]]:
    """(number of the first stage, stages) of every row; a stage is never divided."""
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


def _draw_stage(axes: Axes, x: float, number: int, in_width: int, stage: Stage, tallest: int) -> None:
    for place, layer in enumerate(stage.layers):
        height = _height(layer, tallest)
        style = {"facecolor": "none", "edgecolor": FAINT, "linestyle": (0, (2, 1.5)), "linewidth": 1.0}
        if layer is not None:
            style = {"facecolor": kernel_colour(layer.kernel), "edgecolor": INK, "linewidth": 0.6}
        left = x + place + (1 - _BOX) / 2
        axes.add_patch(Rectangle((left, 0), _BOX, height, gid=f"stage {number} layer {place}", **style))
        text = "skip" if layer is None else f"k{layer.kernel}\ne{layer.expansion}"
        colour = FAINT if layer is None else INK
        axes.text(
            left + _BOX / 2, height + 0.1, text, ha="center", va="bottom",
            fontsize=SMALL - 1, color=colour, linespacing=0.95,
        )  # fmt: skip
    _note(axes, x, len(stage.layers), f"stage {number}", f"{in_width} → {stage.width}", stage.stride)


def _height(layer: Layer, tallest: int) -> float:
    return _LOWEST if layer is None else max(_TALLEST * layer.expansion / tallest, 0.3)


def _note(axes: Axes, x: float, boxes: int, name: str, widths: str, stride: int) -> None:
    """A brace below the boxes, with name, channels and stride of the stage."""
    axes.plot([x + 0.08, x + boxes - 0.08], [-0.2, -0.2], color=INK, linewidth=1.2, solid_capstyle="butt")
    axes.text(x + 0.08, -0.38, name, va="top", fontsize=SMALL, color=INK, weight="bold")
    axes.text(x + 0.08, -0.88, widths, va="top", fontsize=SMALL, color=INK)
    # What halves the resolution is what one looks for.
    colour = "#D55E00" if stride > 1 else FAINT
    axes.text(x + 0.08, -1.38, f"stride {stride}", va="top", fontsize=SMALL, color=colour)


def _legend(architecture: MobileArchitecture) -> list[Patch]:
    layers = [layer for stage in architecture.stages for layer in stage.layers]
    kernels = sorted({layer.kernel for layer in layers if layer is not None})
    handles = [Patch(facecolor=kernel_colour(k), edgecolor=INK, label=f"kernel {k}×{k}") for k in kernels]
    if None in layers:
        handles.append(Patch(facecolor="none", edgecolor=FAINT, linestyle="--", label="skip"))
    return handles
