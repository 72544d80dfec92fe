"""YOLOF's uniform matching (Chen et al. 2021, 2103.09460, section 4.2): as many anchors for every box.

What the paper leaves open is as in its authors' code (spec NAA 2.1).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from fna_lightning.detectors.matching import IGNORED, NEGATIVE

_STEPS = 64
"""A pixel, in which anchors and predictions are told apart by how near they are."""


class UniformTargets(NamedTuple):
    """What the anchors of one image are to predict; P counts the pairs of an anchor and a box."""

    positive: Tensor
    """(A,) bool: is to find the class of a box."""
    scored: Tensor
    """(A,) bool: positive or negative, not in between."""
    labels: Tensor
    """(A,) int64: class of the box; meaningless where not positive."""
    pairs: Tensor
    """(P,) int64: an anchor that is to find a box; it may have several boxes, and one of them twice."""
    boxes: Tensor
    """(P, 4): the box of each pair."""
    counted: Tensor
    """(P,) bool: the anchor overlaps its box enough."""


@torch.no_grad()
def assign_uniformly(
    predicted: Tensor,
    anchors: Tensor,
    boxes: Tensor,
    labels: Tensor,
    matches: int,
    positive: float,
    negative: float,
) -> UniformTargets:
    """Give every box the anchors nearest to it, and as many whose predictions are nearest.

    Nearest is by L1 between centres and sides, to 1/64 of a pixel; of equally near ones the first. An anchor that
    several boxes have is to find the class of one: for which it has the farthest rank, then by place before by
    prediction, then the last. That is what the authors' writes leave on a CPU, and is so here on any device.
    Where the anchor overlaps this box too little, its class is not scored.

    Args:
        predicted: (A, 4) boxes that the anchors predict now.
        anchors: (A, 4).
        boxes: (M, 4); M may be 0.
        labels: (M,) int64.
        matches: of each of the two kinds a box has; fewer where there are not so many anchors.
        positive: a pair counts from this overlap of anchor and box on.
        negative: an anchor without a box whose prediction overlaps one more than this is not background.
    """
    boxes, number = boxes.to(anchors.dtype), boxes.shape[0]
    if number == 0:
        none = torch.zeros_like(anchors[:, 0], dtype=torch.bool)
        no_pair = labels.new_zeros(0)
        return UniformTargets(none, ~none, labels.new_zeros(len(anchors)), no_pair, boxes, no_pair.bool())
    # Rank by rank: of all boxes the prediction at this rank, then of all boxes the anchor.
    pairs = torch.cat([_nearest(each, boxes, matches) for each in (predicted, anchors)], dim=1).flatten()
    place = torch.arange(len(pairs), device=pairs.device)
    index = place % number
    counted = box_iou(anchors, boxes)[pairs, index] >= positive

    free = torch.where(box_iou(predicted, boxes).amax(dim=1) > negative, IGNORED, NEGATIVE)
    last = torch.full_like(free, -1).scatter_reduce(0, pairs, place, "amax")
    given = torch.where(counted, index, IGNORED)[last.clamp(min=0)]
    found = torch.where(last >= 0, given, free)
    return UniformTargets(found >= 0, found != IGNORED, labels[found.clamp(min=0)], pairs, boxes[index], counted)


def assign_uniformly_batch(
    predicted: Tensor,
    anchors: Tensor,
    boxes: list[Tensor],
    labels: list[Tensor],
    matches: int,
    positive: float,
    negative: float,
) -> UniformTargets:
    """`assign_uniformly` for N images that share their anchors (A, 4), with predictions (N, A, 4).

    Returns:
        The first three fields with N in front; the pairs of all images in one row, counted as anchors of N * A.
    """
    images = [
        assign_uniformly(image, anchors, image_boxes, image_labels, matches, positive, negative)
        for image, image_boxes, image_labels in zip(predicted, boxes, labels, strict=True)
    ]
    return UniformTargets(
        torch.stack([image.positive for image in images]),
        torch.stack([image.scored for image in images]),
        torch.stack([image.labels for image in images]),
        torch.cat([image.pairs + number * len(anchors) for number, image in enumerate(images)]),
        torch.cat([image.boxes for image in images]),
        torch.cat([image.counted for image in images]),
    )


def _nearest(candidates: Tensor, boxes: Tensor, number: int) -> Tensor:
    """Of each of the boxes (M, 4) the `number` nearest candidates (A, 4), nearest first: (number, M)."""
    centres = [box_convert(each, "xyxy", "cxcywh") for each in (candidates, boxes)]
    # In whole steps and stable, so that ties fall alike on every device: a grid of squares has many, which
    # rounding errors would part, and topk promises nothing of them.
    steps = (torch.cdist(*centres, p=1) * _STEPS).round()
    return steps.sort(dim=0, stable=True).indices[:number]
