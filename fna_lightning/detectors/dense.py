"""What detectors share that predict for every anchor or location of a grid."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, encode_boxes

from fna_lightning.detectors.base import Detections, Detector
from fna_lightning.detectors.matching import AnchorTargets
from fna_lightning.detectors.postprocess import ScoredBoxes, Selection, suppress_batch


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
    """

    weights: Tensor

    def __init__(self, std: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> None:
        super().__init__()
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
        flat = self._coder.decode_single(deltas.flatten(0, 1), anchors.expand_as(deltas).flatten(0, 1))
        return flat.view_as(deltas)

    def distance(self, deltas: Tensor, targets: AnchorTargets, anchors: Tensor, beta: float) -> Tensor:
        """Smooth L1 between deltas (N, A, 4) and what positive anchors (A, 4) are to find, summed: a scalar."""
        wanted = self.encode(targets.boxes, anchors)
        # A sum over some 10^6 terms: float32 also under mixed precision.
        distance = F.smooth_l1_loss(deltas.float(), wanted, reduction="none", beta=beta)
        return torch.where(targets.positive[..., None], distance, 0.0).sum()
