"""What the processes of one run settle among themselves."""

import contextlib
import os
from datetime import timedelta

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import distributed
from torch.distributed import HashStore, TCPStore

from fna_lightning.files import CONF_DIR
from fna_lightning.runs import ranks

OUTSIDE = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "TORCHELASTIC_RUN_ID")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in OUTSIDE:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch.setenv


@pytest.fixture
def torchrun(environment):
    """torchrun's store, and what it puts into the environment."""
    store = TCPStore("localhost", 0, is_master=True)
    for name, value in {"TORCHELASTIC_RUN_ID": "a", "MASTER_ADDR": "localhost", "MASTER_PORT": store.port}.items():
        environment(name, str(value))
    yield
    del store  # until then it answers


def settled(run_dir, entry="train"):
    """(run directory, Hydra's folder in it, job name) after the callback, for a configuration of this moment."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose(entry, [f"hydra.run.dir={run_dir}"], return_hydra_config=True)
    config.hydra.job.name = entry
    OmegaConf.set_readonly(config.hydra, True)
    ranks.OneDirectory().on_run_start(config)
    return config.hydra.run.dir, config.hydra.output_subdir, config.hydra.job.name


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, 0),
        ({"LOCAL_RANK": "1"}, 1),
        ({"SLURM_PROCID": "9", "SLURM_LOCALID": "1"}, 9),
        ({"RANK": "5", "LOCAL_RANK": "1", "SLURM_PROCID": "0"}, 5),
    ],
)
def test_rank(environment, given, wanted):
    for name, value in given.items():
        environment(name, value)
    assert ranks.rank() == wanted


@pytest.mark.usefixtures("torchrun")
def test_the_first_one_decides(environment):
    assert [ranks.first_said("a", value) for value in ("x", "y", "x")] == ["x", "x", "x"]
    assert ranks.first_said("b", "y") == "y"
    environment("TORCHELASTIC_RUN_ID", "another")
    assert ranks.first_said("a", "z") == "z"


def test_alone_everybody_decides_for_itself(environment, monkeypatch):
    assert [ranks.first_said("a", value) for value in ("x", "y")] == ["x", "y"]
    # A store that has ended with whoever held it.
    monkeypatch.setattr(ranks, "_PATIENCE", timedelta(seconds=0.1))
    store = TCPStore("localhost", 0, is_master=True)
    port = store.port
    del store
    for name, value in {"TORCHELASTIC_RUN_ID": "a", "MASTER_ADDR": "localhost", "MASTER_PORT": port}.items():
        environment(name, str(value))
    assert ranks.first_said("a", "z") == "z"


@pytest.mark.usefixtures("torchrun")
def test_one_directory_under_torchrun(environment):
    environment("RANK", "1")
    second = settled("runs/${now:%H-%M-%S.%f}-${hydra.job.name}-1")
    environment("RANK", "0")
    first = settled("runs/${now:%H-%M-%S.%f}-${hydra.job.name}-0")
    assert second[0].endswith("-train-1")
    assert first == (second[0], ".hydra", "train")
    assert second[1:] == (None, "train_rank_1")


def test_one_directory_under_srun(environment):
    for name, value in {"SLURM_STEP_NUM_TASKS": "8", "SLURM_JOB_ID": "41", "SLURM_STEP_ID": "2"}.items():
        environment(name, value)
    found = []
    for number in ("0", "7"):
        environment("SLURM_PROCID", number)
        found.append(settled("outputs/${hydra.job.name}/${now:%Y-%m-%d_%H-%M-%S}"))
    assert found == [
        ("outputs/train/job_41.2", ".hydra", "train"),
        ("outputs/train/job_41.2", None, "train_rank_7"),
    ]
    assert settled("fixed")[0] == "fixed"


def test_a_run_of_its_own_is_left_alone():
    assert settled("fixed") == ("fixed", ".hydra", "train")


@pytest.mark.usefixtures("torchrun")
def test_an_error_is_said_once(environment):
    said = []
    for number, line in [("1", "a is wrong"), ("0", "a is wrong"), ("2", "b is wrong"), ("0", "b is wrong")]:
        environment("RANK", number)
        said.append(ranks.is_first_to_say(line))
    assert said == [True, False, True, False]
    environment("TORCHELASTIC_RESTART_COUNT", "1")
    assert ranks.is_first_to_say("a is wrong")


def test_an_error_of_a_single_process_is_said():
    assert "TORCHELASTIC_RUN_ID" not in os.environ
    assert ranks.is_first_to_say("a is wrong")
    assert ranks.is_first_to_say("a is wrong")


@pytest.mark.parametrize(("ending", "left"), [(None, True), (SystemExit(75), True), (RuntimeError("lost"), False)])
def test_a_group_ends_with_the_work_and_with_an_agreed_stop_alone(ending, left):
    distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        with pytest.raises(type(ending)) if ending else contextlib.nullcontext(), ranks.leaving_together():
            if ending:
                raise ending
        assert distributed.is_initialized() != left
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def test_work_without_a_group_ends_as_ever():
    with ranks.leaving_together():
        pass
