"""SSDLite (Sandler et al. 2018, 1801.04381, section 6.2) as FNA and NAA use it (spec FNA 6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.ssd import SSDScoringHead

from fna_lightning.blocks import IMAGENET_MEAN, Backbone, ConvNorm, Norm
from fna_lightning.detectors.anchors import MultiboxGrid, multibox_sizes
from fna_lightning.detectors.base import feature_maps
from fna_lightning.detectors.dense import BoxCoding, DenseDetector, DenseOutputs
from fna_lightning.detectors.matching import AnchorTargets, assign_batch
from fna_lightning.detectors.postprocess import ScoredBoxes, Selection
from fna_lightning.distributed import mean_over_ranks
from fna_lightning.errors import ConfigError

BACKGROUND = 0
"""The softmax's column for the background; label k is column k + 1."""


class SSDLite(DenseDetector):
    """One-stage detector: extra layers behind the backbone, a separable head of its own on every map, softmax.

    A map that shrinks to one pixel needs two images a batch in training, because its batch norm does.

    Args:
        backbone: see `Detector`.
        num_classes: without background, which the detector adds for itself.
        features: names of the backbone's maps that are read, shallow first; default the last two. The extra
            layers continue the last one.
        extra_channels: of the map behind each extra layer, which halves the resolution.
        norm_eps: of the batch norms of extra layers and head.
        anchor_base: side of the picture for which default boxes are sized, in pixels; 300 in FNA's release,
            whose pictures are 320.
        anchor_range: smallest and largest default box as shares of `anchor_base`, see `multibox_sizes`.
        anchor_ratios: for every map the ratios of default boxes beside 1; each also comes inverted.
        positive_iou: a default box is to find a box from this overlap on; a box's best one always is.
        negative_iou: a default box is background below this overlap.
        negatives_per_positive: default boxes of the background that are trained, those of largest loss, for
            each of the image that is to find a box.
        box_std: by which shifts and growths of boxes are divided.
        box_beta: where smooth L1 turns from quadratic to linear.
        score_threshold: detections score more than this.
        nms_threshold: overlap above which the worse of two boxes of a class is dropped.
        max_detections: per image.
        mean: see `Detector`.
        std: see `Detector`; 1 in FNA's release, whose stem's batch norm absorbs the scale (spec FNA, Q9).

    Raises:
        ConfigError: a feature map is missing, there is no class, or the default boxes do not fit the maps.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        features: Sequence[str] | None = None,
        extra_channels: Sequence[int] = (512, 256, 256, 128),
        norm_eps: float = 1e-3,
        anchor_base: int = 300,
        anchor_range: tuple[float, float] = (0.2, 0.95),
        anchor_ratios: Sequence[Sequence[float]] = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
        positive_iou: float = 0.5,
        negative_iou: float = 0.5,
        negatives_per_positive: int = 3,
        box_std: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2),
        box_beta: float = 1.0,
        score_threshold: float = 0.02,
        nms_threshold: float = 0.6,
        max_detections: int = 200,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        super().__init__(backbone, num_classes, mean, std)
        self.features = tuple(features or list(backbone.out_channels)[-2:])
        channels, _ = feature_maps(backbone, self.features)
        widths = [*channels, *extra_channels]
        if len(widths) < 3 or len(anchor_ratios) != len(widths):
            raise ConfigError(
                f"detector.anchor_ratios has {len(anchor_ratios)} lists for {len(widths)} maps, those of "
                "extra_channels included: give one a map, and three maps or more"
            )
        norm = Norm(eps=norm_eps)
        self.extras = nn.ModuleList(
            extra_layer(wide, out, norm) for wide, out in pairwise(widths[len(channels) - 1 :])
        )
        self.anchors = MultiboxGrid(multibox_sizes(anchor_base, *anchor_range, len(widths)), anchor_ratios)
        self.head = nn.ModuleDict(
            {
                "classes": build_head(widths, self.anchors.num_per_cell, num_classes + 1, norm),
                "boxes": build_head(widths, self.anchors.num_per_cell, 4, norm),
            }
        )
        for module in [*self.extras.modules(), *self.head.modules()]:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.03)
        self.positive_iou = positive_iou
        self.negative_iou = negative_iou
        self.negatives_per_positive = negatives_per_positive
        self.box_beta = box_beta
        self.selection = Selection(score_threshold, nms_threshold, max_detections)
        self.box_coding = BoxCoding(box_std)

    def forward(self, images: Tensor) -> DenseOutputs:
        """Predict for (N, 3, H, W) images on [0, 255]."""
        maps = self.maps(images)
        levels = [maps[name] for name in self.features]
        for layer in self.extras:
            levels.append(layer(levels[-1]))
        map_sizes = [(level.shape[-2], level.shape[-1]) for level in levels]
        anchors = self.anchors(map_sizes, (images.shape[-2], images.shape[-1]))
        return DenseOutputs(self.head["classes"](levels), self.head["boxes"](levels), anchors)

    def loss(self, outputs: DenseOutputs, boxes: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        """Cross-entropy with hard negatives, and smooth L1, both divided by the batch's positives (at least 1).

        An image without boxes has no hard negatives either and counts for nothing. Under several processes
        the positives are the mean of theirs, so that the averaged gradients are those of one process with
        all the images; a collective call then.

        Args and shapes: see `Detector.loss`.

        Returns:
            "classification" and "box". Both keep their graph when the batch has no box.
        """
        anchors = torch.cat(outputs.anchors)
        targets = assign_batch(anchors, boxes, labels, self.positive_iou, self.negative_iou, exclusive=True)
        positives = mean_over_ranks(targets.positive.sum()).clamp(min=1)

        truth = torch.where(targets.positive, targets.labels + 1, BACKGROUND)
        # Sums over some 10^5 terms: float32 also under mixed precision.
        logits = outputs.logits.float().flatten(0, 1)
        entropy = F.cross_entropy(logits, truth.flatten(), reduction="none").view_as(truth)
        found = torch.where(targets.positive, entropy, 0.0).sum()
        background = hard_negatives(entropy, targets, self.negatives_per_positive).sum()
        distance = self.box_coding.distance(outputs.deltas, targets, anchors, self.box_beta)
        return {"classification": (found + background) / positives, "box": distance / positives}

    def scored_boxes(self, outputs: DenseOutputs) -> ScoredBoxes:
        """See `DenseDetector.scored_boxes`: every pair of a default box and a class."""
        scores = outputs.logits.float().softmax(dim=-1)[..., BACKGROUND + 1 :]
        boxes = self.box_coding.decode(outputs.deltas.float(), torch.cat(outputs.anchors))
        labels = torch.arange(self.num_classes, device=scores.device).expand_as(scores)
        return ScoredBoxes(boxes[:, :, None].expand(-1, -1, self.num_classes, -1), scores, labels)


def extra_layer(in_channels: int, out_channels: int, norm: Norm) -> nn.Sequential:
    """Half the output channels by 1x1, then a separable 3x3 of stride 2; ReLU6 behind each convolution."""
    narrow = out_channels // 2
    return nn.Sequential(
        ConvNorm(in_channels, narrow, norm=norm),
        ConvNorm(narrow, narrow, 3, stride=2, groups=narrow, norm=norm),
        ConvNorm(narrow, out_channels, norm=norm),
    )


def build_head(widths: Sequence[int], num_per_cell: Sequence[int], columns: int, norm: Norm) -> SSDScoringHead:
    """Per map a separable 3x3 that predicts `columns` numbers for each of a cell's default boxes.

    Unlike torchvision's, the last 1x1 has batch norm in place of a bias (spec FNA 6.2).

    Args:
        widths: channels of every map.
        num_per_cell: default boxes at a cell of every map.
        columns: numbers a box.
        norm: of all batch norms.

    Returns:
        A module from the list of maps (N, C_l, H_l, W_l) to (N, A, columns), all maps' boxes in a row.
    """
    return SSDScoringHead(
        nn.ModuleList(
            nn.Sequential(
                ConvNorm(width, width, 3, groups=width, norm=norm),
                ConvNorm(width, number * columns, activation=False, norm=norm),
            )
            for width, number in zip(widths, num_per_cell, strict=True)
        ),
        columns,
    )


def hard_negatives(losses: Tensor, targets: AnchorTargets, per_positive: int) -> Tensor:
    """Of every image the largest losses of negatives, `per_positive` for each of its positives.

    Args:
        losses: (N, A), none of them negative.
        targets: of N images and A anchors.
        per_positive: how many.

    Returns:
        (N, A): these losses, largest first, then zeros.
    """
    negative = targets.scored & ~targets.positive
    wanted = (per_positive * targets.positive.sum(dim=1)).minimum(negative.sum(dim=1))
    hardest = torch.where(negative, losses, -1.0).sort(dim=1, descending=True).values
    rank = torch.arange(losses.shape[1], device=losses.device)
    return torch.where(rank < wanted[:, None], hardest, 0.0)
