"""Input normalisation as part of the network, so that an exported network takes plain pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (123.675, 116.28, 103.53)
"""RGB mean of ImageNet on [0, 255], as torchvision's and FNA's seeds expect it (spec FNA 1.5)."""
IMAGENET_STD = (58.395, 57.12, 57.375)


class Normalize(nn.Module):
    """(N, 3, H, W) uint8 or float on [0, 255], RGB -> float with the given mean and deviation removed."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> None:
        super().__init__()
        # Not persistent: constants of the recipe, not learned values.
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise; shape kept, floating point out."""
        return (images.to(self.mean.dtype) - self.mean) / self.std
