"""Augmentation; the only module that knows albumentations, so that it can be replaced.

A pipeline is a sequence of transforms whose random choices all follow from one integer given with
each call. The functions at the end build the pipelines of the recipes; a further recipe is a
further list of transforms.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

# albumentations asks the package index for its newest version when imported, unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np

from fna_lightning.data.augmentation.ssd import PAD_COLOUR, Colours, SSDAugmentation, Window, augment
from fna_lightning.data.batches import IGNORED_LABEL
from fna_lightning.data.checking.headers import STRIP
from fna_lightning.errors import ConfigError

Array: TypeAlias = np.ndarray
Transform: TypeAlias = A.BasicTransform | A.BaseCompose
SizeRule: TypeAlias = Callable[[int, int], tuple[int, int]]
"""Height and width of an image -> height and width to resize it to."""


class Pipeline:
    """Transforms of whatever belongs to one image; subclasses say which targets there are.

    Args:
        transforms: Applied in order.
        boxes: The parameters under which boxes are carried along, if there are any.
    """

    def __init__(self, transforms: Sequence[Transform], boxes: A.BboxParams | None = None) -> None:
        self._compose = A.Compose(list(transforms), bbox_params=boxes)

    def alone(self, image: Array) -> Array:
        """Transform `image` (H, W, 3) uint8 without what belongs to it, where nothing is random."""
        return np.ascontiguousarray(self._run(0, image=image)["image"])

    def _run(self, random_seed: int, **targets: Any) -> dict[str, Any]:
        # `Compose.set_random_seed` gives every transform a generator with the same seed, and so all
        # coins fall alike. One pair of generators is shared instead.
        self._compose.set_random_state(np.random.default_rng(random_seed), random.Random(random_seed))
        return self._compose(**targets)


class ImagePipeline(Pipeline):
    """Transforms of an image alone."""

    def __call__(self, image: Array, random_seed: int) -> Array:
        """Transform `image` (H, W, 3) uint8; equal random seeds give equal results."""
        return np.ascontiguousarray(self._run(random_seed, image=image)["image"])


class DetectionPipeline(Pipeline):
    """Transforms of an image together with its boxes.

    Args:
        transforms: Applied in order.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        super().__init__(transforms, A.BboxParams("pascal_voc"))

    def __call__(self, image: Array, boxes: Array, labels: Array, random_seed: int) -> tuple[Array, Array, Array]:
        """Transform an image and its boxes; equal random seeds give equal results.

        Args:
            image: (H, W, 3) uint8.
            boxes: (M, 4) float, x1, y1, x2, y2 inside the image; M may be 0.
            labels: (M,) integers below 2^24.
            random_seed: Decides every random choice.

        Returns:
            The image (H', W', 3) uint8, boxes (M', 4) float32 and labels (M',) int64.
        """
        # Labels ride along as a fifth column: the library's own label encoding costs more than the flip.
        rows = np.column_stack([boxes, labels]).astype(np.float32)
        result = self._run(random_seed, image=image, bboxes=rows)
        rows = np.asarray(result["bboxes"], np.float32).reshape(-1, 5)
        return np.ascontiguousarray(result["image"]), rows[:, :4].copy(), rows[:, 4].astype(np.int64)


class SegmentationPipeline(Pipeline):
    """Transforms of an image together with its labels."""

    def __call__(self, image: Array, labels: Array, random_seed: int) -> tuple[Array, Array]:
        """Transform `image` (H, W, 3) uint8 and `labels` (H, W) uint8; equal random seeds give equal results."""
        result = self._run(random_seed, image=image, mask=labels)
        return np.ascontiguousarray(result["image"]), np.ascontiguousarray(result["mask"])


