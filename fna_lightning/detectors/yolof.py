"""YOLOF (Chen et al. 2021, 2103.09460) as NAA uses it (spec NAA 2.1 and 2.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.misc import Conv2dNormActivation

from fna_lightning.blocks import IMAGENET_MEAN, IMAGENET_STD, Backbone
from fna_lightning.detectors.anchors import AnchorGrid
from fna_lightning.detectors.base import feature_maps
from fna_lightning.detectors.dense import BoxCoding, DenseDetector, DenseOutputs, box_giou, focal_loss
from fna_lightning.detectors.postprocess import ScoredBoxes, Selection, best_candidates
from fna_lightning.detectors.uniform import assign_uniformly_batch
from fna_lightning.distributed import mean_over_ranks
from fna_lightning.errors import ConfigError


class YOLOF(DenseDetector):
    """One-stage detector on a single map: dilated blocks see objects of all sizes there, and no pyramid is built.

    Args:
        backbone: see `Detector`.
        num_classes: without background; one sigmoid each.
        features: name of the backbone's map that is read; default the last one.
        channels: of the encoder's map and of the head.
        block_channels: of the 3x3 convolutions of the encoder's blocks.
        block_dilations: of these convolutions, one a block.
        class_depth: 3x3 convolutions before the one that predicts classes.
        box_depth: likewise for boxes and objectness.
        anchor_scales: sides of the anchors, in strides.
        anchor_ratios: height / width of the anchors.
        matches: anchors that a box is given by their place, and as many by what they predict.
        positive_iou: such an anchor is to find the box from this overlap on.
        negative_iou: other anchors are background, unless their prediction overlaps a box more than this.
        center_clamp: a predicted box's centre is at most so far from its anchor's in either direction, in pixels.
        focal_alpha: weight of the positive class in the focal loss.
        focal_gamma: how much well-classified anchors are discounted.
        score_threshold: detections score more than this.
        nms_threshold: overlap above which the worse of two boxes of a class is dropped.
        candidates: best (anchor, class) pairs before suppression.
        max_detections: per image.
        mean: see `Detector`.
        std: see `Detector`.

    Raises:
        ConfigError: the feature map is missing or not one, or there is no class.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        features: Sequence[str] | None = None,
        channels: int = 512,
        block_channels: int = 128,
        block_dilations: Sequence[int] = (2, 4, 6, 8),
        class_depth: int = 2,
        box_depth: int = 4,
        anchor_scales: Sequence[float] = (1.0, 2.0, 4.0, 8.0, 16.0),
        anchor_ratios: Sequence[float] = (1.0,),
        matches: int = 4,
        positive_iou: float = 0.15,
        negative_iou: float = 0.7,
        center_clamp: float = 32.0,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.6,
        candidates: int = 1000,
        max_detections: int = 100,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__(backbone, num_classes, mean, std)
        names = list(features or list(backbone.out_channels)[-1:])
        widths, strides = feature_maps(backbone, names)
        if len(names) != 1:
            raise ConfigError(
                f"detector.strides: asks for the maps {names}, but YOLOF reads one; give one, such as [head]"
            )
        self.feature = names[0]
        self.encoder = DilatedEncoder(widths[0], channels, block_channels, block_dilations)
        sizes = [[scale * strides[0] for scale in anchor_scales]]
        self.anchors = AnchorGrid(sizes, anchor_ratios, strides)
        self.head = YOLOFHead(channels, self.anchors.num_per_cell[0], num_classes, class_depth, box_depth)
        self.matches = matches
        self.positive_iou = positive_iou
        self.negative_iou = negative_iou
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma
        self.candidates = candidates
        self.selection = Selection(score_threshold, nms_threshold, max_detections)
        self.box_coding = BoxCoding(center_clamp=center_clamp)

    def forward(self, images: Tensor) -> DenseOutputs:
        """Predict for (N, 3, H, W) images on [0, 255]; best with H, W divisible by 32."""
        encoded = self.encoder(self.maps(images)[self.feature])
        logits, deltas = self.head(encoded)
        return DenseOutputs(logits, deltas, self.anchors([(encoded.shape[-2], encoded.shape[-1])]))

    def loss(self, outputs: DenseOutputs, boxes: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        """Focal loss and GIoU of decoded boxes, both summed and divided by the batch's positives (at least 1).

        Under several processes the positives are the mean of theirs, so that the averaged gradients are those
        of one process with all the images; a collective call then.

        Args and shapes: see `Detector.loss`.

        Returns:
            "classification" and "box". Both keep their graph when the batch has no box.
        """
        anchors = torch.cat(outputs.anchors)
        predicted = self.box_coding.decode(outputs.deltas.float(), anchors)
        targets = assign_uniformly_batch(
            predicted.detach(), anchors, boxes, labels, self.matches, self.positive_iou, self.negative_iou
        )
        positives = mean_over_ranks(targets.positive.sum()).clamp(min=1)

        focal = focal_loss(
            outputs.logits, targets.positive, targets.scored, targets.labels, self.focal_alpha, self.focal_gamma
        )
        # An anchor counts for each box that it was given, for one twice if that is near by place and prediction.
        distance = 1 - box_giou(predicted.flatten(0, 1)[targets.pairs], targets.boxes)
        distance = torch.where(targets.counted, distance, 0.0).sum()
        return {"classification": focal / positives, "box": distance / positives}

    def scored_boxes(self, outputs: DenseOutputs) -> ScoredBoxes:
        """See `DenseDetector.scored_boxes`: the best pairs."""
        (anchors,) = outputs.anchors
        best = best_candidates(outputs.logits.float(), self.candidates)
        chosen = outputs.deltas.float().gather(1, best.anchors[..., None].expand(-1, -1, 4))
        boxes = self.box_coding.decode(chosen, anchors[best.anchors])
        return ScoredBoxes(boxes, best.scores.sigmoid(), best.labels)


class DilatedEncoder(nn.Module):
    """From the backbone's map to one whose every cell sees objects of many sizes.

    A 1x1 and a 3x3 convolution with norms, Kaiming-uniform with a = 1, then bottlenecks with residuals whose 3x3
    convolutions are dilated, with weights from N(0, .01).

    Args:
        in_channels: of the backbone's map.
        channels: of what comes out.
        block_channels: inside the bottlenecks.
        dilations: one a bottleneck.
    """

    def __init__(self, in_channels: int, channels: int, block_channels: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.project = nn.Sequential(
            Conv2dNormActivation(in_channels, channels, 1, activation_layer=None, bias=True),
            Conv2dNormActivation(channels, channels, 3, activation_layer=None, bias=True),
        )
        for module in self.project.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(cast("Tensor", module.bias))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                Conv2dNormActivation(channels, block_channels, 1),
                Conv2dNormActivation(block_channels, block_channels, 3, dilation=dilation),
                Conv2dNormActivation(block_channels, channels, 1),
            )
            for dilation in dilations
        )
        _draw_narrow(self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, channels, H, W)."""
        x = self.project(x)
        for block in self.blocks:
            x = x + block(x)
        return x


class YOLOFHead(nn.Module):
    """Predictions at every cell; a class's probability is its own times that of there being an object.

    The latter is told beside the boxes and has no loss of its own. Weights are drawn from N(0, .01), biases are 0,
    except that every class starts with a probability of .01 of its own: bias -ln(99).

    Args:
        channels: of the encoder's map and of both branches.
        num_anchors: at a cell.
        num_classes: without background.
        class_depth: 3x3 convolutions with norm and ReLU of the branch for classes.
        box_depth: likewise for boxes and objectness.
    """

    def __init__(
        self, channels: int, num_anchors: int, num_classes: int, class_depth: int, box_depth: int
    ) -> None:
        super().__init__()
        self.class_branch, self.box_branch = (
            nn.Sequential(*(Conv2dNormActivation(channels, channels, 3) for _ in range(depth)))
            for depth in (class_depth, box_depth)
        )
        self.num_classes = num_classes
        self.classes = nn.Conv2d(channels, num_anchors * num_classes, 3, padding=1)
        self.boxes = nn.Conv2d(channels, num_anchors * 4, 3, padding=1)
        self.objectness = nn.Conv2d(channels, num_anchors, 3, padding=1)
        _draw_narrow(self)
        nn.init.constant_(cast("Tensor", self.classes.bias), -math.log(99))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, channels, H, W) -> logits (N, A, num_classes) in float32 and deltas (N, A, 4)."""
        classes, boxes = self.class_branch(x), self.box_branch(x)
        own = _rows(self.classes(classes), self.num_classes)
        return joint_logit(own, _rows(self.objectness(boxes), 1)), _rows(self.boxes(boxes), 4)


def joint_logit(one: Tensor, other: Tensor) -> Tensor:
    """The logit of the product of two probabilities, from their logits; broadcasts, in float32."""
    # p q / (1 - p q) = exp(a + b) / (1 + exp(a) + exp(b))
    one, other = one.float(), other.float()
    return one + other - F.softplus(torch.logaddexp(one, other))


def _rows(x: Tensor, columns: int) -> Tensor:
    """(N, K * columns, H, W) -> (N, H * W * K, columns): in rows, cells, then anchors."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, columns)


def _draw_narrow(network: nn.Module) -> None:
    """Draw the weights of convolutions from N(0, .01) and let their biases be 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
