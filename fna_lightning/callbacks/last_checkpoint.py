"""The checkpoint to continue from, and what happens when a run is stopped from outside."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from fna_lightning.callbacks.run_log import validates_training
from fna_lightning.exit_codes import INTERRUPTED, REQUEUE, TERMINATED
from fna_lightning.modules.base import AdaptationModule

log = logging.getLogger(__name__)

EXIT_CODES = {
    signal.SIGINT: INTERRUPTED,
    signal.SIGTERM: TERMINATED,
    signal.SIGUSR1: REQUEUE,
    signal.SIGUSR2: REQUEUE,
}
"""How a run ends that was asked to stop."""


class LastCheckpoint(Checkpoint):
    """Writes `last.ckpt` after every epoch, every so many iterations, and when the process is asked to stop.

    Iterations that take long, such as the score of a candidate, are saved one by one.

    Asked by Ctrl+C, SIGTERM, or a scheduler's warning (SIGUSR1, SIGUSR2), a run finishes its step, writes the
    checkpoint and leaves by the code in `EXIT_CODES`, all ranks after the same step. During an epoch's validation
    it leaves at once: the checkpoint was written before, and the resumed run validates first. After a scheduler's
    warning a SLURM job is queued again; where somebody else handles the signal already, as submitit does, that
    handler is called instead.

    Args:
        path: the file.
        every: iterations between two checkpoints within an epoch; None writes none there.
    """

    def __init__(self, path: Path, every: int | None = None) -> None:
        self._path = path
        self._every = every
        self._received: signal.Signals | None = None
        self._validation_due = False
        self._saved = False
        self._launcher: Any = None
        # Before Lightning puts its own in their places.
        self._foreign = {number: _foreign(signal.getsignal(number)) for number in EXIT_CODES}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen to signals; make up for a validation within an epoch that was interrupted."""
        if trainer.is_global_zero:
            for leftover in self._path.parent.glob(f".{self._path.name}.*"):  # of a process killed while writing
                leftover.unlink(missing_ok=True)
        # Lightning's handlers, which leave without saving, are in place by now; it restores what was before.
        # Only the main thread may set any; a launcher that works in threads keeps the signals to itself.
        for number in EXIT_CODES if threading.current_thread() is threading.main_thread() else ():
            signal.signal(number, self._receive)
        self._launcher = trainer.strategy.launcher
        cast("AdaptationModule", pl_module).guard.asked_to_stop = self._exit_code
        if self._validation_due and not trainer.is_last_batch:
            self._validate(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is due; leave where any rank was asked to. After an epoch's last batch both come later."""
        module = cast("AdaptationModule", pl_module)
        due = module.save_at_once or (self._every is not None and module.iteration % self._every == 0)
        if (due or module.guard.stopping) and not trainer.is_last_batch:
            self._validation_due = _is_followed_by_validation(trainer)
            self._save(trainer, module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save before an epoch's validation, which may take long."""
        if validates_training(trainer) and trainer.is_last_batch and not self._validation_due:
            self._validation_due = True
            self._save(trainer, cast("AdaptationModule", pl_module))

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Leave if this process was asked to; within an epoch, where this step is not saved, the next one does."""
        if validates_training(trainer) and self._validation_due and self._received is not None:
            self._leave(trainer, cast("AdaptationModule", pl_module), EXIT_CODES[self._received])

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Nothing is due any more."""
        self._validation_due = False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make up for a validation that was interrupted, which Lightning takes for done; save."""
        if self._validation_due:
            self._validate(trainer)
        self._save(trainer, cast("AdaptationModule", pl_module))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save a run that was over when it was continued, so that its new directory has what the old one had."""
        if not self._saved:
            self._save(trainer, cast("AdaptationModule", pl_module))

    def state_dict(self) -> dict[str, bool]:
        """Whether the validation behind the step that was saved is still to come."""
        return {"validation_due": self._validation_due}

    def load_state_dict(self, state_dict: dict[str, bool]) -> None:
        """See `on_train_start` and, for one behind an epoch's last step, `on_train_epoch_end`."""
        self._validation_due = state_dict["validation_due"]

    @staticmethod
    def _validate(trainer: L.Trainer) -> None:
        """Make up for a validation that was interrupted, as Lightning's loop would have run it."""
        loop, connector = trainer.fit_loop.epoch_loop.val_loop, trainer._logger_connector
        first = connector._first_loop_iter
        trainer.validating = True
        loop.restarting = False
        loop.run()
        trainer.training = True
        connector._first_loop_iter = first

    def _save(self, trainer: L.Trainer, module: AdaptationModule) -> None:
        trainer.save_checkpoint(self._path, weights_only=False)  # optimisers and loops as well
        self._saved = True
        if module.guard.stopping:
            self._leave(trainer, module, module.guard.stopping)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self._received == number == signal.SIGINT:
            raise KeyboardInterrupt  # twice: no patience
        if self._received is not None:
            return  # schedulers send SIGTERM behind their warning: the first one decides
        self._received = signal.Signals(number)
        # A terminal sends Ctrl+C to all processes; other signals reach this one alone.
        if self._launcher is not None and number != signal.SIGINT:
            self._launcher.kill(number)

    def _exit_code(self) -> int:
        return EXIT_CODES[self._received] if self._received is not None else 0

    def _leave(self, trainer: L.Trainer, module: AdaptationModule, code: int) -> None:
        """End the process, unless somebody else decides about the signal; all ranks do the same.

        Raises:
            SystemExit: with `code`.
        """
        for number, handler in self._foreign.items():
            if handler is not None and EXIT_CODES[number] == code:
                self._received, module.guard.stopping = None, 0
                handler(number, None)
                return
        if trainer.is_global_zero:
            log.info("asked to stop; saved %s, from which resume=%s goes on", self._path, self._path.parent.parent)
            if code == REQUEUE:
                _queue_again()
        sys.exit(code)


def _is_followed_by_validation(trainer: L.Trainer) -> bool:
    """Whether Lightning validates after the step that has just been taken."""
    fetcher = trainer.fit_loop._data_fetcher
    return fetcher is not None and trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)


def _foreign(handler: Any) -> Callable[[int, FrameType | None], Any] | None:
    """A signal's handler if somebody has set one; neither the system's nor Python's own for Ctrl+C."""
    return handler if callable(handler) and handler is not signal.default_int_handler else None


def _queue_again() -> None:
    """Ask SLURM, if this is one of its jobs, to queue the job again."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    name = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else job
    try:
        subprocess.run(["scontrol", "requeue", name], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        log.warning("SLURM job %s could not be queued again: %s", name, error)
