"""Images with what was found in them and what is there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, withStroke

from fna_lightning.reporting.pictures.style import COLOURS, INK, SMALL, literal, new_figure, shortened

if TYPE_CHECKING:  # the summary of a sweep draws without torch
    from torch import Tensor

    from fna_lightning.detectors.base import Detections

_COLUMNS = 3
_TRUTH_COLOUR = "white"
_MIN_SCORE = 0.3  # boxes below this are not drawn; the images' titles say how many are


def draw_detections(
    images: Sequence[Tensor] | Tensor,
    detections: Sequence[Detections],
    truth: Sequence[tuple[Tensor, Tensor]],
    class_names: Sequence[str],
) -> Figure:
    """Draw images in a grid: found boxes solid, coloured by class, with scores; true boxes dashed in white.

    Args:
        images: N tensors (3, H, W) on [0, 255], uint8 or float.
        detections: one per image, in pixels of the images.
        truth: likewise (boxes (M_i, 4), labels (M_i,)).
        class_names: one per label.
    """
    number = len(images)
    columns = min(max(number, 1), _COLUMNS)
    rows = max(math.ceil(number / columns), 1)
    ratio = max((image.shape[1] / image.shape[2] for image in images), default=1.0)
    size = 3.3 if columns > 1 else 5.0
    figure = new_figure(size * columns, (size * ratio + 0.35) * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for place, axes in enumerate(grid):
        axes.axis("off")
        if place < number:
            _draw_image(axes, images[place], detections[place], truth[place], class_names)
    lines = [
        Line2D([], [], color=COLOURS[0], linewidth=2, label="found (colour: class), with score"),
        Line2D([], [], color="#777777", linewidth=1.6, linestyle=(0, (3, 2)), label="annotated"),
    ]
    figure.legend(handles=lines, loc="outside lower left", ncols=2, fontsize=SMALL, frameon=False)
    return figure


def _draw_image(
    axes: Axes,
    image: Tensor,
    found: Detections,
    truth: tuple[Tensor, Tensor],
    class_names: Sequence[str],
) -> None:
    height, width = image.shape[1:]
    pixels = image.detach().cpu().float().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    axes.imshow(pixels, interpolation="nearest" if max(height, width) < 200 else "antialiased")
    # Boxes may reach over the border, the picture shall not grow for them.
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    kept = found.scores >= _MIN_SCORE
    for box, label, score in zip(
        found.boxes[kept].tolist(), found.labels[kept].tolist(), found.scores[kept].tolist(), strict=True
    ):
        _draw_found(axes, box, _class_name(class_names, label), score, COLOURS[label % len(COLOURS)], height)
    boxes, labels = truth
    for box in boxes.tolist():
        axes.add_patch(_box(box, _TRUTH_COLOUR, 1.1, gid="truth", linestyle=(0, (3, 2))))
    text = f"{len(labels)} annotated, {int(kept.sum())} found with score ≥ {_MIN_SCORE:g}"
    axes.set_title(text, loc="left", fontsize=SMALL, color=INK)


def _draw_found(axes: Axes, box: list[float], name: str, score: float, colour: str, height: int) -> None:
    axes.add_patch(_box(box, colour, 1.8, gid="found"))
    # Above the box, or inside where it touches the upper border.
    inside = box[1] < 0.06 * height
    axes.text(
        max(box[0], 0), max(box[1], 0), f"{literal(shortened(name, 18))} {score:.2f}",
        va="top" if inside else "bottom", fontsize=SMALL - 1.5, color="white", clip_on=True,
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 0.8},
    )  # fmt: skip


def _box(box: list[float], colour: str, linewidth: float, gid: str, linestyle: object = "-") -> Rectangle:
    """Four sides over a thin dark shadow, so that they show on light and dark grounds."""
    x1, y1, x2, y2 = box
    patch = Rectangle(
        (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=linewidth, gid=gid,
        linestyle=linestyle,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    patch.set_path_effects([withStroke(linewidth=linewidth + 1.0, foreground="#00000090"), Normal()])
    return patch


def _class_name(class_names: Sequence[str], label: int) -> str:
    return class_names[label] if 0 <= label < len(class_names) else f"class {label}"
