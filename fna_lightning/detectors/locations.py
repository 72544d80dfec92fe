"""What is predicted at the points of a grid instead of for anchors (Tian et al. 2019, 1904.01355, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

REACH = 8
"""Strides of a level from a point to the farthest side of a box that is found there: 64 to 512 pixels."""
_EPS = 1e-7


class LocationTargets(NamedTuple):
    """What every location of N images is to predict."""

    positive: Tensor
    """(N, A) bool: has a box to find."""
    labels: Tensor
    """(N, A) int64: class of the box; meaningless where not positive."""
    distances: Tensor
    """(N, A, 4): to the box's left, top, right and bottom side, in strides; 1 where not positive."""
    centerness: Tensor
    """(N, A) in [0, 1]: how central the location is in its box; 1 where not positive."""


def location_grid(
    map_sizes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device
) -> list[Tensor]:
    """The middles of all cells of feature maps of the given heights and widths.

    Returns:
        Per level (H * W, 2) float32: x, y in pixels, row by row.
    """
    levels = []
    for size, stride in zip(map_sizes, strides, strict=True):
        y, x = (torch.arange(n, device=device, dtype=torch.float32) * stride + stride // 2 for n in size)
        levels.append(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).view(-1, 2))
    return levels


def assign_locations(
    locations: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    radius: float,
) -> LocationTargets:
    """Give every location the smallest of the boxes that it may find (spec FAD 5.3).

    It lies within such a box and within `radius` strides of its middle, in both directions, and the box's
    farthest side is within the reach of its level, both ends included. All images are held against all locations
    and boxes at once, in tensors of N x A x M numbers, some ten of which are alive together: 200 MB for 4 pictures
    of 800x1344 with up to 60 boxes, which is little beside the features of such pictures.

    Args:
        locations: per level (A_l, 2), see `location_grid`.
        strides: of the levels, in pixels, ascending.
        boxes: N tensors (M_i, 4); M_i may be 0.
        labels: N tensors (M_i,) int64.
        radius: in strides of the level; infinite for the whole box.
    """
    points = torch.cat(list(locations))
    counts = [len(level) for level in locations]
    # Shorter lists are filled up with boxes of no area, in which no location lies; one such is there in any case.
    truth = pad_sequence([*boxes, boxes[0].new_zeros(1, 4)], batch_first=True)[:-1].to(points.dtype)
    classes = pad_sequence([*labels, labels[0].new_zeros(1)], batch_first=True)[:-1]

    x1, y1, x2, y2 = truth[:, None].unbind(-1)
    x, y = points[:, None].unbind(-1)
    left, top, right, bottom = x - x1, y - y1, x2 - x, y2 - y
    nearest = left.minimum(right).minimum(top.minimum(bottom))
    farthest = left.maximum(right).maximum(top.maximum(bottom))
    off_centre = (left - right).abs().maximum((top - bottom).abs()) / 2
    stride, least, most = (
        torch.cat([points.new_full((count, 1), value) for count, value in zip(counts, values, strict=True)])
        for values in (strides, *_reaches(strides))
    )
    found = (nearest > 0) & (off_centre < radius * stride) & (farthest >= least) & (farthest <= most)
    area = torch.where(found, (x2 - x1) * (y2 - y1), torch.inf)
    smallest, index = area.min(dim=2)

    positive = smallest.isfinite()
    box = truth.gather(1, index[..., None].expand(-1, -1, 4))
    distances = torch.cat([points - box[..., :2], box[..., 2:] - points], dim=-1) / stride
    distances = torch.where(positive[..., None], distances, 1.0)
    return LocationTargets(positive, classes.gather(1, index), distances, centerness(distances))


def centerness(distances: Tensor) -> Tensor:
    """How central a location is in a box by its distances (..., 4) to the sides: 1 in the middle, 0 at a side."""
    left, top, right, bottom = distances.unbind(-1)
    across = left.minimum(right) / left.maximum(right)
    down = top.minimum(bottom) / top.maximum(bottom)
    return (across * down).sqrt()


def giou(found: Tensor, wanted: Tensor, smoothing: float = 0.0) -> Tensor:
    """Generalised IoU (Rezatofighi et al. 2019, 1902.09630) of boxes around the same locations.

    Args:
        found: (..., 4) distances to the sides, none of them negative.
        wanted: likewise, of boxes with an area.
        smoothing: added to intersection and union in their ratio; with 1 a box of few squared strides is found
            better than it is (FAD).

    Returns:
        (...), at most 1.
    """
    intersection, enclosing = _area(found.minimum(wanted)), _area(found.maximum(wanted)) + _EPS
    union = _area(found) + _area(wanted) - intersection
    return (intersection + smoothing) / (union + smoothing) - (enclosing - union) / enclosing


def decode(distances: Tensor, locations: Tensor, stride: int) -> Tensor:
    """Boxes (N, k, 4) in pixels of distances (N, k, 4) in strides from locations (N, k, 2)."""
    before, after = (distances * stride).chunk(2, dim=-1)
    return torch.cat([locations - before, locations + after], dim=-1)


def _area(distances: Tensor) -> Tensor:
    left, top, right, bottom = distances.unbind(-1)
    return (left + right) * (top + bottom)


def _reaches(strides: Sequence[int]) -> tuple[list[float], list[float]]:
    """Least and largest distance in pixels to the farthest side of a box, per level; the two ends are open."""
    bounds = [0.0, *(float(REACH * stride) for stride in strides[:-1]), torch.inf]
    least, most = zip(*pairwise(bounds), strict=True)
    return list(least), list(most)
