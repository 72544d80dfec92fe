"""Batch-norm statistics, estimated anew before training."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import track
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fna_lightning.data.loading import ResumableLoader
from fna_lightning.modules.base import AdaptationModule


class BatchNormCalibration(Callback):
    """Before fine-tuning, replaces running statistics by the plain mean over some training batches.

    Wanted where the parameters and the statistics do not come from the same network, as after remapping
    from a supernet (spec FNA 5.4, 6.3). The mean does not depend on the batches' order. The training set is
    passed over as often as it takes.

    Args:
        batches: how many to use.
    """

    def __init__(self, batches: int) -> None:
        self._batches = batches

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Estimate, unless the run continues from a checkpoint."""
        norms = [m for m in pl_module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
        loader = cast("ResumableLoader[Any] | None", trainer.train_dataloader)
        if cast("AdaptationModule", pl_module).iteration > 0 or not norms or loader is None:
            return
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the cumulative mean
        network: nn.Module = pl_module.network  # pyright: ignore[reportAssignmentType]
        console = Console(stderr=True)
        shown = console.is_terminal and trainer.is_global_zero and trainer.progress_bar_callback is not None
        with torch.no_grad(), trainer.precision_plugin.train_step_context():
            for batch in track(
                itertools.islice(_passes(loader), self._batches),
                "Batch-norm statistics",
                self._batches,
                console=console,
                transient=True,
                disable=not shown,
            ):
                network(trainer.strategy.batch_to_device(batch, pl_module.device).images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _passes(loader: ResumableLoader[Any]) -> Iterator[Any]:
    """Batches without end; every pass has its own order and augmentation."""
    for epoch in itertools.count():
        loader.set_epoch(epoch)
        yield from loader
