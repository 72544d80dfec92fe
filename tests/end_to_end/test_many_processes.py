"""Entry points in several processes: sweeps of such jobs, and ranks that somebody else started."""

import contextlib
import csv
import json
import multiprocessing
import os
from pathlib import Path

import pytest
from entries import CLASSIFICATION, TOP, start
from omegaconf import OmegaConf
from torch.distributed import TCPStore

SMALL = (*CLASSIFICATION, "data.root=set")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The processes that a sweep starts import what this one does.
    monkeypatch.setenv("PYTHONPATH", str(TOP))


def finished(sweep):
    """(status, overridden value) of every job, as the sweep's table has them."""
    with (sweep / "sweep.csv").open(newline="") as file:
        return [(row["status"], row["random_seed"], row["strategy"]) for row in csv.DictReader(file)]


def assert_two_processes_finished(folder, random_seed):
    saved = OmegaConf.load(folder / "config.yaml")
    assert (saved.random_seed, saved.strategy.devices) == (random_seed, 2)
    results = json.loads((folder / "results.json").read_text())
    assert results["objective"] == results["metrics"]["accuracy"]
    # The second rank kept to the first one's directory, and left Hydra's record of the job alone.
    assert (folder / "train.log").exists()
    assert (folder / "train_rank_1.log").exists()
    assert f"random_seed={random_seed}" in (folder / ".hydra" / "overrides.yaml").read_text()


def test_a_sweep_on_a_launcher_of_its_own(tmp_path):
    settings = ("strategy=ddp_cpu", "random_seed=1,2", "hydra/launcher=submitit_local", "hydra.sweep.dir=sweep")
    start("train", "-m", *SMALL, *settings)
    for number in (0, 1):
        assert_two_processes_finished(tmp_path / "sweep" / str(number), number + 1)
    assert finished(tmp_path / "sweep") == [("finished", "1", "ddp_cpu"), ("finished", "2", "ddp_cpu")]


def test_a_sweep_of_jobs_with_and_without_processes_of_their_own(tmp_path):
    start("train", "-m", *SMALL, "strategy=single,ddp_cpu", "random_seed=3", "hydra.sweep.dir=sweep")
    assert OmegaConf.load(tmp_path / "sweep" / "0" / "config.yaml").strategy.devices == 1
    assert not list((tmp_path / "sweep" / "0").glob("*_rank_*.log"))
    assert_two_processes_finished(tmp_path / "sweep" / "1", 3)
    assert finished(tmp_path / "sweep") == [("finished", "3", "single"), ("finished", "3", "ddp_cpu")]


def one_rank(number, environment, folder):
    """What torchrun would start as one rank, with a setting of its own."""
    os.environ.update(environment, RANK=str(number), LOCAL_RANK=str(number))
    os.chdir(folder)
    with Path(f"stderr_{number}").open("w") as file, contextlib.redirect_stderr(file):
        start("train", *SMALL, "strategy=ddp_cpu", f"optimizer.lr=0.{number + 1}")


def test_ranks_that_differ_end_together(tmp_path):
    """One directory, one message, and exit code 2 of each."""
    # Forked from a process that has imported everything: a start takes a second instead of five.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fna_lightning.runs.train", "albumentations"])
    store = TCPStore("localhost", 0, is_master=True)
    environment = {
        "TORCHELASTIC_RUN_ID": "a",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(store.port),
        "WORLD_SIZE": "2",
        "GROUP_RANK": "0",
    }
    ranks = [context.Process(target=one_rank, args=(number, environment, tmp_path)) for number in (0, 1)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    said = "".join((tmp_path / f"stderr_{number}").read_text() for number in (0, 1))
    assert [process.exitcode for process in ranks] == [2, 2], said
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "optimizer.lr=0.1 on rank 0, 0.2 on rank 1" in error
    (folder,) = (tmp_path / "outputs" / "train").iterdir()
    assert {path.name for path in folder.glob("*.log")} == {"train.log", "train_rank_1.log"}
    assert not (folder / "results.json").exists()
