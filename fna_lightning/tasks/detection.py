"""Object detection: any `Detector`, scored as COCO does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from fna_lightning.data.batches import DetectionBatch
from fna_lightning.detectors.base import Detections, Detector
from fna_lightning.tasks.base import Task
from fna_lightning.tasks.coco_metric import Backend, CocoMetric


class DetectionData(Protocol):
    """What the metric needs of a data module."""

    def ground_truth(self) -> Mapping[str, Any]:
        """The validation set as the content of a COCO annotation file."""
        ...

    @property
    def category_ids(self) -> Sequence[int]:
        """COCO category id of every label."""
        ...

    @property
    def voc_scores(self) -> bool:
        """Whether results on this set are compared by Pascal VOC's figures too."""
        ...


class DetectionTask(Task[DetectionBatch]):
    """Losses of the detector, boxes in the batch's pixels, COCO's twelve figures, VOC's for its sets.

    Args:
        backend: which library scores, see `CocoMetric`.
        voc: add Pascal VOC's figures; None for a data set that is compared by them.
    """

    kind = "detection"
    monitor = "mAP"

    def __init__(self, backend: Backend = "faster_coco_eval", voc: bool | None = None) -> None:
        self.backend: Backend = backend
        self.voc = voc

    def losses(self, network: Detector, batch: DetectionBatch) -> dict[str, Tensor]:
        """The detector's own loss terms."""
        return network.loss(network(batch.images), batch.boxes, batch.labels)

    @torch.no_grad()
    def predict(self, network: Detector, batch: DetectionBatch) -> list[Detections]:
        """Detections of every image, clipped to the picture inside the padding."""
        return network.predict(network(batch.images), batch.sizes)

    def metric(self, data: DetectionData) -> CocoMetric:
        """A fresh metric for the validation images of `data`."""
        voc = data.voc_scores if self.voc is None else self.voc
        return CocoMetric(data.ground_truth(), data.category_ids, self.backend, voc)
