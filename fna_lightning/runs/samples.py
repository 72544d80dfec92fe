"""Pictures of what a trained network sees, for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fna_lightning.data.batches import DetectionBatch, SegmentationBatch
from fna_lightning.modules import EvaluationModule
from fna_lightning.reporting.pictures import draw_class_scores, draw_detections, draw_segmentations

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 6


@torch.no_grad()
def sample_pictures(module: EvaluationModule) -> dict[str, Figure]:
    """What was found in the first validation images beside the truth; nothing for tasks without a picture."""
    data = module.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    batch = next(iter(data.val_dataloader()))
    if not isinstance(batch, DetectionBatch | SegmentationBatch):
        return {}
    module.eval()
    found = module.task.predict(module.network, module.transfer_batch_to_device(batch, module.device, 0))
    if isinstance(batch, SegmentationBatch):
        return _segmentations(module, data, batch, found)
    truth = list(zip(batch.boxes, batch.labels, strict=True))
    return {"Detections": draw_detections(batch.images[:_MOST], found[:_MOST], truth[:_MOST], data.class_names)}


def _segmentations(
    module: EvaluationModule, data: Any, batch: SegmentationBatch, found: list[Tensor]
) -> dict[str, Figure]:
    """Labels of pixels, and the scores of the validation that was last."""
    images = [image[:, :h, :w] for image, (h, w) in zip(batch.images, batch.sizes.tolist(), strict=True)]
    truth = [labels[:h, :w] for labels, (h, w) in zip(batch.labels, batch.label_sizes.tolist(), strict=True)]
    pictures = {"Labels": draw_segmentations(images, found, truth, data.label_map)}
    scores = {name.rpartition("/")[2]: score for name, score in module.metric.class_scores().items()}
    if scores:
        pictures["Classes"] = draw_class_scores(scores, "IoU by class")
    return pictures
