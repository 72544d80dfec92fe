"""The rows of a run's log, and how they survive an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.trainer.states import TrainerFn

from fna_lightning.files import write_text
from fna_lightning.modules.base import AdaptationModule

METRICS, ALPHAS = "metrics.csv", "alphas.csv"


class RunLog(Callback):
    """Gives the loggers a row every so many iterations, and one after every validation.

    Lightning would write a step's row only after a checkpoint of that step, and count steps of all optimisers.
    Checkpoints carry the CSV files as they are, so that a resumed run has exactly the rows of one that was never
    interrupted: those written after its checkpoint are dropped.

    Args:
        folder: the run directory.
        every: iterations between two rows.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self._folder = folder
        self._every = every
        self._rate = 0.0
        self._kept: dict[str, str] = {}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the log back to where the checkpoint was written."""
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                header = self._kept.get(METRICS, "").partition("\n")[0].strip()
                # The first use deletes the file that is there.
                logger.experiment.metrics_keys = header.split(",") if header else []
        for name, text in self._kept.items():
            write_text(self._folder / name, text)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the learning rate with which the step is taken."""
        self._rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write losses and learning rate every so many iterations; only then are they fetched from the device."""
        module = cast("AdaptationModule", pl_module)
        if module.iteration % self._every == 0 and trainer.is_global_zero:
            losses = {name: float(value) for name, value in module.losses.items()}
            self._write(trainer, module, {"lr": self._rate, **losses})

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the scores of a validation during training."""
        if validates_training(trainer):
            module = cast("AdaptationModule", pl_module)
            self._write(trainer, module, {f"val/{name}": value for name, value in module.scores.items()})

    def state_dict(self) -> dict[str, str]:
        """The log files so far, to the byte."""
        files = (self._folder / name for name in (METRICS, ALPHAS))
        # Not as text, which would lose the ends of lines as CSV has them.
        return {path.name: path.read_bytes().decode() for path in files if path.is_file()}

    def load_state_dict(self, state_dict: dict[str, str]) -> None:
        """Keep the log files for `on_fit_start`; checkpoints of old have them with other ends of lines."""
        kept = {name: state_dict[name] for name in (METRICS, ALPHAS) if name in state_dict}
        self._kept = {name: text.replace("\r\n", "\n").replace("\n", "\r\n") for name, text in kept.items()}

    def _write(self, trainer: L.Trainer, module: AdaptationModule, row: dict[str, float]) -> None:
        write_row(trainer, module, {"epoch": float(trainer.current_epoch), **row})


def validates_training(trainer: L.Trainer) -> bool:
    """Whether a validation belongs to training; others score a run's end, or a finished network."""
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking


def write_row(trainer: L.Trainer, module: AdaptationModule, row: dict[str, float]) -> None:
    """Give a row to all loggers under the module's iteration, the CSV file flushed."""
    for logger in trainer.loggers:
        logger.log_metrics(row, step=module.iteration)
        if isinstance(logger, CSVLogger):
            logger.save()
