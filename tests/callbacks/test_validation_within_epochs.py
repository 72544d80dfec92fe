"""Validations within an epoch: a run that was killed around one and goes on has its row as any other run."""

import csv

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

from fna_lightning.callbacks import LastCheckpoint, RunLog, Timekeeper

ITERATIONS = 12  # six an epoch
MOMENTS = ("on_validation_epoch_start", "on_validation_batch_end", "on_validation_end")


class KilledError(Exception):
    pass


class Kill(Callback):
    """Ends the process at a moment of an iteration, as far as this one can."""

    def __init__(self, moment, iteration):
        setattr(self, moment, lambda trainer, module, *_: self.strike(trainer, module))
        self.iteration = iteration

    def strike(self, trainer, module):
        if module.iteration == self.iteration and not trainer.sanity_checking:
            raise KilledError


@pytest.fixture
def run(adaptation, tmp_path):
    """run(name of a folder, interval, *callbacks, resume) -> the module, trained."""

    def fit(name, interval, *callbacks, resume=False):
        folder = tmp_path / name
        torch.manual_seed(1 + resume)
        trainer = L.Trainer(
            max_epochs=2,
            accelerator="cpu",
            callbacks=[*callbacks, Timekeeper(), RunLog(folder, 2), LastCheckpoint(folder / "last.ckpt", 1)],
            logger=CSVLogger(folder, name="", version=""),
            val_check_interval=interval,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
        module = adaptation.train()
        trainer.fit(module, datamodule=adaptation.data(), ckpt_path=folder / "last.ckpt" if resume else None)
        return module

    return fit


@pytest.mark.parametrize(("interval", "wanted"), [(0.5, [3, 6, 9, 12]), (2, [2, 4, 6, 8, 10, 12]), (4, [4, 10])])
def test_the_rows_are_those_of_a_run_that_was_not_killed(run, tmp_path, interval, wanted):
    whole = run("whole", interval)
    log = (tmp_path / "whole" / "metrics.csv").read_bytes()
    rows = list(csv.DictReader(log.decode().splitlines()))
    assert [int(row["step"]) for row in rows if row["val/accuracy"]] == wanted
    for iteration in wanted[:3]:
        moment = MOMENTS[iteration % len(MOMENTS)]
        name = f"{moment} {iteration}"
        with pytest.raises(KilledError):
            run(name, interval, Kill(moment, iteration))
        resumed = run(name, interval, resume=True)
        assert (tmp_path / name / "metrics.csv").read_bytes() == log, name
        assert resumed.iteration == whole.iteration == ITERATIONS
        for key, value in resumed.state_dict().items():
            assert torch.equal(value, whole.state_dict()[key]), key


def test_a_kill_behind_a_validation_that_is_saved(run, tmp_path):
    """At the next step's end the one before is saved with its row, which must not come twice."""
    run("whole", 0.5)
    for moment in ("on_train_batch_start", "on_train_batch_end"):
        with pytest.raises(KilledError):
            run(moment, 0.5, Kill(moment, 4))
        run(moment, 0.5, resume=True)
        logs = [(tmp_path / name / "metrics.csv").read_bytes() for name in ("whole", moment)]
        assert logs[0] == logs[1]
