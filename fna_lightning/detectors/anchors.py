"""The boxes that anchor-based detectors start from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator


def octave_sizes(strides: Sequence[int], base_scale: float, scales_per_octave: int) -> list[list[float]]:
    """Side lengths of RetinaNet's square anchors per level: stride * base_scale * 2^(k / scales_per_octave).

    Lin et al. 2017 (1708.02002), section 4; with strides 8..128, base scale 4 and 3 scales: 32..812 pixels.
    """
    steps = [2.0 ** (k / scales_per_octave) for k in range(scales_per_octave)]
    return [[stride * base_scale * step for step in steps] for stride in strides]


class AnchorGrid(nn.Module):
    """Places a few boxes at every cell of every feature map.

    The box shapes are torchvision's (corners rounded to whole pixels). The positions are not: torchvision
    divides the image size by the map's size, which makes the stride of a 7-row map of an 800-pixel image 114;
    here strides are what the network has (128). Boxes are centred on multiples of the stride and a width is
    x2 - x1. (FNA's release still counted pixels: centre at (stride - 1) / 2, width x2 - x1 + 1.)

    Args:
        sizes: per level the side lengths of square boxes, in pixels.
        ratios: height / width; every size comes in every ratio, ratios outermost.
        strides: per level, in pixels.
    """

    def __init__(self, sizes: Sequence[Sequence[float]], ratios: Sequence[float], strides: Sequence[int]) -> None:
        super().__init__()
        shapes = AnchorGenerator(
            tuple(tuple(level) for level in sizes), (tuple(ratios),) * len(sizes)
        ).cell_anchors
        self.strides = tuple(strides)
        self.num_per_cell = tuple(len(level) for level in shapes)
        for level, boxes in enumerate(shapes):
            # Not persistent: follows from the settings. A buffer, so that it is where the network is.
            self.register_buffer(f"shapes_{level}", boxes, persistent=False)

    def forward(self, map_sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Anchors of feature maps of the given heights and widths.

        Returns:
            Per level (H * W * num_per_cell, 4) float32: x1, y1, x2, y2; in rows, cells, then shapes.
        """
        anchors = []
        for level, ((height, width), stride) in enumerate(zip(map_sizes, self.strides, strict=True)):
            # Coordinates need float32 also in a network of half precision.
            shapes = self.get_buffer(f"shapes_{level}").float()
            x = torch.arange(width, device=shapes.device) * stride
            y = torch.arange(height, device=shapes.device) * stride
            centers = torch.stack(torch.meshgrid(x, y, indexing="xy") * 2, dim=-1)
            anchors.append((centers.view(-1, 1, 4) + shapes).view(-1, 4))
        return anchors
