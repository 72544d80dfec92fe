"""Parameter adaptation: training a network of fixed architecture on its task."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fna_lightning.data.batches import Batch
from fna_lightning.modules.base import AdaptationModule, OptimizerFactory, ScheduleFactory
from fna_lightning.tasks.base import Task


class ParameterAdaptation(AdaptationModule):
    """Trains all parameters of `network` by one optimiser (FNA, section 3.4).

    Args:
        network: detector, segmenter or classifier with a `backbone`.
        task: its losses, predictions and metric.
        architecture_text: the backbone's architecture in YAML, kept in checkpoints.
        optimizer: made from the network's parameters.
        schedule: of the learning rate, stepped once an iteration.
        random_seed: fixes dropout, with the iteration.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task[Any],
        architecture_text: str,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
        random_seed: int = 0,
    ) -> None:
        super().__init__(network, task, architecture_text, random_seed)
        self._optimizer = optimizer
        self._schedule = schedule

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """The sum of the task's losses."""
        losses = self.task.losses(self.network, batch)
        total = sum(losses.values(), start=next(iter(losses.values())).new_zeros(()))
        self.log_losses("train", {**losses, "loss": total}, batch)
        self.iteration += 1
        return total

    def configure_optimizers(self) -> Any:
        """One optimiser and its schedule."""
        optimizer = self._optimizer(self.network.parameters())
        schedule = self._schedule(optimizer, steps_per_epoch=self._steps_per_epoch(), epochs=self._epochs())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
