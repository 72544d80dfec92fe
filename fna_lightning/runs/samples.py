"""Pictures of what a trained network sees, for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fna_lightning.data.batches import DetectionBatch
from fna_lightning.modules import ParameterAdaptation
from fna_lightning.reporting.pictures import draw_detections

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 6


@torch.no_grad()
def sample_pictures(module: ParameterAdaptation) -> dict[str, Figure]:
    """Detections and truth on the first validation images; nothing for tasks without a picture."""
    data = module.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    batch = next(iter(data.val_dataloader()))
    if not isinstance(batch, DetectionBatch):
        return {}
    module.eval()
    moved = module.transfer_batch_to_device(batch, module.device, 0)
    detections = module.task.predict(module.network, moved)
    truth = list(zip(batch.boxes, batch.labels, strict=True))
    return {
        "Detections": draw_detections(batch.images[:_MOST], detections[:_MOST], truth[:_MOST], data.class_names)
    }
