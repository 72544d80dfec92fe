"""The contract between a segmenter, its task and its cost: plain tensors in, plain tensors out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from fna_lightning.blocks import Network


class Segmenter(Network, ABC):
    """A network that gives every pixel a class, over a backbone that it is given.

    `forward` is convolutions and interpolation only, so that it also runs on the meta device (where costs are
    counted) and can be exported.

    Args:
        backbone: maps images to named feature maps; has `out_channels` and `strides` by the same names,
            shallow maps first.
        num_classes: those that pixels are labelled with; what is ignored is no class.
        mean: of the RGB pixels on [0, 255] that the backbone's parameters expect.
        std: likewise the deviation.

    Raises:
        ConfigError: `num_classes` is less than 2.
    """

    least_classes: ClassVar[int] = 2
    noun: ClassVar[str] = "segmenter"

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) RGB on [0, 255], uint8 or float -> logits (N, num_classes, h, w) at the head's stride.

        `resize_logits` brings them to the size of images or labels.
        """


def resize_logits(logits: Tensor, size: Sequence[int]) -> Tensor:
    """(N, C, h, w) -> (N, C, *size), bilinear with corners on corners (spec FNA 6.3)."""
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=True)


def classifier(in_channels: int, num_classes: int) -> nn.Conv2d:
    """The last 1x1 convolution; drawn so small that a fresh network holds all classes equally likely.

    With the deviation that suits layers before a batch norm its logits would differ by several units.
    """
    layer = nn.Conv2d(in_channels, num_classes, 1)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
    return layer
