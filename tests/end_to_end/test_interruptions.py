"""Runs killed or stopped at any moment, in processes of their own, end as if nothing had happened."""

import multiprocessing
import operator
import os
import random
import signal
import stat
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from entries import DETECTION, SEARCH, start

from fna_lightning.checkpoints import read_file
from fna_lightning.modules import AdaptationModule

# Forked from a process that has imported everything: a start takes a second instead of five.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["fna_lightning.runs.train", "fna_lightning.runs.search", "albumentations"])

LENGTH = ("trainer.limit_train_batches=null", "trainer.max_epochs=5")
SETTINGS = {
    "train": (*DETECTION, *LENGTH, "data.num_train=12"),
    "search": (*SEARCH, *LENGTH, "data.num_train=24"),  # half of them train the weights
    # Four epochs train the weights with half of the images, the last one scores as many candidates.
    "evolution": (
        *(setting for setting in SEARCH if not setting.startswith("search.")),
        *LENGTH,
        *("data.num_train=24", "search=evolution", "search.share=0.5", "search.statistics_batches=1"),
        *("search.generations=2", "search.population=3", "search.parents=2"),
        *("search.mutations=1", "search.crossovers=1"),
    ),
}
ENTRIES = {"train": "train", "search": "search", "evolution": "search"}
EPOCH, ITERATIONS = 6, 30
KILLS = 20


def work(entry, overrides, reached, plan):
    """One process: run the entry; at iteration `plan.at` send itself `plan.signal`, after `plan.delay` seconds."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # as where a run is started from a shell
    os.environ.update(plan.environment)
    os.setsid()
    if plan.scheduler_exits:
        signal.signal(plan.signal, lambda *_: sys.exit(plan.scheduler_exits))
    begin = AdaptationModule.on_train_batch_start
    strike = AdaptationModule.on_validation_epoch_start

    def send():
        os.killpg(0, plan.signal) if plan.to_all else os.kill(os.getpid(), plan.signal)

    def on_train_batch_start(self, batch, batch_idx):
        reached.value = self.iteration
        if self.iteration == plan.at and not plan.validating:
            threading.Timer(plan.delay, send).start() if plan.delay else send()
        return begin(self, batch, batch_idx)

    def on_validation_epoch_start(self):
        if self.iteration == plan.at and plan.validating:
            send()
        return strike(self)

    AdaptationModule.on_train_batch_start = on_train_batch_start
    AdaptationModule.on_validation_epoch_start = on_validation_epoch_start
    start(entry, *overrides)


def run(entry, folder, *overrides, at=-1, number=signal.SIGKILL, delay=0.0, validating=False, **more):
    """(exit code, iteration that was begun last) of a process."""
    plan = SimpleNamespace(at=at, signal=number, delay=delay, validating=validating)
    plan.environment, plan.scheduler_exits = more.get("environment", {}), more.get("scheduler_exits", 0)
    plan.to_all = more.get("to_all", False)
    reached = CONTEXT.Value("i", -1)
    settings = (*SETTINGS[entry], f"data.root={folder.parent / 'set'}", f"hydra.run.dir={folder}", *overrides)
    process = CONTEXT.Process(target=work, args=(ENTRIES[entry], settings, reached, plan))
    process.start()
    process.join(120)
    return process.exitcode, reached.value


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted runs, by entry; made when first asked for."""
    made = {}

    def make(entry):
        if entry not in made:
            made[entry] = tmp_path_factory.mktemp("whole") / entry
            assert run(entry, made[entry]) == (0, ITERATIONS - 1)
        return made[entry]

    return make


def checkpoint(folder):
    return folder / "checkpoints" / "last.ckpt"


