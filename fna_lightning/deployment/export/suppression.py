"""Suppression of whole batches in tensors whose shapes do not depend on what is found."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import nms

from fna_lightning.detectors.postprocess import ScoredBoxes

NO_LABEL = -1
"""In the rows behind the last detection, whose boxes and scores are 0."""


class Suppress(Protocol):
    """Greedy suppression of M boxes, each within its group; exact, whatever the groups' number."""

    def __call__(self, boxes: Tensor, scores: Tensor, groups: Tensor, number: int, iou: float) -> Tensor:
        """Which boxes stay.

        Args:
            boxes: (M, 4) x1, y1, x2, y2.
            scores: (M,).
            groups: (M,) int64 in [0, `number`).
            number: of groups.
            iou: overlap above which the worse of two boxes of a group is dropped.

        Returns:
            (D,) int64, in any order.
        """
        ...


def suppress_apart(boxes: Tensor, scores: Tensor, groups: Tensor, number: int, iou: float) -> Tensor:
    """`Suppress` by moving groups apart, in double precision, which moves boxes without rounding them.

    A trace takes it that torchvision keeps two boxes or more. Two of no area make that true: nothing overlaps
    them, and as they score least they come last, to be left out.
    """
    del number
    apart = groups.double() * (F.pad(boxes.flatten(), (0, 1)).amax() + 1)
    moved = F.pad(boxes.double() + apart[:, None], (0, 0, 0, 2))
    return nms(moved, F.pad(scores.double(), (0, 2), value=-1.0), iou)[:-2]


def clip(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes (N, *S, 4) within pictures of `sizes` (N, 2), height and width."""
    ends = sizes.to(boxes.dtype).flip(1).repeat(1, 2).view(sizes.shape[0], *[1] * (boxes.dim() - 2), 4)
    return boxes.clamp(min=0).minimum(ends)


def thick(boxes: Tensor, least: float) -> Tensor:
    """Which boxes (*S, 4) are at least so wide and high: (*S)."""
    return (boxes[..., 2:] - boxes[..., :2]).amin(dim=-1) >= least


def best(
    found: ScoredBoxes, eligible: Tensor, groups: int, iou: float, number: int, suppress: Suppress
) -> ScoredBoxes:
    """The `number` best boxes of every image behind suppression within each label.

    Args:
        found: of N images; its boxes are clipped.
        eligible: (N, *S) bool: which may stay.
        groups: labels that there are.
        iou: overlap above which the worse of two boxes of a label is dropped.
        number: boxes of an image.
        suppress: does it.

    Returns:
        (N, number, 4), (N, number) and (N, number), best first; in rows without a box 0, 0 and `NO_LABEL`.
    """
    images = found.scores.shape[0]
    boxes, scores, labels, eligible = (
        found.boxes.reshape(images, -1, 4), found.scores.reshape(images, -1), found.labels.reshape(images, -1),
        eligible.reshape(images, -1),
    )  # fmt: skip
    image, place = eligible.nonzero(as_tuple=True)
    group = image * groups + labels[image, place]
    kept = suppress(boxes[image, place], scores[image, place], group, images * groups, iou)
    stays = torch.zeros_like(eligible).index_put((image[kept], place[kept]), eligible.new_ones(()))
    # Rows to fill up with, where an image has fewer boxes than are wanted.
    ranked = F.pad(torch.where(stays, scores, -1.0), (0, number), value=-1.0)
    chosen, index = ranked.topk(number, dim=1)
    there = chosen >= 0
    boxes = F.pad(boxes, (0, 0, 0, number)).gather(1, index[..., None].expand(-1, -1, 4))
    labels = F.pad(labels, (0, number)).gather(1, index)
    return ScoredBoxes(
        torch.where(there[..., None], boxes, 0.0),
        torch.where(there, chosen, 0.0),
        torch.where(there, labels, NO_LABEL),
    )
