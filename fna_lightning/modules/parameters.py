"""Parameter adaptation: training a network of fixed architecture on its task."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from torch import Tensor
from torch.optim import Optimizer

from fna_lightning.blocks import Network
from fna_lightning.data.batches import Batch
from fna_lightning.modules.base import AdaptationModule, OptimizerFactory, ScheduleFactory
from fna_lightning.modules.guard import StepGuard
from fna_lightning.modules.parameter_groups import ParameterGroups
from fna_lightning.tasks.base import Task


class ParameterAdaptation(AdaptationModule):
    """Trains all parameters of `network` by one optimiser (FNA, section 3.4).

    Args:
        network: detector, segmenter or classifier with a `backbone`.
        task: its losses, predictions and metric.
        architecture_text: the architectures of the network's parts in YAML, kept in checkpoints.
        optimizer: made from the network's parameters.
        schedule: of the learning rate, stepped once an iteration.
        random_seed: fixes dropout, with the iteration.
        guard: what becomes of a loss or gradient that is not finite.
        groups: what the optimiser treats in its own way.
    """

    def __init__(
        self,
        network: Network,
        task: Task[Any],
        architecture_text: str,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
        random_seed: int = 0,
        guard: StepGuard | None = None,
        groups: ParameterGroups = ParameterGroups(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(network, task, architecture_text, random_seed, guard)
        self._optimizer = optimizer
        self._schedule = schedule
        self._groups = groups
        self._batch: Batch | None = None

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """The sum of the task's losses."""
        losses = self.task.losses(self.network, batch)
        total = sum(losses.values(), start=next(iter(losses.values())).new_zeros(()))
        self.note_losses("train", {**losses, "loss": total})
        self._batch = batch
        self.iteration += 1
        return total

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Leave an update out, or stop, where loss or gradient is not finite; gradients are unscaled by now."""
        batch = cast("Batch", self._batch)
        # Under a loss scale gradients overflow now and then; the scaler leaves such steps out by itself.
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        watched = () if scaled else self.network.parameters()
        named = partial(self.name_batch, batch, self.iteration)
        if not self.guard.allows(self.losses["train/loss"], watched, named):
            optimizer.zero_grad()  # to None: optimisers pass such parameters over, decay and momentum included
        self.progress["loss"] = self.guard.loss

    def configure_optimizers(self) -> Any:
        """One optimiser and its schedule."""
        optimizer = self._groups.optimizer(self._optimizer, self.network, self.network.parameters())
        schedule = self._schedule(optimizer, steps_per_epoch=self._steps_per_epoch(), epochs=self._epochs())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