def leaves(value, prefix=""):
    """Everything in a checkpoint but the time that was measured, by its place."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key != "Timekeeper":
                yield from leaves(item, f"{prefix}/{key}")
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from leaves(item, f"{prefix}/{number}")
    else:
        yield prefix, value


def assert_same_run(folder, wanted):
    for name in ("metrics.csv", "alphas.csv", "candidates.csv", "architecture.yaml"):
        if (wanted / name).exists():
            assert (folder / name).read_bytes() == (wanted / name).read_bytes(), name
    found, expected = (dict(leaves(read_file(checkpoint(f)))) for f in (folder, wanted))
    compared = ("/state_dict", "/optimizer_states", "/lr_schedulers", "/iteration", "/epoch", "/global_step")
    names = [name for name in expected if name.startswith(compared)]
    assert len(names) > 100
    for name in names:
        same = torch.equal if isinstance(expected[name], torch.Tensor) else operator.eq
        assert same(found[name], expected[name]), name


@pytest.mark.parametrize("entry", ["train", "search"])
def test_twenty_kills(entry, whole, tmp_path):
    draw = random.Random(entry)
    folder, every, place = tmp_path / entry, 1, 0
    settings = ("resume=auto", f"trainer.checkpoint_every={every}")
    for _ in range(KILLS):
        # A step and the checkpoint behind it take some hundredths of a second.
        at, delay = min(place + draw.randrange(2), ITERATIONS - EPOCH), draw.uniform(0, 0.1)
        loaders = f"data.num_workers={draw.randrange(3)}"
        code, reached = run(entry, folder, *settings, loaders, at=at, delay=delay)
        assert code == -signal.SIGKILL
        assert reached >= at
        place = read_file(checkpoint(folder))["iteration"] if checkpoint(folder).exists() else 0
        assert place >= reached - every
    assert place > EPOCH
    assert run(entry, folder, *settings) == (0, ITERATIONS - 1)
    assert_same_run(folder, whole(entry))
    assert not [path for path in (folder / "checkpoints").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("entry", "number", "at", "validating", "code"),
    [
        ("train", signal.SIGTERM, 8, False, 143),
        ("train", signal.SIGTERM, EPOCH - 1, False, 143),
        ("train", signal.SIGTERM, EPOCH, True, 143),
        ("train", signal.SIGINT, 8, False, 130),
        ("search", signal.SIGTERM, EPOCH - 1, False, 143),
        ("search", signal.SIGUSR1, 8, False, 75),
        ("evolution", signal.SIGTERM, ITERATIONS - 5, False, 143),
    ],
)
def test_stopped_from_outside(entry, number, at, validating, code, whole, tmp_path):
    folder = tmp_path / entry
    assert run(entry, folder, at=at, number=number, validating=validating)[0] == code
    assert read_file(checkpoint(folder))["iteration"] == at + (not validating)
    assert run(entry, folder, "resume=auto") == (0, ITERATIONS - 1)
    assert_same_run(folder, whole(entry))


def test_an_evolution_killed_at_every_candidate(whole, tmp_path):
    folder, settings = tmp_path / "evolution", ("resume=auto",)
    for at in range(ITERATIONS - EPOCH, ITERATIONS):
        assert run("evolution", folder, *settings, at=at) == (-signal.SIGKILL, at)
        assert read_file(checkpoint(folder))["iteration"] == at
    assert run("evolution", folder, *settings) == (0, ITERATIONS - 1)
    assert_same_run(folder, whole("evolution"))


def test_loader_processes_outlive_a_signal_to_all(whole, tmp_path):
    folder, loaders = tmp_path / "train", "data.num_workers=2"
    assert run("train", folder, loaders, at=8, number=signal.SIGTERM, to_all=True)[0] == 143
    assert read_file(checkpoint(folder))["iteration"] == 9
    assert run("train", folder, loaders, "resume=auto") == (0, ITERATIONS - 1)
    assert_same_run(folder, whole("train"))


def test_continues_in_another_directory(whole, tmp_path):
    assert run("train", tmp_path / "one", at=8, number=signal.SIGTERM)[0] == 143
    assert run("train", tmp_path / "two", f"resume={tmp_path / 'one'}") == (0, ITERATIONS - 1)
    assert_same_run(tmp_path / "two", whole("train"))
    # The sum of what was trained in both: not, as where no epoch had begun, the time since the machine started.
    clock = read_file(checkpoint(tmp_path / "two"))["callbacks"]["Timekeeper"]
    assert clock["images"] == 2 * ITERATIONS
    assert clock["seconds"] < 60


def test_a_warned_slurm_job_is_queued_again(tmp_path):
    script = tmp_path / "bin" / "scontrol"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    slurm = {"SLURM_JOB_ID": "4711", "PATH": f"{script.parent}:{os.environ['PATH']}"}
    assert run("train", tmp_path / "train", at=3, number=signal.SIGUSR1, environment=slurm)[0] == 75
    assert (tmp_path / "asked").read_text() == "requeue 4711\n"
    assert read_file(checkpoint(tmp_path / "train"))["iteration"] == 4


def test_a_launcher_that_handles_the_signal_is_left_to_it(tmp_path):
    code, _ = run("train", tmp_path / "train", at=3, number=signal.SIGUSR2, scheduler_exits=33)
    assert code == 33
    assert read_file(checkpoint(tmp_path / "train"))["iteration"] == 4
