"""What can be wrong with boxes, whatever file they were read from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np

from fna_lightning.data.checking.problems import Kind

Mask: TypeAlias = np.ndarray | np.bool_
"""What comparing arrays gives, by its types."""
TOLERANCE = 1.0
"""Pixels by which a box may reach over the image's edge, where it is cut off, or its object over the box; real
sets round."""
_ROUNDED = 0.01  # by which a share may exceed the whole
_SOME = 0.1  # of all boxes
SMALLEST = 0.01
"""A side of fewer pixels counts as none: it would vanish in single precision."""


def box_faults(boxes: np.ndarray, sizes: np.ndarray) -> Iterator[tuple[Kind, Mask, str]]:
    """Boxes that are not finite, have no area, lie outside their image or are tiny; each has one fault at most.

    Args:
        boxes: (M, 4) float: left, top, width, height in pixels.
        sizes: (M, 2): height and width of the image of each.

    Yields:
        The kind, (M,) bool where it holds, and what to say behind the box.
    """
    start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    finite = np.isfinite(boxes).all(axis=1)
    flat = finite & (boxes[:, 2:] < SMALLEST).any(axis=1)
    edge = sizes[:, ::-1]
    inside = np.minimum(end, edge) - np.maximum(start, 0)
    outside = ((start < -TOLERANCE) | (end > edge + TOLERANCE) | (inside < SMALLEST)).any(axis=1)
    tiny = (boxes[:, 2:] < 1).any(axis=1)
    yield Kind.NOT_FINITE, ~finite, "with a number that is not finite"
    yield Kind.FLAT, flat, "of no area"
    yield Kind.OUTSIDE, finite & ~flat & outside, "outside the image"
    yield Kind.TINY, finite & ~flat & ~outside & tiny, "of less than a pixel"


def convention(boxes: np.ndarray, sizes: np.ndarray) -> str | None:
    """Which other convention boxes seem to follow: of many, some reach over the edge, and none would under it.

    Args:
        boxes: (M, 4) float: what is taken for left, top, width, height in pixels; finite, with an area.
        sizes: (M, 2): height and width of the image of each.

    Returns:
        In words; None where they are what they are taken for, or are wrong in another way.
    """
    first, second, edge = boxes[:, :2], boxes[:, 2:], sizes[:, ::-1]

    def beyond(start: np.ndarray, end: np.ndarray) -> Mask:
        return ((start < -TOLERANCE) | (end > edge + TOLERANCE)).any(axis=1)

    if np.count_nonzero(beyond(first, first + second)) < max(2, _SOME * len(boxes)):
        return None
    if in_order(boxes) and not beyond(first, second).any():
        return "corners: left, top, right, bottom"
    if not beyond(first - second / 2, first + second / 2).any():
        return "centre, width and height"
    return None


def in_order(boxes: np.ndarray) -> bool:
    """Whether (M, 4) boxes could all be corners: the third number over the first, the fourth over the second."""
    return len(boxes) > 0 and bool((boxes[:, 2:] > boxes[:, :2]).all())


def repeated(objects: np.ndarray) -> np.ndarray:
    """(M,) bool: rows of (M, K) numbers that came before."""
    order = np.lexsort(objects.T)
    same = (objects[order[1:]] == objects[order[:-1]]).all(axis=1)
    again = np.zeros(len(objects), dtype=bool)
    again[order[1:][same]] = True
    return again


def are_fractions(corners: np.ndarray) -> bool:
    """Whether most boxes seem to be given in shares of their image instead of pixels.

    Such a box lies within [0, 1], and not all its corners are whole numbers: a first pixel could be annotated so.

    Args:
        corners: (M, 4) float: left, top, right, bottom as the file means them; what is not finite says nothing.
    """
    corners = corners[np.isfinite(corners).all(axis=1)]
    within = ((corners >= 0) & (corners <= 1 + _ROUNDED)).all(axis=1)
    broken = (corners != np.round(corners)).any(axis=1)
    return 2 * int(np.count_nonzero(within & broken)) > len(corners)
