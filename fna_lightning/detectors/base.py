"""The contract between a detector, its task and its cost: plain tensors in, plain tensors out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from fna_lightning.blocks import Backbone, Network
from fna_lightning.errors import ConfigError


@dataclass
class Detections:
    """The boxes found in one image, best first."""

    boxes: Tensor
    """(D, 4) float32: x1, y1, x2, y2 in pixels of the network's input."""
    scores: Tensor
    """(D,) float32 in [0, 1], not increasing."""
    labels: Tensor
    """(D,) int64 in [0, num_classes)."""

    def __len__(self) -> int:
        return self.scores.shape[0]


class Detector(Network, ABC):
    """A network that finds boxes, over a backbone that it is given.

    `forward` is convolutions only, with no control flow that depends on data, so that it also runs on the
    meta device (where costs are counted) and can be exported; `loss` and `predict` do the rest. What they run
    on each of a number of boxes is `repeated`, by which costs and compilation know of it.

    Args:
        backbone: maps images to named feature maps; has `out_channels` and `strides` by the same names,
            shallow maps first.
        num_classes: classes without background.
        mean: of the RGB pixels on [0, 255] that the backbone's parameters expect.
        std: likewise the deviation.

    Raises:
        ConfigError: `num_classes` is less than 1.
    """

    noun: ClassVar[str] = "detector"

    @abstractmethod
    def forward(self, images: Tensor) -> Any:
        """Run the network on (N, 3, H, W) images on [0, 255], uint8 or float; return what `loss` takes."""

    @abstractmethod
    def loss(self, outputs: Any, boxes: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        """Compare with the truth.

        Args:
            outputs: what `forward` returned.
            boxes: N tensors (M_i, 4), x1, y1, x2, y2 in pixels of the images; M_i may be 0.
            labels: N tensors (M_i,) in [0, num_classes).

        Returns:
            Scalar loss terms, whose sum is to be minimised.
        """

    @abstractmethod
    def predict(self, outputs: Any, sizes: Tensor) -> list[Detections]:
        """Turn outputs into boxes, without gradient.

        Args:
            outputs: what `forward` returned.
            sizes: (N, 2) height and width of the picture inside the padding, to which boxes are clipped.
        """


def feature_maps(backbone: Backbone, names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Channels and strides (pixels) of the named feature maps of a backbone.

    Raises:
        ConfigError: the backbone has no map of that name.
    """
    channels, strides = backbone.out_channels, backbone.strides
    missing = [name for name in names if name not in channels]
    if missing:
        raise ConfigError(f"features={list(names)}: the backbone has only the maps {list(channels)}")
    return [channels[name] for name in names], [strides[name] for name in names]
