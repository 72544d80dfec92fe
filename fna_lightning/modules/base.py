"""What the LightningModules that train share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fna_lightning.blocks import Backbone, Network
from fna_lightning.data.batches import Batch
from fna_lightning.data.sampling import sample_seed
from fna_lightning.errors import CheckpointError, ConfigError, brief
from fna_lightning.modules.evaluation import EvaluationModule
from fna_lightning.modules.guard import StepGuard, name_batch
from fna_lightning.tasks.base import Task

_OF_PARAMETERS = frozenset(
    ("momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "square_avg", "grad_avg")
)  # states of torch's optimisers
OptimizerFactory = Callable[[Iterable[Any]], Optimizer]
"""Parameters, or groups of them as torch's optimisers take them -> optimiser; a partial from the configuration."""
ScheduleFactory = Callable[..., LRScheduler]
"""(optimiser, steps_per_epoch=, epochs=) -> schedule stepped once an iteration; see `fna_lightning.schedules`."""


class AdaptationModule(EvaluationModule):
    """A network with a backbone that parameters are carried into, trained on one task.

    Hyper-parameters are not saved: a run's `config.yaml` holds them, and checkpoints stay plain data.

    Attributes:
        iteration: batches trained on so far; Lightning's `global_step` counts the steps of every optimiser.
        losses: the terms of the last step by their names in the log, on the device.
        guard: decides on every update.
        architecture_text: the architectures of the network's parts, in YAML.
        save_at_once: whether the iteration that has just ended was so long that it shall not be lost.
    """

    def __init__(
        self,
        network: Network,
        task: Task[Any],
        architecture_text: str,
        random_seed: int,
        guard: StepGuard | None = None,
    ) -> None:
        super().__init__(network, task)
        self.iteration = 0
        self.losses: dict[str, Tensor] = {}
        self.save_at_once = False
        self.guard = guard or StepGuard()
        self._random_seed = random_seed
        self.architecture_text = architecture_text

    @property
    def backbone(self) -> Backbone:
        """The part that `fna_lightning.remapping.remap` fills."""
        return self.network.backbone

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep beside the weights what they are of: architecture, as YAML text, classes, data and counts."""
        checkpoint["architecture"] = self.architecture_text
        data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        checkpoint["class_names"] = list(data.class_names)
        checkpoint["data"] = data.totals()
        checkpoint["fingerprints"] = data.fingerprints()
        checkpoint["processes"] = self.trainer.world_size
        checkpoint["iteration"] = self.iteration
        checkpoint["guard"] = self.guard.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting."""
        self.iteration = int(checkpoint["iteration"])
        self.guard.load_state_dict(checkpoint["guard"])

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Restore all tensors.

        Raises:
            CheckpointError: where they are those of another network.
        """
        try:
            return super().load_state_dict(state_dict, strict, assign)
        except RuntimeError as error:
            reason = brief(" ".join(str(error).splitlines()[1:2]), 200)
            raise CheckpointError(f"the checkpoint is of another network: {reason}; give the run's own") from error

    def on_train_start(self) -> None:
        """Require that what was restored of the optimisers is of the parameters' shapes.

        Raises:
            CheckpointError: where it is not, which torch would notice late or, where shapes broadcast, never.
        """
        names = {id(parameter): name for name, parameter in self.named_parameters()}
        for optimizer in self.trainer.optimizers:
            for parameter, state in optimizer.state.items():
                for key, value in state.items():
                    odd = isinstance(value, Tensor) and value.shape != parameter.shape
                    if key in _OF_PARAMETERS and (odd or not isinstance(value, Tensor | None)):
                        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                        raise CheckpointError(
                            f"the checkpoint has {key} {shape} for {names.get(id(parameter), 'a parameter')} "
                            f"{tuple(parameter.shape)}; give a run's own checkpoint as it was written"
                        )

    def note_losses(self, prefix: str, losses: dict[str, Tensor]) -> None:
        """Keep loss terms under `prefix/`, for the log."""
        self.losses |= {f"{prefix}/{name}": value.detach() for name, value in losses.items()}

    def name_batch(self, batch: Batch, iteration: int) -> str:
        """Where a batch came in this run, counted from 1, and what it holds, for a message."""
        return name_batch(self.current_epoch + 1, iteration, batch.files)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's interface
        """Make dropout and the like a function of (random seed, iteration, rank): a resumed run repeats them."""
        torch.manual_seed(sample_seed(self._random_seed, self.iteration, self.global_rank))
        self.losses = {}
        self.guard.remember(self.network)

    def _steps_per_epoch(self) -> int:
        """Iterations of one epoch, the trainer's limit included.

        Asks the data module: preparing the trainer's own loader here would be before a checkpoint is restored.

        Raises:
            ConfigError: where validations are asked for after more iterations than that.
        """
        batches = len(self.trainer.datamodule.train_dataloader())  # pyright: ignore[reportAttributeAccessIssue]
        limit, interval = self.trainer.limit_train_batches, self.trainer.val_check_interval
        if limit is not None:
            batches = min(batches, limit if isinstance(limit, int) else int(limit * batches))
        if isinstance(interval, int) and interval > max(batches, 1):
            raise ConfigError(
                f"trainer.val_check_interval={interval}: an epoch has {batches} batches; give no more, or a share "
                "of them as 0.5"
            )
        return batches

    def _epochs(self) -> int:
        return int(self.trainer.max_epochs or 1)
