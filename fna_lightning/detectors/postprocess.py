"""From scored boxes to detections; shared by all dense detectors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from fna_lightning.detectors.base import Detections


@dataclass(frozen=True)
class Selection:
    """Which of the scored boxes are detections."""

    score_threshold: float
    """A detection scores more than this."""
    nms_threshold: float
    """Of two boxes of one class that overlap (IoU) more than this, the better one stays."""
    max_detections: int
    """Best detections of an image that are kept."""


class Candidates(NamedTuple):
    """The best (box, class) pairs of one level, best first, for N images."""

    anchors: Tensor
    """(N, k) int64: which anchor or location."""
    scores: Tensor
    """(N, k)."""
    labels: Tensor
    """(N, k) int64."""


class ScoredBoxes(NamedTuple):
    """Every (box, class) pair of N images that may be a detection, before it is clipped and suppressed.

    Pairs are in one dimension or in several, such as boxes and classes; S stands for them.
    """

    boxes: Tensor
    """(N, *S, 4): x1, y1, x2, y2 in pixels."""
    scores: Tensor
    """(N, *S) in [0, 1]."""
    labels: Tensor
    """(N, *S) int64."""

    @classmethod
    def of_levels(cls, levels: Iterable[ScoredBoxes]) -> ScoredBoxes:
        """The pairs of all levels, in a row each, in one row."""
        return cls(*(torch.cat(parts, dim=1) for parts in zip(*levels, strict=True)))


def best_candidates(scores: Tensor, limit: int) -> Candidates:
    """The `limit` best pairs of (N, A, K) scores (or logits: any increasing function of the score)."""
    num_classes = scores.shape[-1]
    flat = scores.flatten(1)
    # Not `min`, which would fix the size of pictures of an exported network.
    values, index = flat.topk(torch.sym_min(limit, flat.shape[1]), dim=1)
    return Candidates(index // num_classes, values, index % num_classes)


def suppress(
    boxes: Tensor, scores: Tensor, labels: Tensor, size: tuple[int, int], selection: Selection
) -> Detections:
    """Clip, drop what scores too little, suppress per class and keep the best.

    Args:
        boxes: (*S, 4) x1, y1, x2, y2 in pixels.
        scores: (*S) in [0, 1].
        labels: (*S) int64.
        size: height and width of the picture, to which boxes are clipped.
        selection: thresholds.
    """
    keep = scores > selection.score_threshold
    boxes, scores, labels = clip_boxes_to_image(boxes[keep], size), scores[keep], labels[keep]
    kept = batched_nms(boxes, scores, labels, selection.nms_threshold)[: selection.max_detections]
    return Detections(boxes[kept], scores[kept], labels[kept])


def suppress_batch(found: ScoredBoxes, sizes: Tensor, selection: Selection) -> list[Detections]:
    """`suppress` for N images, whose pictures have `sizes` (N, 2)."""
    return [
        suppress(*image, size=(height, width), selection=selection)
        for *image, (height, width) in zip(*found, sizes.tolist(), strict=True)
    ]
