"""Batch-norm statistics, estimated anew before training."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import track

from fna_lightning.blocks import reestimate_statistics
from fna_lightning.data.loading import ResumableLoader
from fna_lightning.modules.base import AdaptationModule


class BatchNormCalibration(Callback):
    """Before fine-tuning, re-estimates the batch norms' statistics from some training batches.

    Wanted after remapping from a supernet; see `reestimate_statistics`. The whole network runs as in training, so
    that all its norms are reached. The training set is passed over as often as it takes.

    Args:
        batches: how many to use.
    """

    def __init__(self, batches: int) -> None:
        self._batches = batches

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Estimate, unless the run continues from a checkpoint."""
        module = cast("AdaptationModule", pl_module)
        loader = cast("ResumableLoader[Any] | None", trainer.train_dataloader)
        if module.iteration > 0 or loader is None:
            return
        console = Console(stderr=True)
        shown = console.is_terminal and trainer.is_global_zero and trainer.progress_bar_callback is not None
        batches = track(
            itertools.islice(_passes(loader), self._batches),
            "Batch-norm statistics",
            self._batches,
            console=console,
            transient=True,
            disable=not shown,
        )
        moved = (trainer.strategy.batch_to_device(batch, module.device) for batch in batches)
        with trainer.precision_plugin.train_step_context():
            reestimate_statistics(module.network, moved, partial(module.task.losses, module.network))


def _passes(loader: ResumableLoader[Any]) -> Iterator[Any]:
    """Batches without end; every pass has its own order and augmentation."""
    for epoch in itertools.count():
        loader.set_epoch(epoch)
        yield from loader
