"""The boxes that anchor-based detectors start from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator

from fna_lightning.errors import ConfigError


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
            anchors.append(_repeat(shapes, (height, width), (stride, stride)))
        return anchors


def multibox_sizes(base: int, lowest: float, highest: float, levels: int) -> list[tuple[int, int]]:
    """Sides of SSD's smaller and larger square per level (Liu et al. 2016, section 2.2; spec FNA 6.2).

    The smaller sides of all levels but the first grow from `lowest` to about `highest` in equal steps of whole
    per cent, the first level's is half the lowest, and a level's larger side is the next one's smaller. For
    a base of 300 pixels and .2 to .95: 30, 60, 114, 168, 222, 276 and 330.

    Args:
        base: nominal side of the picture, in pixels.
        lowest: smaller side of the second level, as a share of `base`.
        highest: which the smaller side of the last level does not exceed.
        levels: at least 3.

    Raises:
        ConfigError: sides do not grow, or the smallest is below one pixel.
    """
    low, high = round(100 * lowest), round(100 * highest)
    step = (high - low) // (levels - 2)
    sides = [base * percent // 100 for percent in (low // 2, *(low + step * k for k in range(levels)))]
    if sides[0] < 1 or step < 1:
        raise ConfigError(
            f"detector.anchor_range=[{lowest}, {highest}] of detector.anchor_base={base}: gives default boxes of "
            f"{sides[0]} to {sides[-1]} pixels; let them grow from 1 or more, as [0.2, 0.95] of 300 do"
        )
    return list(pairwise(sides))


class MultiboxGrid(nn.Module):
    """Places SSD's default boxes at every cell of every feature map.

    They are those of FNA's release (mmdetection 0.6), which torchvision's `DefaultBoxGenerator` does not make:
    the stride of a map is the picture's size by the map's, rounded (107 of 320 pixels and 3 cells), and
    corners are rounded to whole pixels. The release counts pixels: a box from x1 to x2 is x2 - x1 + 1 wide,
    and a cell's centre is (stride - 1) / 2. The same boxes in coordinates between pixels, as all boxes are
    here, have their x2 and y2 one further, and are centred on stride / 2.

    Args:
        sizes: per level the sides of a smaller and a larger square, in pixels, see `multibox_sizes`.
        ratios: per level the ratios beside 1. A cell has the smaller square, one whose side is the geometric
            mean of the two, and for every ratio r the smaller square's area in width / height r and 1 / r.
    """

    def __init__(self, sizes: Sequence[tuple[float, float]], ratios: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.num_per_cell = tuple(2 + 2 * len(level) for level in ratios)
        for level, ((smaller, larger), level_ratios) in enumerate(zip(sizes, ratios, strict=True)):
            mean = math.sqrt(smaller * larger)
            sides = [(smaller, smaller), (mean, mean)]
            for root in map(math.sqrt, level_ratios):
                sides += [(smaller * root, smaller / root), (smaller / root, smaller * root)]
            # Not persistent: follows from the settings. A buffer, so that it is where the network is.
            self.register_buffer(f"sides_{level}", torch.tensor(sides), persistent=False)

    def forward(self, map_sizes: Sequence[tuple[int, int]], image_size: tuple[int, int]) -> list[Tensor]:
        """Default boxes of feature maps of the given heights and widths, for a picture of (H, W) pixels.

        Returns:
            Per level (H * W * num_per_cell, 4) float32: x1, y1, x2, y2; in rows, cells, then shapes.
        """
        anchors = []
        for level, (height, width) in enumerate(map_sizes):
            strides = (round(image_size[0] / height), round(image_size[1] / width))
            # Coordinates need float32 also in a network of half precision.
            sides = self.get_buffer(f"sides_{level}").float().unbind(dim=1)
            edges = [((s - 1) / 2, (side - 1) / 2) for s, side in zip(strides[::-1], sides, strict=True)]
            corners = [(centre - half).round() for centre, half in edges]
            corners += [(centre + half).round() + 1 for centre, half in edges]
            anchors.append(_repeat(torch.stack(corners, dim=1), (height, width), strides))
        return anchors


def _repeat(shapes: Tensor, map_size: tuple[int, int], strides: tuple[int, int]) -> Tensor:
    """The boxes `shapes` (K, 4) of the first cell at every cell: (H * W * K, 4); sizes and strides as (y, x)."""
    y, x = (torch.arange(n, device=shapes.device) * stride for n, stride in zip(map_size, strides, strict=True))
    shifts = torch.stack(torch.meshgrid(x, y, indexing="xy") * 2, dim=-1)
    return (shifts.view(-1, 1, 4) + shapes).view(-1, 4)
