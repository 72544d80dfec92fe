"""What every module that trains a supernet does: one drawn path a step, decided on and averaged over all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fna_lightning.blocks import Network
from fna_lightning.choices import Choices
from fna_lightning.distributed import average_gradients
from fna_lightning.errors import ConfigError
from fna_lightning.modules.base import AdaptationModule, OptimizerFactory, ScheduleFactory
from fna_lightning.modules.guard import StepGuard
from fna_lightning.modules.parameter_groups import ParameterGroups
from fna_lightning.modules.strategy import ActivePathStrategy
from fna_lightning.search import Draw, SinglePathTraining, Stepper, Update
from fna_lightning.tasks.base import Task


@dataclass(frozen=True)
class WeightTraining:
    """How the weights of a supernet are trained."""

    optimizer: OptimizerFactory
    schedule: ScheduleFactory
    clip: float | None = None
    groups: ParameterGroups = ParameterGroups()  # noqa: RUF009 - frozen


class SupernetAdaptation(AdaptationModule):
    """Trains the weights of the choices inside `network`, one drawn path an iteration.

    The base of every search: it draws the paths, guards loss and gradients, and averages the gradients of the
    active path, without which ranks would drift apart under `ActivePathStrategy`. `iteration` counts batches, and
    is what paths are drawn by, what the schedule follows and what is logged.

    Args:
        network: a detector, segmenter or classifier that contains choices.
        task: its losses.
        architecture_text: the architectures that the space begins with, in YAML.
        weights: how the weights are trained.
        random_seed: fixes the paths.
        guard: what becomes of a loss or gradient that is not finite.
        draw: gives the paths; uniform ones by default.

    Attributes:
        choices: those of the part of `network` that is searched.
        paths: the weight steps.

    Raises:
        ConfigError: where the network contains no choice.
    """

    averages_gradients = True

    def __init__(
        self,
        network: Network,
        task: Task[Any],
        architecture_text: str,
        weights: WeightTraining,
        random_seed: int,
        guard: StepGuard | None = None,
        draw: Draw | None = None,
    ) -> None:
        super().__init__(network, task, architecture_text, random_seed, guard)
        self.automatic_optimization = False
        self.choices = Choices(searched_part(network))
        self._weights = weights
        self.paths = SinglePathTraining(
            network, self.choices, self._task_losses, draw=draw, **self._step_settings()
        )

    def on_fit_start(self) -> None:
        """Refuse what hand-made steps cannot do right.

        Raises:
            ConfigError: for fp16, whose scaled gradients would be clipped by the wrong norm, and for weights in
                bf16, which small steps of the architecture parameters would not move.
        """
        if str(self.trainer.precision) not in ("32-true", "bf16-mixed"):
            raise ConfigError(
                f"trainer.precision={self.trainer.precision}: the search runs in 32-true or bf16-mixed"
            )

    def training_step(self, batch: Any, _index: int) -> None:
        """A weight step on the path of the iteration."""
        self.step_weights(batch, cast("Stepper", self.optimizers()))

    def step_weights(self, batch: Any, optimizer: Stepper, probabilities: Sequence[Tensor] | None = None) -> None:
        """One weight step and one of its schedule, an iteration's last; see `SinglePathTraining.weight_step`."""
        losses = self.paths.weight_step(batch, optimizer, self.iteration, probabilities)
        self.note_losses("weight", losses)
        cast("LRScheduler", self.lr_schedulers()).step()
        self.iteration += 1

    def weight_optimizer(self) -> tuple[Optimizer, LRScheduler]:
        """The weights' optimiser and its schedule."""
        optimizer = self._weights.groups.optimizer(self._weights.optimizer, self.network, self.paths.weights)
        schedule = self._weights.schedule(
            optimizer, steps_per_epoch=self._steps_per_epoch(), epochs=self._epochs()
        )
        return optimizer, schedule

    def configure_optimizers(self) -> Any:
        """The weights' optimiser with its schedule, stepped by hand."""
        optimizer, schedule = self.weight_optimizer()
        return [optimizer], [schedule]

    def _step_settings(self) -> dict[str, Any]:
        """What all algorithms take alike, see `SinglePathTraining`."""
        return {
            "random_seed": self._random_seed,
            "clip_weights": self._weights.clip,
            "backward": self.manual_backward,
            "before_update": self._before_update,
        }

    def _task_losses(self, batch: Any) -> dict[str, Tensor]:
        return self.task.losses(self.network, batch)

    def _before_update(self, update: Update) -> bool:
        """Hold ranks and numbers together, then average the gradients where the strategy leaves that to us."""
        named = partial(self.name_batch, update.batch, self.iteration + 1)
        allowed = self.guard.allows(update.loss, update.parameters, named, update.path)
        if allowed and isinstance(self.trainer.strategy, ActivePathStrategy):
            average_gradients(update.parameters)
        if update.of == "weights":
            self.progress["loss"] = self.guard.loss
        if update.path:
            between = "" if max(self.choices.sizes) <= 10 else "-"
            self.progress["path"] = between.join(map(str, update.path))
        return allowed


def searched_part(network: Network) -> nn.Module:
    """The named part of `network` in which all its choices are, or the network itself where several have some.

    What is searched gives choices their names, and is what a cost limit speaks of.

    Raises:
        ConfigError: where the network contains no choice.
    """
    total = len(Choices(network))
    if not total:
        raise ConfigError("the search needs a network with choices, such as a supernet as its backbone")
    parts = [part for part in network.parts().values() if len(Choices(part)) == total]
    return parts[0] if parts else network
