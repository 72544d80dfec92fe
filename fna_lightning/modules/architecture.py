"""Architecture adaptation: the search, as a LightningModule around `fna_lightning.search`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from fna_lightning.distributed import average_gradients
from fna_lightning.errors import ConfigError
from fna_lightning.modules.base import AdaptationModule, OptimizerFactory, ScheduleFactory
from fna_lightning.modules.guard import StepGuard
from fna_lightning.modules.parameter_groups import ParameterGroups
from fna_lightning.modules.strategy import ActivePathStrategy
from fna_lightning.search import BilevelSearch, CostObjective, SearchBatch, Stepper, Update, architecture_weights
from fna_lightning.supernets import Supernet
from fna_lightning.tasks.base import Task


@dataclass(frozen=True)
class SearchOptimizers:
    """Both optimisers and clipping norms, and the weights' schedule and groups; alpha's rate is constant."""

    weights: OptimizerFactory
    architecture: OptimizerFactory
    schedule: ScheduleFactory
    clip_weights: float | None = None
    clip_architecture: float | None = None
    groups: ParameterGroups = ParameterGroups()  # noqa: RUF009 - frozen


class ArchitectureAdaptation(AdaptationModule):
    """Searches the architecture of the supernet inside `network` (FNA, section 3.3).

    `iteration` counts batches, and is what paths are drawn by, what the schedule follows and what is logged.

    Args:
        network: a detector, segmenter or classifier whose `backbone` is a supernet.
        task: its losses.
        architecture_text: the supernet's base architecture in YAML.
        objective: the cost term of architecture steps.
        optimizers: of weights and architecture parameters.
        warmup_epochs: epochs with uniformly drawn paths and without architecture steps.
        random_seed: fixes the paths.
        guard: what becomes of a loss or gradient that is not finite.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task[Any],
        architecture_text: str,
        objective: CostObjective,
        optimizers: SearchOptimizers,
        warmup_epochs: int,
        random_seed: int,
        guard: StepGuard | None = None,
    ) -> None:
        super().__init__(network, task, architecture_text, random_seed, guard)
        self.automatic_optimization = False
        self.objective = objective
        self._optimizers = optimizers
        self._warmup_epochs = warmup_epochs
        self.search = BilevelSearch(
            network,
            self.supernet,
            lambda batch: self.task.losses(self.network, batch),
            objective,
            seed=random_seed,
            clip_weights=optimizers.clip_weights,
            clip_architecture=optimizers.clip_architecture,
            backward=self.manual_backward,
            before_update=self._before_update,
        )

    @property
    def supernet(self) -> Supernet:
        """What is searched."""
        if not isinstance(self.backbone, Supernet):
            raise ConfigError("the search needs a network with a supernet as its backbone")
        return self.backbone

    def on_fit_start(self) -> None:
        """Refuse what the two hand-made steps cannot do right.

        Raises:
            ConfigError: for fp16, whose scaled gradients would be clipped by the wrong norm, and for weights in
                bf16, which small steps of the architecture parameters would not move.
        """
        if str(self.trainer.precision) not in ("32-true", "bf16-mixed"):
            raise ConfigError(
                f"trainer.precision={self.trainer.precision}: the search runs in 32-true or bf16-mixed"
            )

    def training_step(self, batch: SearchBatch, _index: int) -> None:
        """An architecture step where it is due, then a weight step."""
        weight_optimizer, architecture_optimizer = cast("list[Stepper]", self.optimizers())
        if batch.architecture is not None:
            self.note_losses("arch", self.search.architecture_step(batch.architecture, architecture_optimizer))
        policy = "uniform" if self.current_epoch < self._warmup_epochs else "probability"
        self.note_losses("weight", self.search.weight_step(batch.weight, weight_optimizer, self.iteration, policy))
        cast("LRScheduler", self.lr_schedulers()).step()
        self.iteration += 1

    def _before_update(self, update: Update) -> bool:
        """Hold ranks and numbers together, then average the gradients where the strategy leaves that to us."""
        named = partial(self.name_batch, update.batch, self.iteration + 1)
        allowed = self.guard.allows(update.loss, update.parameters, named, update.path)
        if allowed and isinstance(self.trainer.strategy, ActivePathStrategy):
            average_gradients(update.parameters)
        if update.path:
            self.progress |= {"loss": self.guard.loss, "path": "".join(map(str, update.path))}
        return allowed

    def configure_optimizers(self) -> Any:
        """The weights' optimiser with its schedule, and the architecture's at a constant rate."""
        weights = self._optimizers.groups.optimizer(
            self._optimizers.weights, self.network, architecture_weights(self.network, self.supernet)
        )
        schedule = self._optimizers.schedule(
            weights, steps_per_epoch=self._steps_per_epoch(), epochs=self._epochs()
        )
        return [weights, self._optimizers.architecture(self.supernet.alphas())], [schedule]
