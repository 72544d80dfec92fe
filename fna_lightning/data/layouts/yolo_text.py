"""One label file of YOLO: a line for each object, in shares of the picture, and what is wrong with lines."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from fna_lightning.data.checking.problems import Kind

_BOX = 5  # columns: class, centre x, centre y, width, height
_ROUNDED = 0.01  # by which a share may lie outside [0, 1]
_KEYS = ("x", "y", "w", "h")


class YoloObject(NamedTuple):
    """One object."""

    category: int
    """Number of its class."""
    box: tuple[float, float, float, float]
    """Left, top, width and height in shares of the picture."""
    is_polygon: bool
    """Whether the box is that around a polygon."""
    line: int
    """Where it stands, counted from 1."""


class YoloFault(NamedTuple):
    """What is wrong with a line."""

    kind: Kind
    what: str
    mend: str
    line: int


@dataclass(frozen=True)
class YoloLabels:
    """What a label file says."""

    objects: list[YoloObject]
    """Those that can be used."""
    faults: list[YoloFault]
    """Why others cannot."""


def parse_labels(text: str, categories: Collection[int]) -> YoloLabels:
    """Read the content of a label file; empty lines say nothing.

    A line is `class x y w h`, with the centre of the box, or `class x1 y1 x2 y2 x3 y3...`, the corners of a
    polygon, three or more, around which the box is drawn. All but the class lie in [0, 1], with some room for
    rounding.

    Args:
        text: The content.
        categories: Numbers that classes have.
    """
    objects, faults = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if words:
            found = _object(words, categories, number)
            (objects if isinstance(found, YoloObject) else faults).append(found)
    return YoloLabels(objects, faults)


def _object(words: list[str], categories: Collection[int], line: int) -> YoloObject | YoloFault:
    if len(words) != _BOX and (len(words) < _BOX + 2 or len(words) % 2 == 0):
        what = f"has {len(words)} columns, not class, x, y, w and h, nor a class and the corners of a polygon"
        mend = "leave the score out" if len(words) == _BOX + 1 else ""
        return YoloFault(Kind.ENTRY, what, mend, line)
    try:
        category, *numbers = map(float, words)
    except ValueError:
        return YoloFault(Kind.ENTRY, f"is {reprlib.repr(' '.join(words))}, which are not numbers alone", "", line)
    if category not in categories:
        what = f"has the class {words[0]}, which has no name"
        return YoloFault(Kind.NO_CATEGORY, what, "correct it, or name the class where the others are named", line)
    if odd := [value for value in numbers if not -_ROUNDED <= value <= 1 + _ROUNDED]:
        keys = _KEYS if len(words) == _BOX else [f"{key}{place}" for place in range(1, len(words)) for key in "xy"]
        key = keys[next(place for place, value in enumerate(numbers) if value in odd or math.isnan(value))]
        kind = Kind.OUTSIDE if math.isfinite(odd[0]) else Kind.NOT_FINITE
        what = f"has {key}={odd[0]:g}, outside 0 to 1"
        return YoloFault(kind, what, "give shares of the picture's width and height", line)
    polygon = len(words) > _BOX
    x, y, width, height = _around(numbers) if polygon else numbers
    return YoloObject(int(category), (x - width / 2, y - height / 2, width, height), polygon, line)


def _around(corners: list[float]) -> tuple[float, float, float, float]:
    """Centre, width and height of the box around a polygon, which is cut at the picture's edge."""
    inside = [min(max(value, 0.0), 1.0) for value in corners]
    left, right, top, bottom = min(inside[::2]), max(inside[::2]), min(inside[1::2]), max(inside[1::2])
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
