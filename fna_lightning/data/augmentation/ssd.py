"""SSD's augmentation: changes of colour, expansion and crop (Liu et al. 2016, sections 2.2 and 3.6).

Expansion and crop only choose what is seen of an endless plane of one colour on which the picture lies: a
`Window`. Their numbers are drawn first, and the window is brought to the network's size in one step, without the
up to sixteen times larger canvas in between. Colours change pixel by pixel, so that they may change last, on the
few pixels that are left of the picture. Everything is a function of the random generator that is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np

from fna_lightning.errors import ConfigError

Array: TypeAlias = np.ndarray

PAD_COLOUR = (124, 116, 104)
"""ImageNet's mean colour, rounded: what lies outside a picture is about zero after normalisation."""

_ANY_PATCH = 0.0
_LONGEST = 2.0  # a crop's longer side over its shorter one
_TRIALS = 50  # crops proposed before another overlap is asked for


@dataclass(frozen=True)
class Window:
    """A part of the plane, in pixels of the picture whose corner is the origin; it may reach over the edges."""

    left: int
    top: int
    width: int
    height: int

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom."""
        return self.left, self.top, self.left + self.width, self.top + self.height

    def view(self, image: Array, size: tuple[int, int]) -> Array:
        """What is seen of `image` (H, W, 3) uint8, brought to `size` (height, width) by bilinear interpolation."""
        left, top, right, bottom = self.corners
        if left >= 0 and top >= 0 and bottom <= image.shape[0] and right <= image.shape[1]:
            return cv2.resize(image[top:bottom, left:right], size[::-1], interpolation=cv2.INTER_LINEAR)
        across, down = self.width / size[1], self.height / size[0]
        # From centres of pixels to centres of pixels, as `cv2.resize` has it.
        plane_from_view = np.array(
            [[across, 0, left + (across - 1) / 2], [0, down, top + (down - 1) / 2]], np.float64
        )
        return cv2.warpAffine(
            image,
            plane_from_view,
            size[::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=PAD_COLOUR,
        )

    def picture_in(self, view: Array, image: Array) -> Array:
        """The pixels of `view` whose centres lie on the picture `image`; a part of the same memory."""
        rows = _seen(self.top, self.height, image.shape[0], view.shape[0])
        return view[rows, _seen(self.left, self.width, image.shape[1], view.shape[1])]

    def cut(self, boxes: Array) -> tuple[Array, Array]:
        """What is left of `boxes` (M, 4), corners in pixels of the picture.

        Returns:
            Which are kept (M,), namely those whose centre is inside, and where these are (M', 4): corners as
            shares of the window's width and height, in [0, 1].
        """
        kept = _centres_inside(np.array([self.corners]), boxes)[0]
        shares = (boxes[kept] - np.tile([self.left, self.top], 2)) / np.tile([self.width, self.height], 2)
        return kept, shares.clip(0, 1)


@dataclass(frozen=True)
class Colours:
    """A change of colours; each step ends in [0, 255], as in SSD's own code."""

    brightness: float = 0.0
    """Added to every channel."""
    contrast: float = 1.0
    """Factor of every channel."""
    contrast_first: bool = True
    """Whether contrast changes before saturation and hue, or after them."""
    saturation: float = 1.0
    """Factor of the saturation, in HSV."""
    hue: float = 0.0
    """Degrees by which the hue is turned, in HSV."""
    channels: tuple[int, ...] = (0, 1, 2)
    """Where each channel of the result is taken from."""

    def apply(self, pixels: Array) -> Array:
        """The changed colours of `pixels` (H, W, 3) uint8, RGB."""
        levels = (np.arange(256) + self.brightness).clip(0, 255)
        if self.contrast_first:
            levels = (levels * self.contrast).clip(0, 255)
        pixels = cv2.LUT(pixels, np.rint(levels).astype(np.uint8))
        if (self.saturation, self.hue) != (1.0, 0.0):
            pixels = self._in_hsv(pixels)
        if not self.contrast_first and self.contrast != 1:
            levels = (np.arange(256) * self.contrast).clip(0, 255)
            pixels = cv2.LUT(pixels, np.rint(levels).astype(np.uint8))
        planes = cv2.split(pixels)
        return cv2.merge([planes[channel] for channel in self.channels])

    def _in_hsv(self, pixels: Array) -> Array:
        # In floats: 8 bits of hue are steps of two degrees.
        hsv = cv2.cvtColor(pixels.astype(np.float32), cv2.COLOR_RGB2HSV)
        hsv[..., 0] += self.hue % 360  # up to 720, which is understood on the way back
        hsv[..., 1] = np.minimum(hsv[..., 1] * self.saturation, 1)
        return (cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) + 0.5).astype(np.uint8)


