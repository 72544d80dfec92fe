"""The towers that FCOS has by itself, where its head was not searched."""

from __future__ import annotations

import math

from torch import Tensor, nn


class PlainTowers(nn.Module):
    """A tower for the boxes and one for the classes, for all levels (Tian et al. 2019, 1904.01355, figure 2).

    Each is 3x3 convolutions with bias, group norm and ReLU, with weights from N(0, .01) and biases of 0.

    Args:
        width: channels of the levels and of all that is in between.
        depth: convolutions of each tower.
    """

    def __init__(self, width: int, depth: int = 4) -> None:
        super().__init__()
        self.box = _tower(width, depth)
        self.classes = _tower(width, depth)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """(N, width, H, W) of one level -> the same for the boxes, and for the classes."""
        return self.box(feature), self.classes(feature)


def group_norm(width: int) -> nn.GroupNorm:
    """Of 32 groups, or as many as divide `width` and leave each of them two channels.

    A group of a single channel could not be normalised on a map of one pixel.
    """
    return nn.GroupNorm(min(math.gcd(32, width), max(1, width // 2)), width)


def prediction_conv(width: int, outputs: int, bias: float = 0.0) -> nn.Conv2d:
    """A 3x3 convolution with weights from N(0, .01)."""
    convolution = nn.Conv2d(width, outputs, 3, padding=1)
    nn.init.normal_(convolution.weight, std=0.01)
    nn.init.constant_(convolution.bias, bias)  # pyright: ignore[reportArgumentType]
    return convolution


def _tower(width: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [prediction_conv(width, width), group_norm(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
