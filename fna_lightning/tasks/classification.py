"""Image classification: one label per image."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from fna_lightning.data.batches import ClassificationBatch
from fna_lightning.distributed import works_together
from fna_lightning.tasks.base import Metric, Task


class ClassificationData(Protocol):
    """What the metric needs of a data module."""

    @property
    def num_classes(self) -> int:
        """Number of labels."""
        ...


class AccuracyMetric(Metric[ClassificationBatch]):
    """Share of images whose label is the best ("accuracy") or among the five best ("accuracy_top5").

    The second only exists with more than five classes. In a distributed run the counts of all ranks are added
    up (by torchmetrics); images that a sampler repeats to fill the last batch count twice.

    Args:
        num_classes: number of labels.
    """

    def __init__(self, num_classes: int) -> None:
        names = {"accuracy": 1, "accuracy_top5": 5} if num_classes > 5 else {"accuracy": 1}
        self._accuracies = MetricCollection(
            {
                name: MulticlassAccuracy(
                    num_classes, top_k=k, average="micro", distributed_available_fn=works_together
                )
                for name, k in names.items()
            },
            # Groups would be found by comparing the first batch's counts, and top-1 may equal top-5 there.
            compute_groups=False,
        )

    def reset(self) -> None:
        """Forget everything."""
        self._accuracies.reset()

    def update(self, predictions: Tensor, batch: ClassificationBatch) -> None:
        """Take in logits (N, num_classes)."""
        self._accuracies.to(predictions.device).update(predictions.float(), batch.labels)

    def compute(self) -> dict[str, float]:
        """Shares in [0, 1] over everything since `reset`."""
        return {name: float(value) for name, value in self._accuracies.compute().items()}


class ClassificationTask(Task[ClassificationBatch]):
    """Cross entropy over a network that maps (N, 3, H, W) images to (N, num_classes) logits.

    Args:
        label_smoothing: share of the target that is spread over all classes.
    """

    kind = "classification"
    monitor = "accuracy"

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def losses(self, network: nn.Module, batch: ClassificationBatch) -> dict[str, Tensor]:
        """The mean cross entropy, as "classification"."""
        logits = network(batch.images).float()
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        return {"classification": loss}

    @torch.no_grad()
    def predict(self, network: nn.Module, batch: ClassificationBatch) -> Tensor:
        """Logits (N, num_classes)."""
        return network(batch.images)

    def metric(self, data: ClassificationData) -> AccuracyMetric:
        """A fresh metric for the classes of `data`."""
        return AccuracyMetric(data.num_classes)