@dataclass(frozen=True)
class SSDAugmentation:
    """The ranges that changes are drawn from, uniformly; defaults are those of SSD and FNA's SSDLite.

    Args:
        probability: Of each change of colour by itself, of the exchange of channels, and of the expansion.
        brightness: Largest amount added or taken away, in levels of 255.
        contrast: Smallest and largest factor.
        saturation: Smallest and largest factor.
        hue: Largest turn either way, in degrees.
        expansion: Largest ratio of the canvas's sides to the picture's; the smallest is 1, which adds nothing.
        min_ious: Overlaps one of which a crop must have with one of the boxes it keeps. As likely as each of them
            are a crop with any overlap, and no crop.
        min_size: Smallest share of the canvas's width and of its height that a crop has.

    Raises:
        ConfigError: A number is out of its range.
    """

    probability: float = 0.5
    brightness: float = 32.0
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: float = 18.0
    expansion: float = 4.0
    min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9)
    min_size: float = 0.3

    def __post_init__(self) -> None:
        _demand("probability", self.probability, "in [0, 1]", 0 <= self.probability <= 1)
        _demand("brightness", self.brightness, "in [0, 255]", 0 <= self.brightness <= 255)
        for key, span in (("contrast", self.contrast), ("saturation", self.saturation)):
            ordered = len(span) == 2 and 0 <= span[0] <= span[1]
            _demand(key, list(span), "two factors, the smaller first", ordered)
        _demand("hue", self.hue, "in [0, 180]", 0 <= self.hue <= 180)
        _demand("expansion", self.expansion, "at least 1", self.expansion >= 1)
        _demand("min_ious", list(self.min_ious), "in [0, 1] each", all(0 <= iou <= 1 for iou in self.min_ious))
        _demand("min_size", self.min_size, "above 0 and at most 1", 0 < self.min_size <= 1)

    def draw_colours(self, rng: np.random.Generator) -> Colours:
        """Draw a change of colours."""
        coins = rng.random(5) < self.probability
        return Colours(
            brightness=rng.uniform(-self.brightness, self.brightness) if coins[0] else 0.0,
            contrast=rng.uniform(*self.contrast) if coins[1] else 1.0,
            contrast_first=bool(rng.integers(2)),
            saturation=rng.uniform(*self.saturation) if coins[2] else 1.0,
            hue=rng.uniform(-self.hue, self.hue) if coins[3] else 0.0,
            channels=tuple(rng.permutation(3).tolist()) if coins[4] else (0, 1, 2),
        )

    def draw_window(self, size: tuple[int, int], boxes: Array, rng: np.random.Generator) -> Window:
        """Draw an expansion and a crop of what it gives.

        A picture without boxes is not cropped, as there is nothing for a crop to overlap with.

        Args:
            size: Height and width of the picture.
            boxes: (M, 4) float, corners in pixels of the picture; M may be 0.
            rng: Source of all draws.
        """
        canvas = self._expand(size, rng)
        demands = (None, _ANY_PATCH, *self.min_ious)
        while len(boxes) and (min_iou := demands[rng.integers(len(demands))]) is not None:
            corners = self._propose_crops(canvas, rng)
            good = _overlaps(corners, boxes, min_iou)
            if good.any():
                left, top, right, bottom = corners[good.argmax()].tolist()
                return Window(left, top, right - left, bottom - top)
        return canvas

    def _expand(self, size: tuple[int, int], rng: np.random.Generator) -> Window:
        height, width = size
        if rng.random() >= self.probability:
            return Window(0, 0, width, height)
        ratio = rng.uniform(1, self.expansion)
        canvas_height, canvas_width = int(height * ratio), int(width * ratio)
        left, top = ((canvas_width - width, canvas_height - height) * rng.random(2)).astype(int).tolist()
        return Window(-left, -top, canvas_width, canvas_height)

    def _propose_crops(self, canvas: Window, rng: np.random.Generator) -> Array:
        """Corners (N, 4) int of crops of `canvas`, all independent; N is at most `_TRIALS`."""
        whole = np.array([canvas.width, canvas.height])
        sides = (whole * rng.uniform(self.min_size, 1, (_TRIALS, 2))).astype(int)
        starts = canvas.corners[:2] + ((whole - sides) * rng.random((_TRIALS, 2))).astype(int)
        fits = (sides.min(axis=1) > 0) & (sides.max(axis=1) <= _LONGEST * sides.min(axis=1))
        return np.hstack([starts, starts + sides])[fits]


def augment(image: Array, window: Window, colours: Colours, size: tuple[int, int]) -> Array:
    """The picture `image` (H, W, 3) uint8, RGB, seen through `window` in other colours.

    Returns:
        (*size, 3) uint8; `PAD_COLOUR` where the window shows no picture.
    """
    view = window.view(image, size)
    picture = window.picture_in(view, image)
    if picture.size:
        picture[:] = colours.apply(picture)
    return view


def _overlaps(corners: Array, boxes: Array, min_iou: float) -> Array:
    """Which crops (N, 4) have the centre of a box (M, 4) inside that they overlap by `min_iou` or more: (N,)."""
    crop, box = corners[:, None], boxes[None]
    sides = (np.minimum(crop[..., 2:], box[..., 2:]) - np.maximum(crop[..., :2], box[..., :2])).clip(0)
    shared = sides.prod(axis=2)
    areas = (crop[..., 2:] - crop[..., :2]).prod(axis=2) + (box[..., 2:] - box[..., :2]).prod(axis=2)
    return (_centres_inside(corners, boxes) & (shared >= min_iou * (areas - shared))).any(axis=1)


def _centres_inside(corners: Array, boxes: Array) -> Array:
    """Whether the centres of boxes (M, 4) lie inside crops (N, 4): (N, M)."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = (corners[:, None, :2] < centres) & (centres < corners[:, None, 2:])
    return inside[..., 0] & inside[..., 1]


def _seen(start: int, length: int, end: int, pixels: int) -> slice:
    """Pixels of a view whose centres lie on the picture, along one axis.

    Args:
        start: Where the window begins, counted from the picture's edge.
        length: The window's.
        end: Where the picture ends.
        pixels: The view's.
    """
    first, last = (round((edge - start) * pixels / length) for edge in (0, end))
    return slice(max(first, 0), max(last, 0))


def _demand(key: str, value: object, words: str, holds: bool) -> None:
    if not holds:
        raise ConfigError(f"data.augmentation.{key}={value} must be {words}")
