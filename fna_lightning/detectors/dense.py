"""What detectors share that predict for every anchor or location of a grid."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, encode_boxes
from torchvision.ops import sigmoid_focal_loss

from fna_lightning.detectors.base import Detections, Detector
from fna_lightning.detectors.matching import AnchorTargets
from fna_lightning.detectors.postprocess import ScoredBoxes, Selection, suppress_batch

_EPS = 1e-7  # of areas in squared pixels, as torchvision has it


class DenseOutputs(NamedTuple):
    """What an anchor-based dense detector predicts; A counts the anchors of all levels."""

    logits: Tensor
    """(N, A, num_classes); with a column for the background before them where classes exclude each other."""
    deltas: Tensor
    """(N, A, 4): shift of the centre and log of the growth, relative to the anchor."""
    anchors: list[Tensor]
    """Per level (A_l, 4): x1, y1, x2, y2 in pixels."""


class DenseDetector(Detector):
    """A detector that makes detections of what `forward` returns by clipping and suppression alone.

    Attributes:
        selection: which candidates are detections.
    """

    selection: Selection

    @abstractmethod
    def scored_boxes(self, outputs: Any) -> ScoredBoxes:
        """Decode what `forward` returned."""

    @torch.no_grad()
    def predict(self, outputs: Any, sizes: Tensor) -> list[Detections]:
        """See `Detector.predict`: clip the candidates, suppress per class over all levels."""
        return suppress_batch(self.scored_boxes(outputs), sizes, self.selection)


class BoxCoding(nn.Module):
    """Boxes as shifts and growths of anchors (Girshick et al. 2014, appendix C).

    Args:
        std: by which the four numbers are divided.
        center_clamp: how far in pixels a decoded box's centre may be from its anchor's, either way (YOLOF).
    """

    weights: Tensor

    def __init__(self, std: Sequence[float] = (1.0, 1.0, 1.0, 1.0), center_clamp: float | None = None) -> None:
        super().__init__()
        self.center_clamp = center_clamp
        x, y, w, h = std
        self._coder = BoxCoder((1 / x, 1 / y, 1 / w, 1 / h))
        self.register_buffer("weights", torch.tensor(self._coder.weights), persistent=False)

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Boxes (N, A, 4) relative to anchors (A, 4): (N, A, 4)."""
        # Not BoxCoder.encode: it copies its weights to the device, and waits, at every call.
        flat = encode_boxes(boxes.flatten(0, 1), anchors.expand_as(boxes).flatten(0, 1), self.weights.float())
        return flat.view_as(boxes)

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Boxes (N, A, 4) of deltas (N, A, 4) and anchors, (A, 4) or (N, A, 4)."""
        if self.center_clamp is not None:
            furthest = self.center_clamp * self.weights[:2].float() / (anchors[..., 2:] - anchors[..., :2])
            shift, growth = deltas.chunk(2, dim=-1)
            deltas = torch.cat([shift.clamp(-furthest, furthest), growth], dim=-1)
        flat = self._coder.decode_single(deltas.flatten(0, 1), anchors.expand_as(deltas).flatten(0, 1))
        return flat.view_as(deltas)

    def distance(self, deltas: Tensor, targets: AnchorTargets, anchors: Tensor, beta: float) -> Tensor:
        """Smooth L1 between deltas (N, A, 4) and what positive anchors (A, 4) are to find, summed: a scalar."""
        wanted = self.encode(targets.boxes, anchors)
        # A sum over some 10^6 terms: float32 also under mixed precision.
        distance = F.smooth_l1_loss(deltas.float(), wanted, reduction="none", beta=beta)
        return torch.where(targets.positive[..., None], distance, 0.0).sum()


def focal_loss(
    logits: Tensor, positive: Tensor, scored: Tensor, labels: Tensor, alpha: float, gamma: float
) -> Tensor:
    """Focal loss (Lin et al. 2017, 1708.02002) of what anchors predict of every class, summed: a float32 scalar.

    Args:
        logits: (N, A, K).
        positive: (N, A) bool: has a class to find.
        scored: (N, A) bool: has a loss.
        labels: (N, A) int64: the class; meaningless where not positive.
        alpha: weight of the positive class.
        gamma: how much well-classified anchors are discounted.
    """
    classes = torch.arange(logits.shape[-1], device=labels.device)
    # (N, A, K); not F.one_hot, which makes eight bytes of every zero.
    truth = positive[..., None] & (labels[..., None] == classes)
    # A sum over some 10^7 terms: float32 also under mixed precision.
    logits = logits.float()
    focal = sigmoid_focal_loss(logits, truth.to(logits.dtype), alpha, gamma)
    return torch.where(scored[..., None], focal, 0.0).sum()


def box_giou(found: Tensor, wanted: Tensor) -> Tensor:
    """Generalised IoU (Rezatofighi et al. 2019, 1902.09630) of boxes one by one.

    Not torchvision's loss, which picks out those that meet, and waits for the device.

    Args:
        found: (..., 4) x1, y1, x2, y2.
        wanted: likewise.

    Returns:
        (...), at most 1.
    """
    inner = (found[..., 2:].minimum(wanted[..., 2:]) - found[..., :2].maximum(wanted[..., :2])).clamp(min=0)
    outer = found[..., 2:].maximum(wanted[..., 2:]) - found[..., :2].minimum(wanted[..., :2])
    sides = [inner, outer, *(boxes[..., 2:] - boxes[..., :2] for boxes in (found, wanted))]
    # Not prod, whose backward pass looks for zeros and waits for the device.
    intersection, enclosing, *areas = [each[..., 0] * each[..., 1] for each in sides]
    union = areas[0] + areas[1] - intersection
    return intersection / (union + _EPS) - (enclosing - union) / (enclosing + _EPS)
