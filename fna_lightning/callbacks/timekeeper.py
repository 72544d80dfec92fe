"""How long training or evaluation took, and over how many images."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from fna_lightning.search import SearchBatch


class Timekeeper(Callback):
    """Adds up the time between an epoch's first and last training batch; validation does not count.

    Attributes:
        seconds: of training, loading included, those before an interruption too.
        images: that training steps of this rank were given.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.images = 0
        self._since = time.perf_counter()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock: an epoch that goes on after an interruption does not start again."""
        self._since = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the images and read the clock."""
        batches = (batch.weight, batch.architecture) if isinstance(batch, SearchBatch) else (batch,)
        self.count(sum(len(part) for part in batches if part is not None))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the time of a validation out."""
        self._since = time.perf_counter()

    def state_dict(self) -> dict[str, float]:
        """Time and images so far, for checkpoints."""
        return {"seconds": self.seconds, "images": self.images}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Go on adding."""
        self.seconds, self.images = state_dict["seconds"], int(state_dict["images"])

    def count(self, images: int) -> None:
        """Add these images, and the time since the clock was started or last read."""
        now = time.perf_counter()
        self.seconds += now - self._since
        self._since = now
        self.images += images


class EvaluationTimekeeper(Timekeeper):
    """The same of an evaluation: loading, predictions and their count, but not the final score."""

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the images and read the clock."""
        self.count(len(batch))