def keep_ratio_size(height: int, width: int, short_side: int, long_side: int) -> tuple[int, int]:
    """Height and width after the resize of the detection recipes, which enlarges as well as shrinks.

    The short side becomes `short_side`, unless the long one would exceed `long_side`; it is at least one pixel.
    """
    scale = min(short_side / min(height, width), long_side / max(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


class Resize(A.DualTransform):
    """Resize by a rule: images bilinear, masks by the nearest pixel.

    Args:
        rules: Give the size. Of several one is drawn, all equally likely.
    """

    def __init__(self, *rules: SizeRule) -> None:
        super().__init__(p=1.0)
        self.rules = rules

    def get_params(self) -> dict[str, Any]:  # noqa: D102
        # A single rule draws nothing, which would move all that is drawn behind it.
        return {"rule": self.rules[0] if len(self.rules) == 1 else self.py_random.choice(self.rules)}

    def apply(self, img: Array, rule: SizeRule, **params: Any) -> Array:  # noqa: ARG002, D102
        return _resize(img, rule, cv2.INTER_LINEAR)

    def apply_to_mask(self, mask: Array, rule: SizeRule, **params: Any) -> Array:  # noqa: ARG002, D102
        # The exact kind counts from centres of pixels, as the images' interpolation does.
        return _resize(mask, rule, cv2.INTER_NEAREST_EXACT)

    def apply_to_bboxes(self, bboxes: Array, **params: Any) -> Array:  # noqa: ARG002, D102
        return bboxes  # the library holds boxes as shares of height and width: these stay


class Scale(A.RandomScale):
    """The library's, but that no side becomes less than one pixel."""

    def apply(self, img: Array, scale: float, **params: Any) -> Array:  # noqa: ARG002, D102
        return _scaled(img, scale, self.interpolation)

    def apply_to_mask(self, mask: Array, scale: float, **params: Any) -> Array:  # noqa: ARG002, D102
        return _scaled(mask, scale, self.mask_interpolation)


class CentralPart(A.ImageOnlyTransform):
    """What lies in the middle of a picture more than `ratio` times as long as it is short; others stay whole.

    Args:
        ratio: Of the long side of what is left to the short one.
    """

    def __init__(self, ratio: int) -> None:
        super().__init__(p=1.0)
        self.ratio = ratio

    def apply(self, img: Array, **params: Any) -> Array:  # noqa: ARG002, D102
        height, width = img.shape[:2]
        longest = self.ratio * min(height, width)
        top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
        return img[top : top + longest, left : left + longest]


class SSDTransform(A.DualTransform):
    """SSD's augmentation, and the resize that follows it.

    Args:
        augmentation: What is drawn.
        rule: Gives the size to which the drawn part of an image is resized.
    """

    def __init__(self, augmentation: SSDAugmentation, rule: SizeRule) -> None:
        super().__init__(p=1.0)
        self.augmentation = augmentation
        self.rule = rule

    def get_params_dependent_on_data(  # noqa: D102
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        height, width = params["shape"][:2]
        boxes = data["bboxes"][:, :4] * (width, height, width, height)
        colours = self.augmentation.draw_colours(self.random_generator)
        window = self.augmentation.draw_window((height, width), boxes, self.random_generator)
        return {"colours": colours, "window": window}

    def apply(self, img: Array, window: Window, colours: Colours, **params: Any) -> Array:  # noqa: ARG002, D102
        return augment(img, window, colours, self.rule(window.height, window.width))

    def apply_to_bboxes(self, bboxes: Array, window: Window, **params: Any) -> Array:  # noqa: D102
        height, width = params["shape"][:2]
        kept, shares = window.cut(bboxes[:, :4] * (width, height, width, height))
        return np.column_stack([shares, bboxes[kept, 4:]]).astype(bboxes.dtype)


def detection_resize(
    size: Sequence[int] | None = None, short_side: int | None = None, long_side: int | None = None
) -> SizeRule:
    """The resize of a detector: to `size` (height, width) if given, else by the two sides, keeping the ratio.

    Raises:
        ConfigError: Neither `size` nor both sides are given, or a number is not positive.
    """
    if size is not None:
        return partial(_fixed_size, size=_height_and_width("size", size))
    if not short_side or not long_side or min(short_side, long_side) < 1:
        raise ConfigError(
            f"data.short_side={short_side} and data.long_side={long_side} give no image size; "
            "set both to positive numbers, or data.size=[height,width]"
        )
    return partial(keep_ratio_size, short_side=int(short_side), long_side=int(long_side))


def short_sides_rules(lowest: int, highest: int, long_side: int) -> list[SizeRule]:
    """The resizes of training in several sizes: one for each short side from `lowest` to `highest`, both included.

    Raises:
        ConfigError: There is none, or one is not positive.
    """
    if not 1 <= lowest <= highest:
        raise ConfigError(
            f"data.train_short_sides=[{lowest}, {highest}] gives no image size; write the smallest and the "
            "largest, as data.train_short_sides=[640,800]"
        )
    return [detection_resize(short_side=side, long_side=long_side) for side in range(lowest, highest + 1)]


def detection_training(
    resize: SizeRule | Sequence[SizeRule], flip: float = 0.5, augmentation: SSDAugmentation | None = None
) -> DetectionPipeline:
    """Augment, resize, and flip left to right with probability `flip`.

    Args:
        resize: Gives the size; of several one is drawn for each image.
        flip: Probability of the flip.
        augmentation: What comes before, if anything; it goes with one size alone.

    Raises:
        ConfigError: There are several sizes and an augmentation.
    """
    rules = [resize] if callable(resize) else list(resize)
    if augmentation is None:
        first = Resize(*rules)
    elif len(rules) == 1:
        first = SSDTransform(augmentation, rules[0])
    else:
        raise ConfigError(
            "data.train_short_sides: data.augmentation draws sizes by itself; set one of them to null"
        )
    return DetectionPipeline([first, A.HorizontalFlip(p=flip)])


def detection_evaluation(resize: SizeRule) -> DetectionPipeline:
    """Resize only."""
    return DetectionPipeline([Resize(resize)])


def segmentation_training(
    resize: Sequence[int] | None, scales: Sequence[float], crop: Sequence[int], flip: float = 0.5
) -> SegmentationPipeline:
    """Resize, scale and cut out a part at random, and flip left to right.

    Args:
        resize: Height and width for all images; None leaves them as they are.
        scales: Factors of both sides, one of which is drawn, all equally likely.
        crop: Height and width of the part. Every place is equally likely; where the image is smaller, it is
            padded at the right and bottom.
        flip: Probability of the flip.

    Raises:
        ConfigError: A size is none, or there is no scale or one that is not positive.
    """
    if not scales or min(scales) <= 0:
        raise ConfigError(f"data.scales={list(scales)} must be positive factors, at least one; 1 keeps the size")
    height, width = _height_and_width("crop", crop)
    factors: list[A.BasicTransform | A.BaseCompose] = [
        Scale((scale - 1, scale - 1), mask_interpolation=cv2.INTER_NEAREST_EXACT, p=1.0) for scale in scales
    ]
    cut = A.RandomCrop(
        height,
        width,
        pad_if_needed=True,
        pad_position="top_left",
        fill=PAD_COLOUR,
        fill_mask=IGNORED_LABEL,
    )
    return SegmentationPipeline([*_resized(resize), A.OneOf(factors, p=1.0), cut, A.HorizontalFlip(p=flip)])


def segmentation_evaluation(resize: Sequence[int] | None) -> SegmentationPipeline:
    """Resize to a height and width, if there are any."""
    return SegmentationPipeline(_resized(resize))


def _resized(size: Sequence[int] | None) -> list[Transform]:
    return [] if size is None else [Resize(partial(_fixed_size, size=_height_and_width("resize", size)))]


def _height_and_width(key: str, size: Sequence[int]) -> tuple[int, int]:
    """`size`, set by the config key `data.<key>`, if it is a height and a width."""
    if len(size) != 2 or min(size) < 1:
        raise ConfigError(f"data.{key}={list(size)} is not a height and a width; write e.g. data.{key}=[320,320]")
    return int(size[0]), int(size[1])


def _fixed_size(height: int, width: int, *, size: tuple[int, int]) -> tuple[int, int]:  # noqa: ARG001
    """The rule of one size for all images."""
    return size


def classification_training(
    size: int, min_scale: float = 0.08, flip: float = 0.5, colour_jitter: float = 0.0
) -> ImagePipeline:
    """A random part of the image, resized to a square, flipped, its colours changed.

    Args:
        size: Side of the square, in pixels.
        min_scale: Smallest share of the image's area that is taken; the largest is all of it.
        flip: Probability of the left-right flip.
        colour_jitter: Largest relative change of brightness, contrast and saturation; 0 for none.
    """
    transforms: list[Transform] = [
        A.RandomResizedCrop((size, size), scale=(min_scale, 1.0), area_for_downscale="image"),
        A.HorizontalFlip(p=flip),
    ]
    if colour_jitter:
        span = (max(0.0, 1 - colour_jitter), 1 + colour_jitter)
        transforms.append(A.ColorJitter(brightness=span, contrast=span, saturation=span, hue=(0, 0), p=1.0))
    return ImagePipeline(transforms)


def classification_evaluation(size: int, resize: int) -> ImagePipeline:
    """Resize the short side to `resize`, then cut the central square of side `size`.

    Of a picture that is a mere strip, what is far from the square is cut off before it is enlarged.
    """
    return ImagePipeline(
        [CentralPart(STRIP), A.SmallestMaxSize(resize, area_for_downscale="image"), A.CenterCrop(size, size)]
    )


def _resize(image: Array, rule: SizeRule, interpolation: int) -> Array:
    height, width = rule(image.shape[0], image.shape[1])
    return cv2.resize(image, (width, height), interpolation=interpolation)


def _scaled(image: Array, scale: float, interpolation: int) -> Array:
    height, width = (max(1, int(side * scale)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=interpolation)
