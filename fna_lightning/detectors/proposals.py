"""The region proposal network: which boxes of an image may hold an object of any class (Ren et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.rpn import RPNHead, permute_and_flatten
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

from fna_lightning.detectors.anchors import AnchorGrid, octave_sizes
from fna_lightning.detectors.dense import BoxCoding, DenseOutputs
from fna_lightning.detectors.matching import assign_batch, sample
from fna_lightning.detectors.postprocess import ScoredBoxes, best_candidates
from fna_lightning.distributed import mean_over_ranks

SMALLEST = 1e-3
"""Pixels; a thinner box, such as one that clipping left nothing of, is no proposal (torchvision)."""


class ProposalNetwork(nn.Module):
    """Objectness and a shift for every anchor of every level, their losses, and the boxes that are proposed.

    Args:
        channels: of every level.
        strides: of the levels, in pixels.
        anchor_scale: side of a level's square anchor, in strides.
        anchor_ratios: height / width of the anchors.
        positive_iou: an anchor is to find a box from this overlap on; a box's best anchors always are.
        negative_iou: an anchor is background below this overlap.
        samples: anchors of an image that are trained.
        positive_share: of them that are to find a box at most.
        beta: where smooth L1 turns from quadratic to linear.
        nms_threshold: overlap above which the worse of two boxes of a level is dropped.
    """

    def __init__(
        self,
        channels: int,
        strides: Sequence[int],
        anchor_scale: float,
        anchor_ratios: Sequence[float],
        positive_iou: float,
        negative_iou: float,
        samples: int,
        positive_share: float,
        beta: float,
        nms_threshold: float,
    ) -> None:
        super().__init__()
        self.anchors = AnchorGrid(octave_sizes(strides, anchor_scale, 1), anchor_ratios, strides)
        self.head = RPNHead(channels, self.anchors.num_per_cell[0])
        self.coding = BoxCoding()
        self.positive_iou = positive_iou
        self.negative_iou = negative_iou
        self.samples = samples
        self.positive_share = positive_share
        self.beta = beta
        self.nms_threshold = nms_threshold

    def forward(self, levels: list[Tensor]) -> DenseOutputs:
        """One logit and four deltas an anchor, of levels (N, channels, H_l, W_l)."""
        logits, deltas = self.head(levels)
        anchors = self.anchors([(level.shape[-2], level.shape[-1]) for level in levels])
        return DenseOutputs(_in_a_row(logits, 1), _in_a_row(deltas, 4), anchors)

    def loss(self, outputs: DenseOutputs, boxes: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        """Cross-entropy and smooth L1 of the anchors that are drawn, both divided by their number.

        Under several processes the number is the mean of theirs, so that the averaged gradients are those of one
        process with all the images; a collective call then.

        Returns:
            "objectness" and "proposal"; both keep their graph when the batch has no box.
        """
        anchors = torch.cat(outputs.anchors)
        targets = assign_batch(anchors, boxes, labels, self.positive_iou, self.negative_iou)
        drawn = sample(targets, self.samples, self.positive_share)
        number = mean_over_ranks(drawn.sum()).clamp(min=1)
        found = targets._replace(positive=targets.positive & drawn)
        # A sum over some 10^5 terms: float32 also under mixed precision.
        logits = outputs.logits.float().squeeze(-1)
        entropy = F.binary_cross_entropy_with_logits(logits, found.positive.to(logits.dtype), reduction="none")
        entropy = torch.where(drawn, entropy, 0.0).sum()
        distance = self.coding.distance(outputs.deltas, found, anchors, self.beta)
        return {"objectness": entropy / number, "proposal": distance / number}

    @torch.no_grad()
    def propose(
        self, outputs: DenseOutputs, sizes: Sequence[tuple[int, int]], candidates: int, number: int
    ) -> list[Tensor]:
        """The best boxes of every image, best first, suppressed within each level; no gradient flows into them.

        Args:
            outputs: of N images.
            sizes: height and width of each picture, to which boxes are clipped.
            candidates: best anchors of each level before suppression.
            number: boxes of an image that are kept.

        Returns:
            N tensors (P_i, 4), x1, y1, x2, y2 in pixels, P_i <= `number`.
        """
        found = self.candidates(outputs, candidates)
        return [
            self._suppress(*image, size=size, number=number) for *image, size in zip(*found, sizes, strict=True)
        ]

    def candidates(self, outputs: DenseOutputs, number: int) -> ScoredBoxes:
        """The `number` best anchors of each level, not suppressed yet; their labels are the levels."""
        found = []
        counts = [level.shape[0] for level in outputs.anchors]
        for level, (logits, deltas, anchors) in enumerate(
            zip(
                outputs.logits.float().split(counts, dim=1),
                outputs.deltas.float().split(counts, dim=1),
                outputs.anchors,
                strict=True,
            )
        ):
            best = best_candidates(logits, number)
            chosen = deltas.gather(1, best.anchors[..., None].expand(-1, -1, 4))
            boxes = self.coding.decode(chosen, anchors[best.anchors])
            found.append(ScoredBoxes(boxes, best.scores.sigmoid(), torch.full_like(best.labels, level)))
        return ScoredBoxes.of_levels(found)

    def _suppress(
        self, boxes: Tensor, scores: Tensor, levels: Tensor, size: tuple[int, int], number: int
    ) -> Tensor:
        boxes = clip_boxes_to_image(boxes, size)
        kept = remove_small_boxes(boxes, SMALLEST)
        boxes = boxes[kept]
        return boxes[batched_nms(boxes, scores[kept], levels[kept], self.nms_threshold)[:number]]


def _in_a_row(levels: list[Tensor], columns: int) -> Tensor:
    """Maps (N, K * columns, H_l, W_l) -> (N, A, columns): in rows, cells, then the K anchors of a cell."""
    rows = []
    for level in levels:
        images, channels, height, width = level.shape
        rows.append(permute_and_flatten(level, images, channels // columns, columns, height, width))
    return torch.cat(rows, dim=1)
