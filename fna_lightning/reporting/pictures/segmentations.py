"""Images with the labels of their pixels, and how well each class was found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from fna_lightning.reporting.pictures.style import (
    COLOURS,
    FAINT,
    INK,
    SMALL,
    literal,
    new_figure,
    plain,
    shortened,
)

if TYPE_CHECKING:  # the summary of a sweep draws without torch
    from numpy.typing import NDArray
    from torch import Tensor

    from fna_lightning.data.label_maps import LabelMap

_MOST = 4
_WIDTH = 3.4
"""Inches of one picture."""
_LEGEND_COLUMNS = 7
_LONGEST_NAME = 18


def draw_segmentations(
    images: Sequence[Tensor] | Tensor,
    predicted: Sequence[Tensor],
    truth: Sequence[Tensor],
    label_map: LabelMap,
) -> Figure:
    """Draw the first four images in rows: the picture, its true labels, the labels found.

    The legend names the classes that occur in any of them. Pixels without a label are black in the truth and do
    not count in the share of right pixels; what was found there is shown like the rest.

    Args:
        images: N tensors (3, H, W) uint8, without padding; at least one.
        predicted: one (H', W') uint8 per image; its size may differ from the image's.
        truth: likewise, of the prediction's size.
        label_map: names and colours of the labels.
    """
    rows = [
        (image.cpu().permute(1, 2, 0).numpy(), true.cpu().numpy(), found.cpu().numpy())
        for image, true, found in zip(images[:_MOST], truth[:_MOST], predicted[:_MOST], strict=True)
    ]
    labels = sorted({int(label) for _, *both in rows for array in both for label in np.unique(array)})
    legend_rows = math.ceil(len(labels) / _LEGEND_COLUMNS)
    heights = [_WIDTH * max(picture.shape[0] / picture.shape[1], 0.2) + 0.3 for picture, _, _ in rows]
    figure = new_figure(3 * _WIDTH, sum(heights) + 0.22 * legend_rows + 0.2)
    grid = figure.subplots(len(rows), 3, squeeze=False, height_ratios=heights)
    for axes in grid.flat:
        axes.axis("off")
    for places, (picture, true, found) in zip(grid, rows, strict=True):
        _show(places[0], picture, "picture")
        _show(places[1], label_map.coloured(true), "annotated")
        _show(places[2], label_map.coloured(found), f"found{_share_right(true, found, label_map)}")
    handles = [_swatch(label_map, label) for label in labels]
    figure.legend(handles=handles, loc="outside lower left", ncols=_LEGEND_COLUMNS, fontsize=SMALL, frameon=False)
    return figure


def draw_class_scores(scores: Mapping[str, float], title: str) -> Figure:
    """Draw a bar for the score of every class, in the order given, and a line at their mean.

    Args:
        scores: at least one, in [0, 1], by class name.
        title: what the scores are.
    """
    figure = new_figure(6.0, 0.24 * len(scores) + 1.0)
    axes = figure.subplots()
    names = [literal(shortened(name, _LONGEST_NAME)) for name in scores]
    bars = axes.barh(range(len(names)), list(scores.values()), color=COLOURS[0], height=0.7)
    axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=SMALL, color=INK)
    mean = sum(scores.values()) / len(scores)
    axes.axvline(mean, color=INK, linewidth=1, linestyle=(0, (3, 2)), label=f"mean {mean:.3f}")
    plain(axes, title)
    axes.grid(visible=False, axis="y")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1.08)
    figure.legend(loc="outside lower left", fontsize=SMALL, frameon=False)
    return figure


def _show(axes: Axes, pixels: NDArray[np.uint8], title: str) -> None:
    axes.imshow(pixels)
    axes.set_title(title, loc="left", fontsize=SMALL, color=INK)


def _share_right(true: NDArray[np.uint8], found: NDArray[np.uint8], label_map: LabelMap) -> str:
    """How many of the labelled pixels are right, to follow a title; nothing where none is labelled."""
    labelled = true < len(label_map.class_names)
    return f", {(found == true)[labelled].mean():.1%} of the pixels right" if labelled.any() else ""


def _swatch(label_map: LabelMap, label: int) -> Patch:
    """The entry of one label in the legend."""
    known = label < len(label_map.class_names)
    colour = label_map.coloured(np.array([[label]], dtype=np.uint8))[0, 0] / 255
    name = literal(shortened(label_map.class_names[label], _LONGEST_NAME)) if known else "not labelled"
    return Patch(facecolor=tuple(colour), edgecolor=FAINT, linewidth=0.5, label=name)
