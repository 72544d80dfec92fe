"""Pictures of shapes on noisy ground; functions of a random generator alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

Array = np.ndarray

SHAPES = ("circle", "square", "triangle", "star", "cross")
"""What can be drawn."""
VOID = 255
"""What pixels are labelled with that belong half to a shape and half to what is behind it."""
_SUBPIXEL_BITS = 4


def draw_scene(rng: np.random.Generator, size: int, classes: int) -> tuple[Array, list[tuple[int, Array]]]:
    """A picture of none to five shapes, the later ones hiding a little of the earlier.

    Args:
        rng: Decides everything.
        size: Side in pixels.
        classes: How many of `SHAPES` there may be.

    Returns:
        The picture (size, size, 3) uint8, and for each shape its label and outline (K, 2), x and y.
    """
    picture = _ground(rng, size)
    objects: list[tuple[int, Array]] = []
    # A few pictures show nothing: real sets have such images, and they must train.
    for _ in range(0 if rng.random() < 0.02 else rng.integers(1, 6)):
        radius = size * math.exp(rng.uniform(math.log(0.08), math.log(0.26)))
        centre = rng.uniform(radius + 1, size - radius - 1, 2)
        label = int(rng.integers(classes))
        points = outline(SHAPES[label], centre, radius, rng.uniform(0, 2 * math.pi))
        if all(_overlap(points, other) < 0.15 for _, other in objects):
            _paint(rng, picture, points)
            objects.append((label, points))
    return _with_noise(rng, picture), objects


def draw_labels(size: int, objects: Sequence[tuple[int, Array]]) -> Array:
    """What `draw_scene` drew, as (size, size) uint8: 0 the ground, k + 1 shape k, `VOID` along its outline."""
    labels = np.zeros((size, size), np.uint8)
    for label, points in objects:
        fixed = _fixed(points)
        cv2.fillPoly(labels, [fixed], label + 1, cv2.LINE_8, _SUBPIXEL_BITS)
        cv2.polylines(labels, [fixed], True, VOID, 1, cv2.LINE_8, _SUBPIXEL_BITS)
    return labels


def draw_single(rng: np.random.Generator, size: int, label: int) -> Array:
    """A picture (size, size, 3) uint8 of one shape near the middle."""
    picture = _ground(rng, size)
    radius = size * rng.uniform(0.22, 0.42)
    centre = rng.uniform(radius + 1, size - radius - 1, 2)
    _paint(rng, picture, outline(SHAPES[label], centre, radius, rng.uniform(0, 2 * math.pi)))
    return _with_noise(rng, picture)


def outline(shape: str, centre: Array, radius: float, angle: float) -> Array:
    """Corners (K, 2) of one of `SHAPES`, turned by `angle`, within a circle."""
    corners, radii = {
        "circle": (40, [1.0]),
        "square": (4, [1.0]),
        "triangle": (3, [1.0]),
        "star": (10, [1.0, 0.42]),
        "cross": (12, [1.0, 0.42, 1.0]),
    }[shape]
    turns = np.arange(corners) * (2 * math.pi / corners)
    if shape == "cross":  # four arms: two outer corners close together, one inner corner
        turns = np.repeat(np.arange(4) * (math.pi / 2), 3) + np.tile([-0.3, math.pi / 4, 0.3], 4)
        turns = turns.reshape(4, 3)[:, [0, 2, 1]].ravel()
        radii = [1.0, 1.0, 0.42]
    lengths = radius * np.resize(radii, corners)
    return centre + lengths[:, None] * np.stack([np.cos(turns + angle), np.sin(turns + angle)], axis=1)


def _overlap(one: Array, other: Array) -> float:
    """Intersection of two bounding boxes over the smaller of them."""
    low, high = np.maximum(one.min(0), other.min(0)), np.minimum(one.max(0), other.max(0))
    smaller = min(np.prod(np.ptp(one, axis=0)), np.prod(np.ptp(other, axis=0)))
    return float(np.prod((high - low).clip(0)) / smaller)


def _ground(rng: np.random.Generator, size: int) -> Array:
    """Soft patches of colour with a few lines across, (size, size, 3) uint8."""
    patches = rng.integers(40, 216, (int(rng.integers(3, 7)),) * 2 + (3,), dtype=np.uint8)
    picture = cv2.resize(patches, (size, size), interpolation=cv2.INTER_LINEAR)
    for _ in range(rng.integers(0, 4)):
        start, end = rng.integers(0, size, (2, 2)).tolist()
        cv2.line(picture, start, end, rng.integers(0, 256, 3).tolist(), int(rng.integers(1, 3)), cv2.LINE_AA)
    return picture


def _paint(rng: np.random.Generator, picture: Array, points: Array) -> None:
    """Fill an outline with one colour or stripes of two, unlike the ground beneath."""
    size = picture.shape[0]
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [_fixed(points)], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    beneath = np.array(cv2.mean(picture, mask)[:3])
    first, second = (_colour_unlike(rng, beneath) for _ in range(2))
    wave = np.zeros((size, size))
    if rng.random() < 0.5:
        angle, period = rng.uniform(0, math.pi), rng.uniform(4, 10)
        y, x = np.mgrid[:size, :size]
        wave = np.sin((x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / period)) > 0
    colours = np.where(wave[..., None], second, first)
    share = mask[..., None] / 255
    picture[:] = np.round(picture * (1 - share) + colours * share)


def _fixed(points: Array) -> Array:
    """Points as the drawing functions take them, in fractions of a pixel."""
    return np.round(points * 2**_SUBPIXEL_BITS).astype(np.int32)


def _colour_unlike(rng: np.random.Generator, colour: Array) -> Array:
    candidates = rng.integers(0, 256, (8, 3))
    return candidates[np.abs(candidates - colour).sum(axis=1).argmax()]


def _with_noise(rng: np.random.Generator, picture: Array) -> Array:
    noise = rng.normal(0, rng.uniform(2, 10), picture.shape)
    return np.clip(np.round(picture + noise), 0, 255).astype(np.uint8)
