"""FCOS (Tian et al. 2019, 1904.01355) with its later improvements, as FAD searches and trains it (spec FAD 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from fna_lightning.blocks import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Backbone,
    PlainTowers,
    Towers,
    build_towers,
    groups_of,
)
from fna_lightning.detectors.base import feature_maps
from fna_lightning.detectors.dense import DenseDetector
from fna_lightning.detectors.fpn import build_fpn
from fna_lightning.detectors.locations import assign_locations, decode, giou, location_grid
from fna_lightning.detectors.postprocess import ScoredBoxes, Selection, best_candidates
from fna_lightning.distributed import mean_over_ranks

_LEAST_CENTERNESS = 1e-6  # of all positives of a batch, by which the box loss is divided


class LocationOutputs(NamedTuple):
    """What is predicted at every location; A counts those of all levels."""

    logits: Tensor
    """(N, A, num_classes)."""
    distances: Tensor
    """(N, A, 4): to the left, top, right and bottom side of a box, in strides; what is below 0 means 0."""
    centerness: Tensor
    """(N, A): logit of how central the location is in its box."""
    locations: list[Tensor]
    """Per level (A_l, 2): x, y in pixels."""


class FCOS(DenseDetector):
    """One-stage detector without anchors: every location of a pyramid tells its distances to a box's sides.

    The improvements are those of its authors after publication: distances in strides, centerness beside the boxes,
    centre sampling, GIoU. With plain towers it is the counterpart that FAD compares itself with (38.7 AP for
    ResNet-50, spec FAD 6.1).

    Args:
        backbone: see `Detector`.
        num_classes: without background; one sigmoid each.
        head: architecture or space of the two towers between pyramid and predictions; None for plain ones.
        features: names of the backbone's maps that the pyramid is built on, shallow first; default the last
            three. P6 and P7 continue the last one's stride.
        fpn_channels: of every pyramid level and of what the towers give.
        head_depth: 3x3 convolutions of a plain tower.
        tower_channels: of the operations inside the cells of `head`.
        tower_cells: of `head`, in series in a tower.
        center_radius: within this many strides of a box's middle locations find it; infinite: in all of it.
        focal_alpha: weight of the positive class in the focal loss.
        focal_gamma: how much well-classified locations are discounted.
        giou_smoothing: added to intersection and union of boxes in squared strides, see `giou`.
        relu_at_test: treat distances below 0 as 0 when predicting, as training does. FAD's release does not.
        score_threshold: probability of a class, before centerness, above which there is a detection.
        nms_threshold: overlap above which the worse of two boxes of a class is dropped.
        candidates_per_level: best (location, class) pairs of each level before suppression.
        max_detections: per image.
        mean: see `Detector`.
        std: see `Detector`.

    Raises:
        ConfigError: a feature map is missing, there is no class, or there are no such towers.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        head: Any = None,
        features: Sequence[str] | None = None,
        fpn_channels: int = 256,
        head_depth: int = 4,
        tower_channels: int = 96,
        tower_cells: int = 2,
        center_radius: float = 1.5,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        giou_smoothing: float = 1.0,
        relu_at_test: bool = True,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.6,
        candidates_per_level: int = 1000,
        max_detections: int = 100,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__(backbone, num_classes, mean, std)
        self.features = tuple(features or list(backbone.out_channels)[-3:])
        channels, strides = feature_maps(backbone, self.features)
        self.strides = (*strides, strides[-1] * 2, strides[-1] * 4)
        init = partial(nn.init.kaiming_uniform_, a=1)
        self.fpn = build_fpn(channels, fpn_channels, p6_from_pyramid=True, p7_relu=True, init=init)
        if head is None:
            towers: Towers = PlainTowers(fpn_channels, head_depth, groups_of(fpn_channels))
        else:
            groups = groups_of(fpn_channels, tower_channels)
            towers = build_towers(head, fpn_channels, tower_channels, tower_cells, groups)
        self.head = FCOSHead(towers, fpn_channels, num_classes, len(self.strides))
        self.center_radius = center_radius
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma
        self.giou_smoothing = giou_smoothing
        self.relu_at_test = relu_at_test
        self.score_threshold = score_threshold
        self.candidates_per_level = candidates_per_level
        # The threshold is on what centerness has not lowered yet.
        self.selection = Selection(0.0, nms_threshold, max_detections)

    def parts(self) -> dict[str, nn.Module]:
        """See `Network.parts`: with the towers, where they were given."""
        towers = self.head.towers
        return super().parts() | ({} if isinstance(towers, PlainTowers) else {"head": towers})

    def forward(self, images: Tensor) -> LocationOutputs:
        """Predict for (N, 3, H, W) images on [0, 255]; best with H, W divisible by 32."""
        maps = self.maps(images)
        levels = list(self.fpn({name: maps[name] for name in self.features}).values())
        sizes = [(level.shape[-2], level.shape[-1]) for level in levels]
        logits, distances, centerness = self.head(levels)
        locations = location_grid(sizes, self.strides, images.device)
        return LocationOutputs(logits, distances, centerness, locations)

    def loss(self, outputs: LocationOutputs, boxes: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        """Focal loss, GIoU weighted by centerness, and cross-entropy of centerness (spec FAD 5.3).

        The first and the last are divided by the positives of the batch (at least 1), the second by the sum of its
        weights. Under several processes both are the means of theirs, so that the averaged gradients are those of
        one process with all the images; collective calls then.

        Args and shapes: see `Detector.loss`.

        Returns:
            "classification", "box" and "centerness". All keep their graph when the batch has no box.
        """
        targets = assign_locations(outputs.locations, self.strides, boxes, labels, self.center_radius)
        positives = mean_over_ranks(targets.positive.sum()).clamp(min=1)

        classes = torch.arange(self.num_classes, device=targets.labels.device)
        # (N, A, K); not F.one_hot, which makes eight bytes of every zero.
        truth = targets.positive[..., None] & (targets.labels[..., None] == classes)
        # Sums over some 10^6 terms: float32 also under mixed precision.
        logits = outputs.logits.float()
        focal = sigmoid_focal_loss(logits, truth.to(logits.dtype), self.focal_alpha, self.focal_gamma, "sum")

        weights = torch.where(targets.positive, targets.centerness, 0.0)
        share = mean_over_ranks(weights.sum()).clamp(min=_LEAST_CENTERNESS)
        overlap = giou(outputs.distances.float().relu(), targets.distances, self.giou_smoothing)
        central = F.binary_cross_entropy_with_logits(
            outputs.centerness.float(), targets.centerness, reduction="none"
        )
        return {
            "classification": focal / positives,
            "box": (weights * (1 - overlap)).sum() / share,
            "centerness": torch.where(targets.positive, central, 0.0).sum() / positives,
        }

    def scored_boxes(self, outputs: LocationOutputs) -> ScoredBoxes:
        """See `DenseDetector.scored_boxes`: the best pairs of every level.

        A detection scores the geometric mean of its class's probability and its centerness (spec FAD 5.4).
        """
        every = []
        counts = [level.shape[0] for level in outputs.locations]
        distances = outputs.distances.float()
        for logits, sides, central, locations, stride in zip(
            outputs.logits.float().split(counts, dim=1),
            (distances.relu() if self.relu_at_test else distances).split(counts, dim=1),
            outputs.centerness.float().split(counts, dim=1),
            outputs.locations,
            self.strides,
            strict=True,
        ):
            classes = logits.sigmoid()
            joint = torch.where(classes > self.score_threshold, classes * central.sigmoid()[..., None], 0.0)
            best = best_candidates(joint, self.candidates_per_level)
            chosen = sides.gather(1, best.anchors[..., None].expand(-1, -1, 4))
            found = decode(chosen, locations[best.anchors], stride)
            # Without ReLU, sides may have changed places.
            whole = (found[..., 2:] >= found[..., :2]).all(dim=-1)
            every.append(ScoredBoxes(found, best.scores.sqrt() * whole, best.labels))
        return ScoredBoxes.of_levels(every)


class FCOSHead(nn.Module):
    """Predictions behind the towers, shared by all levels; centerness is told by what tells the boxes.

    Weights are drawn from N(0, .01), biases are 0, except that every class starts with a probability of .01:
    bias -ln(99).

    Args:
        towers: from the map of a level to that for its boxes and that for its classes.
        channels: of these maps.
        num_classes: without background.
        num_levels: of the pyramid; each has a factor of its own for distances, 1 at first.
    """

    def __init__(self, towers: Towers, channels: int, num_classes: int, num_levels: int) -> None:
        super().__init__()
        self.towers = towers
        self.classes = _prediction(channels, num_classes, bias=-math.log(99))
        self.box = _prediction(channels, 4)
        self.centerness = _prediction(channels, 1)
        self.scales = nn.Parameter(torch.ones(num_levels))

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Maps (N, channels, H_l, W_l) -> logits (N, A, K), distances (N, A, 4) and centerness (N, A)."""
        rows: list[tuple[Tensor, Tensor, Tensor]] = []
        for level, scale in zip(levels, self.scales.unbind(), strict=True):
            box, classes = self.towers(level)
            predicted = self.classes(classes), self.box(box) * scale, self.centerness(box)
            logits, distances, central = (each.permute(0, 2, 3, 1).flatten(1, 2) for each in predicted)
            rows.append((logits, distances, central))
        logits, distances, central = (torch.cat(column, dim=1) for column in zip(*rows, strict=True))
        return logits, distances, central.squeeze(-1)


def _prediction(width: int, outputs: int, bias: float = 0.0) -> nn.Conv2d:
    """A 3x3 convolution with weights from N(0, .01)."""
    convolution = nn.Conv2d(width, outputs, 3, padding=1)
    nn.init.normal_(convolution.weight, std=0.01)
    nn.init.constant_(convolution.bias, bias)  # pyright: ignore[reportArgumentType]
    return convolution
