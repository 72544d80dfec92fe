"""The second stage of Faster R-CNN: a class and a better box for every proposal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.ops import roi_align
from torchvision.ops.poolers import initLevelMapper

from fna_lightning.detectors.matching import AnchorTargets, assign, sample

POOLED = 7
"""Cells of a proposal's map, each way (Lin et al. 2017, 1612.03144, section 4.2)."""


class BoxHead(nn.Module):
    """Convolutions and linear layers on the pooled map of one proposal ("4conv1fc" of Wu & He 2018, 1803.08494).

    Args:
        channels: of the pooled map, and of every convolution.
        num_classes: without background.
        convolutions: 3x3 ones before the linear layers; 0 for torchvision's head of two linear layers.
        linears: linear layers.
        width: of every linear layer.
        norm: batch norm behind every convolution, in place of its bias.
    """

    def __init__(
        self, channels: int, num_classes: int, convolutions: int, linears: int, width: int, norm: bool
    ) -> None:
        super().__init__()
        self.layers = FastRCNNConvFCHead(
            (channels, POOLED, POOLED),
            [channels] * convolutions,
            [width] * linears,
            nn.BatchNorm2d if norm else None,
        )
        self.predictor = FastRCNNPredictor(width if linears else channels * POOLED**2, num_classes + 1)
        for module in self.layers.modules():
            if isinstance(module, nn.Conv2d) and norm:
                nn.init.normal_(module.weight, std=0.01)
            elif isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)
        for layer, std in ((self.predictor.cls_score, 0.01), (self.predictor.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(R, channels, 7, 7) -> logits (R, 1 + num_classes), deltas (R, 1 + num_classes, 4); background first."""
        logits, deltas = self.predictor(self.layers(pooled))
        return logits, deltas.unflatten(1, (-1, 4))


class ProposalPool(nn.Module):
    """The part of the pyramid under each proposal, from the level that fits its size (RoIAlign).

    Args:
        names: of the levels.
        strides: of the levels, in pixels, each twice the one before.
        sampling: points a cell and direction; 0 for as many as the proposal has pixels there.
    """

    def __init__(self, names: Sequence[str], strides: Sequence[int], sampling: int) -> None:
        super().__init__()
        self.names = tuple(names)
        self.scales = [1 / stride for stride in strides]
        self.sampling = sampling
        self.level_of = initLevelMapper(int(math.log2(strides[0])), int(math.log2(strides[-1])))

    def forward(self, levels: Mapping[str, Tensor], proposals: Tensor) -> Tensor:
        """The parts of N images' levels (N, C, H_l, W_l) under proposals (R, 5): (R, C, 7, 7).

        A proposal is the number of its image, x1, y1, x2, y2. Not torchvision's `MultiScaleRoIAlign`: it guesses
        strides from the first images' sizes, errs on small ones, and fixes how many images an exported network
        takes.
        """
        first = levels[self.names[0]]
        pooled = torch.zeros(proposals.shape[0], first.shape[1], POOLED, POOLED, device=first.device)
        own_level = self.level_of([proposals[:, 1:]])
        for number, (name, scale) in enumerate(zip(self.names, self.scales, strict=True)):
            (here,) = torch.where(own_level == number)
            # Interpolation in float32, as the boxes are, also in a network of half precision.
            pooled[here] = roi_align(levels[name].float(), proposals[here], POOLED, scale, self.sampling)
        return pooled.to(first.dtype)


class Drawn(NamedTuple):
    """The proposals of N images that are trained."""

    boxes: list[Tensor]
    """(R_i, 4) of every image."""
    targets: AnchorTargets
    """What each of all R is to find, the images' in a row."""


@torch.no_grad()
def draw_proposals(
    proposals: list[Tensor],
    boxes: list[Tensor],
    labels: list[Tensor],
    positive_iou: float,
    number: int,
    positive_share: float,
) -> Drawn:
    """Hold proposals, and the true boxes among them, against the truth, and draw some of every image.

    Args:
        proposals: N tensors (P_i, 4).
        boxes: N tensors (M_i, 4); M_i may be 0.
        labels: N tensors (M_i,).
        positive_iou: a proposal is to find a box from this overlap on, and is background below.
        number: of an image that are drawn; fewer where it has fewer.
        positive_share: of them that are to find a box at most.
    """
    drawn, targets = [], []
    for own, truth, classes in zip(proposals, boxes, labels, strict=True):
        offered = torch.cat([own, truth.to(own.dtype)])
        found = assign(offered, truth, classes, positive_iou, positive_iou, keep_best=False)
        one = AnchorTargets(*(field[None] for field in found))
        kept = sample(one, number, positive_share)[0].nonzero().squeeze(1)
        drawn.append(offered[kept])
        targets.append(AnchorTargets(*(field[kept] for field in found)))
    return Drawn(drawn, AnchorTargets(*(torch.cat(field) for field in zip(*targets, strict=True))))
