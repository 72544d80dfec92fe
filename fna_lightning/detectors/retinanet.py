"""RetinaNet (Lin et al. 2017, 1708.02002) as FNA, NAA and DetNAS use it (spec FNA 6.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops.misc import Conv2dNormActivation

from fna_lightning.blocks import IMAGENET_MEAN, IMAGENET_STD, Backbone, build_towers, groups_of
from fna_lightning.detectors.anchors import AnchorGrid, octave_sizes
from fna_lightning.detectors.base import feature_maps
from fna_lightning.detectors.dense import BoxCoding, DenseDetector, DenseOutputs, focal_loss
from fna_lightning.detectors.fpn import build_fpn
from fna_lightning.detectors.matching import assign_batch
from fna_lightning.detectors.postprocess import ScoredBoxes, Selection, best_candidates
from fna_lightning.distributed import mean_over_ranks


class RetinaNet(DenseDetector):
    """One-stage detector: pyramid, two towers of convolutions shared by all levels, focal loss.

    Args:
        backbone: see `Detector`.
        num_classes: without background; one sigmoid each.
        features: names of the backbone's maps that the pyramid is built on, shallow first; default the last
            three. P6 and P7 continue the last one's stride.
        fpn_channels: of every pyramid level and of the towers.
        fpn_norm: batch norms in the pyramid, P6 and P7 included (DetNAS in mmrazor); FNA and the paper have none.
        p6_from_pyramid: make P6 of P5 (DetNAS), not of the backbone's last map (FNA, mmrazor).
        p7_relu: between P6 and P7 (DetNAS).
        head_depth: 3x3 convolutions in a plain tower, before the one that predicts.
        anchor_scale: side of the smallest square anchor, in strides.
        scales_per_octave: anchor sizes between one level and the next.
        anchor_ratios: height / width of the anchors.
        positive_iou: an anchor is to find a box from this overlap on; a box's best anchors always are.
        negative_iou: an anchor is background below this overlap.
        focal_alpha: weight of the positive class in the focal loss.
        focal_gamma: how much well-classified anchors are discounted.
        box_std: by which shifts and growths of boxes are divided (DetNAS: .1, .1, .2, .2).
        box_beta: where smooth L1 turns from quadratic to linear; 0 for L1 (DetNAS in mmrazor).
        box_weight: by which the box loss is multiplied (DetNAS: its mean over the four numbers, .25).
        score_threshold: detections score more than this.
        nms_threshold: overlap above which the worse of two boxes of a class is dropped.
        candidates_per_level: best (anchor, class) pairs of each level before suppression.
        max_detections: per image.
        mean: see `Detector`.
        std: see `Detector`.
        head: architecture or space of the two towers before the predictions (spec FAD 6.3); None for plain ones.
        tower_channels: of the operations inside the cells of `head`.
        tower_cells: of `head`, in series in a tower.

    Raises:
        ConfigError: a feature map is missing, there is no class, or there are no such towers.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        features: Sequence[str] | None = None,
        fpn_channels: int = 256,
        fpn_norm: bool = False,
        p6_from_pyramid: bool = False,
        p7_relu: bool = False,
        head_depth: int = 4,
        anchor_scale: float = 4.0,
        scales_per_octave: int = 3,
        anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        positive_iou: float = 0.5,
        negative_iou: float = 0.4,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        box_std: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
        box_beta: float = 0.11,
        box_weight: float = 1.0,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        candidates_per_level: int = 1000,
        max_detections: int = 100,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        head: Any = None,
        tower_channels: int = 96,
        tower_cells: int = 2,
    ) -> None:
        super().__init__(backbone, num_classes, mean, std)
        self.features = tuple(features or list(backbone.out_channels)[-3:])
        channels, strides = feature_maps(backbone, self.features)
        strides = [*strides, strides[-1] * 2, strides[-1] * 4]
        self.fpn = build_fpn(channels, fpn_channels, p6_from_pyramid, p7_relu, fpn_norm)
        self.anchors = AnchorGrid(octave_sizes(strides, anchor_scale, scales_per_octave), anchor_ratios, strides)
        self.num_anchors = self.anchors.num_per_cell[0]
        plain = head is None
        self.head = build_head(fpn_channels, self.num_anchors, num_classes, head_depth if plain else 0)
        groups = groups_of(fpn_channels, tower_channels)
        self.towers = None if plain else build_towers(head, fpn_channels, tower_channels, tower_cells, groups)
        self.positive_iou = positive_iou
        self.negative_iou = negative_iou
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma
        self.box_beta = box_beta
        self.box_weight = box_weight
        self.candidates_per_level = candidates_per_level
        self.selection = Selection(score_threshold, nms_threshold, max_detections)
        self.box_coding = BoxCoding(box_std)

    def parts(self) -> dict[str, nn.Module]:
        """See `Network.parts`: with the towers, where they were given."""
        return super().parts() | ({} if self.towers is None else {"head": self.towers})

    def forward(self, images: Tensor) -> DenseOutputs:
        """Predict for (N, 3, H, W) images on [0, 255]; best with H, W divisible by 32."""
        maps = self.maps(images)
        levels = list(self.fpn({name: maps[name] for name in self.features}).values())
        pairs = [(level, level) if self.towers is None else self.towers(level) for level in levels]
        logits = self.head.classification_head([classes for _, classes in pairs])
        deltas = self.head.regression_head([box for box, _ in pairs])
        anchors = self.anchors([(level.shape[-2], level.shape[-1]) for level in levels])
        return DenseOutputs(logits, deltas, anchors)

    def loss(self, outputs: DenseOutputs, boxes: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        """Focal and smooth-L1 loss, both summed and divided by the positives of the batch (at least 1).

        Under several processes the positives are the mean of theirs, so that the averaged gradients are those
        of one process with all the images; a collective call then.

        Args and shapes: see `Detector.loss`.

        Returns:
            "classification" and "box". Both keep their graph when the batch has no box.
        """
        anchors = torch.cat(outputs.anchors)
        targets = assign_batch(anchors, boxes, labels, self.positive_iou, self.negative_iou)
        positives = mean_over_ranks(targets.positive.sum()).clamp(min=1)

        focal = focal_loss(
            outputs.logits, targets.positive, targets.scored, targets.labels, self.focal_alpha, self.focal_gamma
        )
        distance = self.box_coding.distance(outputs.deltas, targets, anchors, self.box_beta)
        return {"classification": focal / positives, "box": self.box_weight * distance / positives}

    def scored_boxes(self, outputs: DenseOutputs) -> ScoredBoxes:
        """See `DenseDetector.scored_boxes`: the best pairs of every level."""
        found = []
        counts = [level.shape[0] for level in outputs.anchors]
        for logits, deltas, anchors in zip(
            outputs.logits.float().split(counts, dim=1),
            outputs.deltas.float().split(counts, dim=1),
            outputs.anchors,
            strict=True,
        ):
            best = best_candidates(logits, self.candidates_per_level)
            chosen = deltas.gather(1, best.anchors[..., None].expand(-1, -1, 4))
            boxes = self.box_coding.decode(chosen, anchors[best.anchors])
            found.append(ScoredBoxes(boxes, best.scores.sigmoid(), best.labels))
        return ScoredBoxes.of_levels(found)


def build_head(channels: int, num_anchors: int, num_classes: int, depth: int = 4) -> RetinaNetHead:
    """Make torchvision's RetinaNet head with towers of any depth; of 0 it has the predictions alone.

    Weights are drawn from N(0, .01), biases are 0, except that every class starts with a probability of .01:
    bias -ln(99).
    """
    head = RetinaNetHead(channels, num_anchors, num_classes)
    for branch in (head.classification_head, head.regression_head):
        if depth != len(branch.conv):
            branch.conv = nn.Sequential(
                *(Conv2dNormActivation(channels, channels, norm_layer=None) for _ in range(depth))
            )
            for module in branch.conv.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.normal_(module.weight, std=0.01)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
    return head
