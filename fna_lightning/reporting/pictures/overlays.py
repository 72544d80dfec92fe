"""What was found, drawn into a picture of its own size; without figures, so that many are drawn in a second."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fna_lightning.reporting.pictures.style import COLOURS, shortened

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]

_FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
_LONGEST_NAME = 18
_SHADOW = (0, 0, 0)
_COLOUR_SHARE = 0.5
"""Of a pixel that is shown in the colour of its class."""
_NAMED_SHARE = 0.004
"""Of a picture that a class covers at least where its name is written."""
_INNERMOST = 0.9
"""Share of the largest distance to the edge at which a place is as good as the farthest."""
_LIGHT = 150
"""Luminance from which on dark letters are easier to read than white ones."""


def boxes_on(
    pixels: Pixels,
    boxes: NDArray[np.float32],
    labels: Sequence[int],
    names: Sequence[str],
    scores: Sequence[float],
) -> Pixels:
    """A copy of a picture with boxes in the colours of their classes, each with name and score.

    Args:
        pixels: (H, W, 3), RGB.
        boxes: (D, 4) x1, y1, x2, y2, best first; the best is drawn last, over the others.
        labels: D, by which colours are chosen.
        names: D names of classes.
        scores: D.
    """
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    height, width = pixels.shape[:2]
    font, line = _font(height, width), _line(height, width)
    rows = list(zip(boxes.tolist(), labels, names, scores, strict=True))[::-1]
    for (x1, y1, x2, y2), label, _, _ in rows:
        corners = (round(x1), round(y1), max(round(x1), round(x2)), max(round(y1), round(y2)))
        # A dark edge around the colour, so that it shows on light and dark grounds.
        around = (corners[0] - 1, corners[1] - 1, corners[2] + 1, corners[3] + 1)
        draw.rectangle(around, outline=_SHADOW, width=line + 2)
        draw.rectangle(corners, outline=_colour(label), width=line)
    for (x1, y1, _, _), label, name, score in rows:
        text = f"{shortened(name, _LONGEST_NAME)} {score:.2f}"
        _, _, right, bottom = draw.textbbox((0, 0), text, font=font)
        # Above the box, or inside where it touches the upper border; never over the border.
        top = y1 - bottom - 2 if y1 - bottom - 2 >= 0 else y1
        left = min(max(x1, 0), max(width - right - 4, 0))
        _write(draw, (round(left), round(max(top, 0))), text, _colour(label), font)
    return np.asarray(picture)


def labels_on(pixels: Pixels, labels: Pixels, colours: Sequence[Colour], names: Sequence[str]) -> Pixels:
    """A copy of a picture under the colours of its pixels' classes, with names where there is room for them.

    Args:
        pixels: (H, W, 3), RGB.
        labels: (H, W); those beyond the classes leave the picture as it is.
        colours: by label.
        names: by label.
    """
    height, width = labels.shape
    table = np.zeros((256, 3), np.uint8)
    table[: len(colours)] = colours
    mixed = cv2.addWeighted(pixels, 1 - _COLOUR_SHARE, table[labels], _COLOUR_SHARE, 0)
    of_class = labels < len(colours)
    mixed = np.where(of_class[..., None], mixed, pixels)
    mixed[_borders(labels, _line(height, width))] = 255
    picture = Image.fromarray(mixed)
    draw, font = ImageDraw.Draw(picture), _font(height, width)
    shares = np.bincount(labels[of_class], minlength=1) / labels.size
    for label in np.flatnonzero(shares >= _NAMED_SHARE).tolist():
        x, y = _innermost(labels == label)
        text = shortened(names[label], _LONGEST_NAME)
        _, _, right, bottom = draw.textbbox((0, 0), text, font=font)
        left = min(max(x - right / 2, 0), max(width - right - 4, 0))
        top = min(max(y - bottom / 2, 0), max(height - bottom - 2, 0))
        _write(draw, (round(left), round(top)), text, colours[label], font)
    return np.asarray(picture)


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, ground: Colour, font: ImageFont.FreeTypeFont
) -> None:
    """Write on a rectangle of a colour; `place` is its upper left corner."""
    left, top = place
    _, _, right, bottom = draw.textbbox((left + 2, top), text, font=font)
    draw.rectangle((left, top, right + 2, bottom + 2), fill=ground)
    light = np.dot(ground, (0.299, 0.587, 0.114)) > _LIGHT
    draw.text((left + 2, top), text, fill=(0, 0, 0) if light else (255, 255, 255), font=font)


def _colour(label: int) -> Colour:
    red, green, blue = (round(255 * share) for share in to_rgb(COLOURS[label % len(COLOURS)]))
    return red, green, blue


def _borders(labels: Pixels, line: int) -> NDArray[np.bool_]:
    """(H, W): where another label begins, so wide as a line is."""
    kernel = np.ones((line + 1, line + 1), np.uint8)
    return cv2.dilate(labels, kernel) != cv2.erode(labels, kernel)


def _innermost(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Place (x, y) farthest from the edge of a mask, and of the picture; of several the one in their middle."""
    framed = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    distance = cv2.distanceTransform(framed, cv2.DIST_L2, 3)
    places = np.argwhere(distance >= _INNERMOST * distance.max()) - 1
    middle = np.median(places, axis=0)
    y, x = places[np.abs(places - middle).sum(axis=1).argmin()].tolist()
    return x, y


def _line(height: int, width: int) -> int:
    """Width of lines in pixels: as wide to the eye on pictures of any size."""
    return max(1, round((height * width) ** 0.5 / 300))


@functools.lru_cache(maxsize=64)
def _font(height: int, width: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_FONT), max(9, round((height * width) ** 0.5 / 42)))
