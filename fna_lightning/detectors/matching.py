"""Which anchor is to find which box, without waiting for the device and without loops over boxes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_iou

NEGATIVE = -1
"""Match of an anchor that is to find nothing."""
IGNORED = -2
"""Match of an anchor that is not scored."""


class AnchorTargets(NamedTuple):
    """What every anchor of one image is to predict."""

    positive: Tensor
    """(A,) bool: has a box to find."""
    scored: Tensor
    """(A,) bool: positive or negative, not in between."""
    labels: Tensor
    """(A,) int64: class of the box; meaningless where not positive."""
    boxes: Tensor
    """(A, 4): the box to find; the anchor itself where not positive, so that its encoding is finite."""


def match(
    iou: Tensor, positive: float, negative: float, keep_best: bool = True, exclusive: bool = False
) -> Tensor:
    """Give every anchor the box it overlaps most, if it overlaps enough.

    The rules of torchvision's `Matcher(allow_low_quality_matches=True)`, with one exception: a box that
    touches no anchor (a degenerate box) keeps none, where by the letter every anchor ties for the best.

    Args:
        iou: (M, A) overlaps of M boxes with A anchors; M may be 0.
        positive: an anchor is positive from this overlap on.
        negative: an anchor is negative below this overlap; between the two it is not scored.
        keep_best: a box's best anchors, ties included, are positive whatever their overlap. Such an anchor is
            still given the box that *it* overlaps most.
        exclusive: of a box's best anchors only the first is kept, and it is given this box (SSD; the last one
            of several boxes that have it in common).

    Returns:
        (A,) int64: index of a box, `NEGATIVE` or `IGNORED`.
    """
    if iou.shape[0] == 0:
        return torch.full(iou.shape[1:], NEGATIVE, dtype=torch.int64, device=iou.device)
    overlap, index = iou.max(dim=0)
    matches = torch.where(overlap >= positive, index, IGNORED)
    matches = torch.where(overlap < negative, NEGATIVE, matches)
    if keep_best:
        best = iou.max(dim=1, keepdim=True)
        if exclusive:
            boxes, anchors = (torch.arange(n, device=iou.device) for n in iou.shape)
            is_best = (best.indices == anchors) & (best.values > 0)
            index = torch.where(is_best, boxes[:, None], NEGATIVE).max(dim=0).values
            matches = torch.where(index >= 0, index, matches)
        else:
            is_best = ((iou == best.values) & (best.values > 0)).any(dim=0)
            matches = torch.where(is_best, index, matches)
    return matches


def assign(
    anchors: Tensor,
    boxes: Tensor,
    labels: Tensor,
    positive: float,
    negative: float,
    keep_best: bool = True,
    exclusive: bool = False,
) -> AnchorTargets:
    """Targets of the anchors (A, 4) of an image with boxes (M, 4) and labels (M,); settings as in `match`."""
    matches = match(box_iou(boxes, anchors), positive, negative, keep_best, exclusive)
    is_positive = matches >= 0
    if boxes.shape[0] == 0:
        return AnchorTargets(is_positive, matches != IGNORED, torch.zeros_like(matches), anchors)
    index = matches.clamp(min=0)
    targets = torch.where(is_positive[:, None], boxes[index].to(anchors.dtype), anchors)
    return AnchorTargets(is_positive, matches != IGNORED, labels[index], targets)


def assign_batch(
    anchors: Tensor,
    boxes: list[Tensor],
    labels: list[Tensor],
    positive: float,
    negative: float,
    exclusive: bool = False,
) -> AnchorTargets:
    """`assign` for N images that share their anchors: the fields of `AnchorTargets` with N in front."""
    images = [
        assign(anchors, image_boxes, image_labels, positive, negative, exclusive=exclusive)
        for image_boxes, image_labels in zip(boxes, labels, strict=True)
    ]
    return AnchorTargets(*(torch.stack(field) for field in zip(*images, strict=True)))


def sample(targets: AnchorTargets, number: int, positive_share: float) -> Tensor:
    """Draw anchors to be trained on: positives up to a share, and as many negatives as make up the number.

    The rule of torchvision's `BalancedPositiveNegativeSampler`, without waiting for the device.

    Args:
        targets: of N images and A anchors.
        number: of an image; fewer where it has fewer negatives.
        positive_share: of them that are positive at most.

    Returns:
        (N, A) bool.
    """
    positive = _draw(targets.positive, int(number * positive_share), number)
    left = number - positive.sum(dim=1, keepdim=True)
    return positive | _draw(targets.scored & ~targets.positive, left, number)


def _draw(eligible: Tensor, wanted: Tensor | int, most: int) -> Tensor:
    """`wanted` of each row's eligible places, or all where there are fewer; never more than `most`."""
    keys = torch.rand(eligible.shape, device=eligible.device).masked_fill(~eligible, torch.inf)
    lowest, places = keys.topk(min(most, keys.shape[1]), dim=1, largest=False)
    rank = torch.arange(lowest.shape[1], device=eligible.device)
    return torch.zeros_like(eligible).scatter(1, places, (rank < wanted) & lowest.isfinite())
