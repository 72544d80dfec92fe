"""Faster R-CNN (Ren et al. 2015, 1506.01497) on a pyramid (Lin et al. 2017, 1612.03144), as DetNAS uses it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork, clip_boxes_to_image
from torchvision.ops._utils import convert_boxes_to_roi_format
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from fna_lightning.blocks import IMAGENET_MEAN, IMAGENET_STD, Backbone, Repeated
from fna_lightning.detectors.base import Detections, Detector, feature_maps
from fna_lightning.detectors.box_head import POOLED, BoxHead, ProposalPool, draw_proposals
from fna_lightning.detectors.dense import BoxCoding, DenseOutputs
from fna_lightning.detectors.matching import AnchorTargets
from fna_lightning.detectors.postprocess import ScoredBoxes, Selection, suppress
from fna_lightning.detectors.proposals import ProposalNetwork
from fna_lightning.distributed import mean_over_ranks
from fna_lightning.errors import ConfigError
from fna_lightning.settings import Amount, Count, Limit, Positive, PositiveAmount

Part = Annotated[float, Limit(lambda part: 0 <= part <= 1, "from 0 to 1")]

BACKGROUND = 0
"""The softmax's column for the background; label k is column k + 1."""
SMALLEST = 1e-2
"""Pixels; a thinner box is no detection (torchvision)."""


class ProposalOutputs(NamedTuple):
    """What the dense part of Faster R-CNN gives, from which proposals are made."""

    levels: dict[str, Tensor]
    """P2 to P5, which proposals are cut out of: (N, C, H / stride, W / stride)."""
    dense: DenseOutputs
    """One logit and four deltas for every anchor of P2 to P6."""
    image_size: tuple[int, int]
    """Height and width of the batch, padding included."""


