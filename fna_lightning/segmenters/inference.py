"""From a segmenter to the class probabilities of images larger than those it was trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from fna_lightning.errors import ConfigError
from fna_lightning.segmenters.base import Segmenter, resize_logits


@dataclass(frozen=True)
class Inference:
    """Whole images or sliding windows, at one scale or several, with or without their mirror images.

    Attributes:
        window: side, or height and width, of what the network sees at once, in pixels; None for whole images.
            An image that is smaller is seen in its whole extent.
        stride: from a window to the next, likewise; None for two thirds of the window, rounded up. The last
            window ends with the image.
        window_batch: windows in one forward pass. No more are held at a time, so that memory beyond what the
            probabilities take does not grow with the image.
        scales: factors by which images are resized; the probabilities are averaged.
        flip: whether to average with the mirror image's as well.

    Raises:
        ConfigError: naming the setting that cannot be.
    """

    window: int | Sequence[int] | None = None
    stride: int | Sequence[int] | None = None
    window_batch: int = 4
    scales: Sequence[float] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        if self.window is None and self.stride is not None:
            raise ConfigError(f"task.stride={self.stride}: whole images have none; give task.window as well")
        for name, value in (("window", self.window), ("stride", self.stride)):
            if value is not None and (len(_pair(value)) != 2 or min(_pair(value)) < 1):
                raise ConfigError(f"task.{name}={value}: give pixels, or [height, width]")
        if self.window is not None and any(map(int.__gt__, self._strides, _pair(self.window))):
            raise ConfigError(
                f"task.stride={self.stride}: leaves gaps between windows of {self.window}; give less"
            )
        if self.window_batch < 1:
            raise ConfigError(f"task.window_batch={self.window_batch}: give 1 or more")
        if not self.scales or min(self.scales) <= 0:
            raise ConfigError(f"task.scales={list(self.scales)}: give one positive factor or more")

    @torch.no_grad()
    def probabilities(self, network: Segmenter, images: Tensor) -> Tensor:
        """How likely every pixel is of every class.

        Args:
            network: in evaluation mode.
            images: (N, 3, H, W) on [0, 255], uint8 or float.

        Returns:
            (N, num_classes, H, W) float32 whatever the precision of the network; they sum to 1 over classes.
        """
        size = images.shape[-2:]
        total = None
        for scale in self.scales:
            seen = self._on_scale(network, _rescaled(images, scale))
            seen = _resized(seen, size)
            total = seen if total is None else total.add_(seen)
        assert total is not None  # there is one scale at least
        return total.div_(len(self.scales))

    def _on_scale(self, network: Segmenter, images: Tensor) -> Tensor:
        """Probabilities at the images' own size, mirror images included."""
        seen = self._on_windows(network, images)
        if self.flip:
            seen = seen.add_(self._on_windows(network, images.flip(-1)).flip(-1)).div_(2)
        return seen

    def _on_windows(self, network: Segmenter, images: Tensor) -> Tensor:
        """Probabilities of images of any size; where windows overlap, the mean of theirs."""
        if self.window is None:
            return _class_probabilities(network, images)
        extent = images.shape[-2:]
        size = [min(side, whole) for side, whole in zip(_pair(self.window), extent, strict=True)]
        tops, lefts = map(window_positions, extent, size, self._strides)
        corners = list(product(range(len(images)), tops, lefts))
        total = images.new_zeros((len(images), network.num_classes, *extent), dtype=torch.float32)
        for start in range(0, len(corners), self.window_batch):
            _add_windows(total, network, images, corners[start : start + self.window_batch], size)
        # Every window's sum to 1, so that this is the number of windows over a pixel.
        return total.div_(total.sum(dim=1, keepdim=True))

    @property
    def _strides(self) -> tuple[int, ...]:
        assert self.window is not None
        if self.stride is not None:
            return _pair(self.stride)
        return tuple(math.ceil(2 * side / 3) for side in _pair(self.window))


def window_positions(size: int, window: int, stride: int) -> list[int]:
    """Where windows begin along a side of `size` pixels: every `stride`, the last one at the end.

    A window larger than the side begins at 0.
    """
    last = max(size - window, 0)
    return [*range(0, last, stride), last]


def _add_windows(
    total: Tensor, network: Segmenter, images: Tensor, corners: Sequence[tuple[int, int, int]], size: Sequence[int]
) -> None:
    """Add one forward pass to `total`; a function of its own, so that its tensors are gone before the next."""
    height, width = size
    places = [(i, slice(None), slice(top, top + height), slice(left, left + width)) for i, top, left in corners]
    seen = _class_probabilities(network, torch.stack([images[place] for place in places]))
    for place, window in zip(places, seen, strict=True):
        total[place] += window


def _class_probabilities(network: Segmenter, images: Tensor) -> Tensor:
    """One forward pass, at the images' size."""
    # float32 before the logits are resized: half precision would make steps of what interpolation makes smooth.
    return resize_logits(network(images).float(), images.shape[-2:]).softmax(dim=1)


def _rescaled(images: Tensor, scale: float) -> Tensor:
    height, width = (max(1, round(side * scale)) for side in images.shape[-2:])
    return _resized(images, (height, width))


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear by pixel centres and without smoothing, as DeepLab's scales are made; as it is where it fits."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x.float(), size=tuple(size), mode="bilinear", align_corners=False)


def _pair(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)
