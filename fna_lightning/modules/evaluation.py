"""What scores a network; all that `evaluate.py` needs, and the base of the modules that train."""

from __future__ import annotations

from typing import Any

import lightning as L

from fna_lightning.blocks import Network
from fna_lightning.data.batches import Batch
from fna_lightning.tasks.base import Metric, Task


class EvaluationModule(L.LightningModule):
    """A network whose predictions are scored on one task's validation set.

    Args:
        network: detector, segmenter or classifier with a `backbone`.
        task: its predictions and metric.

    Attributes:
        scores: of the last validation, by name.
        progress: what the progress bar shows, on the host.
    """

    def __init__(self, network: Network, task: Task[Any]) -> None:
        super().__init__()
        self.network = network
        self.task = task
        self.scores: dict[str, float] = {}
        self.progress: dict[str, float | str] = {}
        self._metric: Metric[Any] | None = None

    @property
    def metric(self) -> Metric[Any]:
        """The task's metric over the attached data module's validation set."""
        if self._metric is None:
            self._metric = self.task.metric(self.trainer.datamodule)  # pyright: ignore[reportAttributeAccessIssue]
        return self._metric

    def on_validation_epoch_start(self) -> None:
        """Begin a new score."""
        self.metric.reset()

    def validation_step(self, batch: Batch, _index: int) -> dict[str, Any]:
        """Take in the predictions of one batch, and hand them to the callbacks as "predictions"."""
        predictions = self.task.predict(self.network, batch)
        self.metric.update(predictions, batch)
        return {"predictions": predictions}

    def on_validation_epoch_end(self) -> None:
        """Score the set."""
        self.scores = {name: float(value) for name, value in self.metric.compute().items()}
        self.progress[self.task.monitor] = self.scores[self.task.monitor]
        # For callbacks that watch a score; `RunLog` writes them for the loggers.
        self.log_dict({f"val/{name}": value for name, value in self.scores.items()}, logger=False)