class FasterRCNN(Detector):
    """Two-stage detector: pyramid, proposals of one anchor size a level, and a head on every proposal.

    `forward` is the dense part, pyramid and proposal network. `loss` draws proposals, `predict` takes the best,
    and both run the box head on them, whatever mode the network is in.
    Defaults are those of DetNAS (spec DetNAS 2.2), but for proposals of an image in training: its release keeps
    the 2000 best of a GPU's two images, mmrazor 1000 of each, which does not depend on the batch.

    Args:
        backbone: see `Detector`.
        num_classes: without background, which the detector adds for itself.
        features: names of the backbone's maps that the pyramid is built on, shallow first, each of twice the
            stride before; default the last four. P6 is every second pixel of P5.
        fpn_channels: of every pyramid level, the proposal network and the box head's convolutions.
        fpn_norm: batch norms behind laterals and outputs of the pyramid, in place of biases.
        anchor_scale: side of a level's square anchor, in strides.
        anchor_ratios: height / width of the anchors.
        rpn_positive_iou: an anchor is to find a box from this overlap on; a box's best anchors always are.
        rpn_negative_iou: an anchor is background below this overlap.
        rpn_samples: anchors of an image that are trained.
        rpn_positive_share: of them that are to find a box at most.
        rpn_beta: where smooth L1 of the anchors turns from quadratic to linear.
        proposal_nms_threshold: overlap above which the worse of two boxes of a level is dropped.
        train_candidates: best anchors of each level before suppression, in training.
        train_proposals: boxes of an image behind it.
        test_candidates: the same of prediction.
        test_proposals: the same of prediction; as many times the box head counts in multiply-adds.
        box_convolutions: 3x3 ones in the box head; 0 with `box_linears` 2 for torchvision's head.
        box_linears: linear layers behind them.
        box_width: of the linear layers.
        box_norm: batch norms behind the box head's convolutions, in place of biases.
        box_sampling: points a cell and direction by which proposals are cut out; 0 for as many as there are.
        box_positive_iou: a proposal is to find a box from this overlap on, and is background below.
        box_samples: proposals of an image that are trained, true boxes among them.
        box_positive_share: of them that are to find a box at most.
        box_std: by which shifts and growths of boxes are divided.
        box_beta: where smooth L1 of the proposals turns from quadratic to linear.
        score_threshold: detections score more than this.
        nms_threshold: overlap above which the worse of two boxes of a class is dropped.
        max_detections: per image.
        mean: see `Detector`.
        std: see `Detector`.

    Raises:
        ConfigError: a feature map is missing, strides do not double, there is no class or no shape of anchors, or
            the overlaps of anchors contradict each other.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        features: Sequence[str] | None = None,
        fpn_channels: Positive = 256,
        fpn_norm: bool = True,
        anchor_scale: PositiveAmount = 8.0,
        anchor_ratios: Sequence[PositiveAmount] = (0.5, 1.0, 2.0),
        rpn_positive_iou: Part = 0.7,
        rpn_negative_iou: Part = 0.3,
        rpn_samples: Positive = 256,
        rpn_positive_share: Part = 0.5,
        rpn_beta: Amount = 1 / 9,
        proposal_nms_threshold: Part = 0.7,
        train_candidates: Positive = 2000,
        train_proposals: Positive = 1000,
        test_candidates: Positive = 1000,
        test_proposals: Positive = 1000,
        box_convolutions: Count = 4,
        box_linears: Positive = 1,
        box_width: Positive = 1024,
        box_norm: bool = True,
        box_sampling: Count = 2,
        box_positive_iou: Part = 0.5,
        box_samples: Positive = 512,
        box_positive_share: Part = 0.25,
        box_std: tuple[PositiveAmount, PositiveAmount, PositiveAmount, PositiveAmount] = (0.1, 0.1, 0.2, 0.2),
        box_beta: Amount = 1.0,
        score_threshold: Amount = 0.05,
        nms_threshold: Part = 0.5,
        max_detections: Positive = 100,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__(backbone, num_classes, mean, std)
        self.features = tuple(features or list(backbone.out_channels)[-4:])
        channels, strides = feature_maps(backbone, self.features)
        if not anchor_ratios or rpn_negative_iou > rpn_positive_iou:
            raise ConfigError(
                f"detector.anchor_ratios={list(anchor_ratios)} must name one, and detector.rpn_negative_iou="
                f"{rpn_negative_iou} must not exceed detector.rpn_positive_iou={rpn_positive_iou}"
            )
        if any(2 * before != after for before, after in pairwise(strides)):
            raise ConfigError(f"detector.strides={strides}: a pyramid needs each to be twice the one before")
        norm = nn.BatchNorm2d if fpn_norm else None
        # Its weights are torchvision's, uniform with the variance of 1 / fan in, as DetNAS draws them.
        self.fpn = FeaturePyramidNetwork(channels, fpn_channels, LastLevelMaxPool(), norm)
        self.rpn = ProposalNetwork(
            fpn_channels,
            [*strides, strides[-1] * 2],
            anchor_scale,
            anchor_ratios,
            rpn_positive_iou,
            rpn_negative_iou,
            rpn_samples,
            rpn_positive_share,
            rpn_beta,
            proposal_nms_threshold,
        )
        self.pool = ProposalPool(self.features, strides, box_sampling)
        self.box_head = BoxHead(fpn_channels, num_classes, box_convolutions, box_linears, box_width, box_norm)
        self.box_coding = BoxCoding(box_std)
        self.fpn_channels = fpn_channels
        self.train_candidates, self.train_proposals = train_candidates, train_proposals
        self.test_candidates, self.test_proposals = test_candidates, test_proposals
        self.box_positive_iou = box_positive_iou
        self.box_samples = box_samples
        self.box_positive_share = box_positive_share
        self.box_beta = box_beta
        self.selection = Selection(score_threshold, nms_threshold, max_detections)

    def repeated(self) -> tuple[Repeated, ...]:
        """The box head, once a proposal."""
        shape = (self.fpn_channels, POOLED, POOLED)
        return (Repeated(self.box_head, "proposals", self.test_proposals, shape),)

    def forward(self, images: Tensor) -> ProposalOutputs:
        """The dense part for (N, 3, H, W) images on [0, 255]; best with H, W divisible by 64."""
        maps = self.maps(images)
        levels = self.fpn({name: maps[name] for name in self.features})
        pooled = {name: levels[name] for name in self.features}
        return ProposalOutputs(pooled, self.rpn(list(levels.values())), (images.shape[-2], images.shape[-1]))

    def loss(self, outputs: ProposalOutputs, boxes: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        """The two losses of the proposal network, and cross-entropy and smooth L1 of the box head.

        Each is divided by the anchors or proposals that are drawn; under several processes by the mean of theirs,
        so that the averaged gradients are those of one process with all the images. Collective calls then.
        Proposals reach into the padding of the batch, and the true boxes are among them.

        Args and shapes: see `Detector.loss`.

        Returns:
            "objectness", "proposal", "classification" and "box". All keep their graph when the batch has no box.
        """
        losses = self.rpn.loss(outputs.dense, boxes, labels)
        sizes = [outputs.image_size] * len(boxes)
        proposals = self.rpn.propose(outputs.dense, sizes, self.train_candidates, self.train_proposals)
        drawn = draw_proposals(
            proposals, boxes, labels, self.box_positive_iou, self.box_samples, self.box_positive_share
        )
        logits, deltas = self.box_head(self.pool(outputs.levels, convert_boxes_to_roi_format(drawn.boxes)))
        return losses | self._box_losses(logits, deltas, torch.cat(drawn.boxes), drawn.targets)

    def _box_losses(
        self, logits: Tensor, deltas: Tensor, proposals: Tensor, targets: AnchorTargets
    ) -> dict[str, Tensor]:
        """Of logits (R, 1 + K), deltas (R, 1 + K, 4) and proposals (R, 4)."""
        number = mean_over_ranks(torch.full((), len(logits), device=logits.device)).clamp(min=1)
        truth = torch.where(targets.positive, targets.labels + 1, BACKGROUND)
        entropy = F.cross_entropy(logits.float(), truth, reduction="sum")
        own = deltas[torch.arange(len(truth), device=truth.device), truth]
        batch = AnchorTargets(*(field[None] for field in targets))
        distance = self.box_coding.distance(own[None], batch, proposals, self.box_beta)
        return {"classification": entropy / number, "box": distance / number}

    @torch.no_grad()
    def predict(self, outputs: ProposalOutputs, sizes: Tensor) -> list[Detections]:
        """See `Detector.predict`: the box head on the best proposals; every (proposal, class) pair may be one."""
        pictures: list[tuple[int, int]] = [(height, width) for height, width in sizes.tolist()]
        proposals = self.rpn.propose(outputs.dense, pictures, self.test_candidates, self.test_proposals)
        found = self.judge(outputs, convert_boxes_to_roi_format(proposals))
        counts = [len(own) for own in proposals]
        pairs = zip(*(each.split(counts) for each in found), pictures, strict=True)
        return [self._select(*image) for image in pairs]

    def judge(self, outputs: ProposalOutputs, proposals: Tensor) -> ScoredBoxes:
        """The box head on proposals (R, 5), each the number of its image and a box: R x K pairs with a class.

        No image's are apart: the boxes are (R, K, 4).
        """
        logits, deltas = self.box_head(self.pool(outputs.levels, proposals))
        boxes = self.box_coding.decode(deltas.float(), proposals[:, None, 1:])[:, BACKGROUND + 1 :]
        scores = logits.float().softmax(dim=-1)[:, BACKGROUND + 1 :]
        return ScoredBoxes(boxes, scores, torch.arange(self.num_classes, device=scores.device).expand_as(scores))

    def _select(self, boxes: Tensor, scores: Tensor, labels: Tensor, size: tuple[int, int]) -> Detections:
        """The detections among boxes (P, K, 4), scores (P, K) and labels (P, K) of one image."""
        boxes = clip_boxes_to_image(boxes, size)
        thick = (boxes[..., 2:] - boxes[..., :2]).amin(dim=-1) >= SMALLEST
        return suppress(boxes, torch.where(thick, scores, 0.0), labels, size, self.selection)
