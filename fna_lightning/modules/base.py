"""What the two LightningModules share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fna_lightning.blocks import StagedNetwork
from fna_lightning.data.batches import Batch
from fna_lightning.data.sampling import sample_seed
from fna_lightning.modules.guard import StepGuard, name_batch
from fna_lightning.tasks.base import Metric, Task

OptimizerFactory = Callable[[Iterable[Any]], Optimizer]
"""Parameters, or groups of them as torch's optimisers take them -> optimiser; a partial from the configuration."""
ScheduleFactory = Callable[..., LRScheduler]
"""(optimiser, steps_per_epoch=, epochs=) -> schedule stepped once an iteration; see `fna_lightning.schedules`."""


class AdaptationModule(L.LightningModule):
    """A network with a backbone that parameters are carried into, trained on one task.

    Hyper-parameters are not saved: a run's `config.yaml` holds them, and checkpoints stay plain data.

    Attributes:
        iteration: batches trained on so far; Lightning's `global_step` counts the steps of every optimiser.
        losses: the terms of the last step by their names in the log, on the device.
        scores: of the last validation, by name.
        progress: what the progress bar shows, on the host.
        guard: decides on every update.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task[Any],
        architecture_text: str,
        random_seed: int,
        guard: StepGuard | None = None,
    ) -> None:
        super().__init__()
        self.iteration = 0
        self.losses: dict[str, Tensor] = {}
        self.scores: dict[str, float] = {}
        self.progress: dict[str, float | str] = {}
        self.guard = guard or StepGuard()
        self._random_seed = random_seed
        self.network = network
        self.task = task
        self._architecture_text = architecture_text
        self._metric: Metric[Any] | None = None

    @property
    def backbone(self) -> StagedNetwork:
        """The part that `fna_lightning.remapping.remap` fills."""
        return self.network.backbone  # pyright: ignore[reportReturnType] - all our networks have one

    @property
    def metric(self) -> Metric[Any]:
        """The task's metric over the attached data module's validation set."""
        if self._metric is None:
            self._metric = self.task.metric(self.trainer.datamodule)  # pyright: ignore[reportAttributeAccessIssue]
        return self._metric

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the architecture with its weights, as YAML text, and the count of iterations."""
        checkpoint["architecture"] = self._architecture_text
        checkpoint["iteration"] = self.iteration
        checkpoint["guard"] = self.guard.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting."""
        self.iteration = int(checkpoint["iteration"])
        self.guard.load_state_dict(checkpoint["guard"])

    def note_losses(self, prefix: str, losses: dict[str, Tensor]) -> None:
        """Keep loss terms under `prefix/`, for the log."""
        self.losses |= {f"{prefix}/{name}": value.detach() for name, value in losses.items()}

    def name_batch(self, batch: Batch, iteration: int) -> str:
        """Where a batch came in this run, counted from 1, and what it holds, for a message."""
        return name_batch(self.current_epoch + 1, iteration, batch.files)

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

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's interface
        """Make dropout and the like a function of (seed, iteration, rank), so that a resumed run repeats them."""
        torch.manual_seed(sample_seed(self._random_seed, self.iteration, self.global_rank))
        self.losses = {}
        self.guard.remember(self.network)

    def _steps_per_epoch(self) -> int:
        """Iterations of one epoch, the trainer's limit included.

        Asks the data module: preparing the trainer's own loader here would be before a checkpoint is restored.
        """
        batches = len(self.trainer.datamodule.train_dataloader())  # pyright: ignore[reportAttributeAccessIssue]
        limit = self.trainer.limit_train_batches
        if limit is None:
            return batches
        return min(batches, limit if isinstance(limit, int) else int(limit * batches))

    def _epochs(self) -> int:
        return int(self.trainer.max_epochs or 1)
