"""What training needs to know of a task: its losses, its predictions and its metric."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from fna_lightning.data.batches import Batch

BatchT = TypeVar("BatchT", bound=Batch)


class Metric(ABC, Generic[BatchT]):
    """Accumulates predictions over a validation run and scores them once."""

    @abstractmethod
    def reset(self) -> None:
        """Forget everything."""

    @abstractmethod
    def update(self, predictions: Any, batch: BatchT) -> None:
        """Take in the predictions of one batch, as `Task.predict` returns them."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Score everything taken in since `reset`; the keys include the task's `monitor`."""

    def class_scores(self) -> dict[str, float]:
        """Scores of single classes by `<figure>/<class name>`, as of the last `compute`; none by default."""
        return {}

    def save_results(self, folder: Path) -> None:
        """Write what other programs score, where there is a usual file for it; call it on one rank."""


class Task(ABC, Generic[BatchT]):
    """Losses and predictions of one task, over a network that the task knows how to call.

    Each task says in its signatures which class that is.
    """

    kind: ClassVar[str]
    """What a data module must be for: `detection`, `classification` or `segmentation`."""
    monitor: str
    """The key of `Metric.compute` by which checkpoints are compared; larger is better."""

    @abstractmethod
    def losses(self, network: Any, batch: BatchT) -> dict[str, Tensor]:
        """Run `network` in training mode; return scalar loss terms whose sum is minimised."""

    @abstractmethod
    def predict(self, network: Any, batch: BatchT) -> Any:
        """Run `network` in evaluation mode; return predictions in the batch's coordinates."""

    @abstractmethod
    def metric(self, data: Any) -> Metric[BatchT]:
        """A fresh metric for the validation set of the data module `data`."""
