"""How many processes a job has, who starts them, and how they end."""

import json
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict
from torch.distributed.run import parse_args

from fna_lightning.errors import ConfigError
from fna_lightning.files import CONF_DIR
from fna_lightning.runs import processes, torchrun
from fna_lightning.runs.processes import Outer

TORCHRUN = {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "16"}
SLURM = {"SLURM_NTASKS": "8", "SLURM_JOB_NAME": "search"}


@pytest.fixture
def gpus(monkeypatch):
    """gpus(n): let torch see so many."""
    return lambda number: monkeypatch.setattr(torch.cuda, "device_count", lambda: number)


def strategy(option="ddp_cpu", **settings):
    return OmegaConf.merge(OmegaConf.load(CONF_DIR / "strategy" / f"{option}.yaml"), settings)


# Who started this process


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, None),
        (TORCHRUN, Outer("torchrun", 16)),
        # torchrun inside of SLURM: its processes are what counts.
        (TORCHRUN | SLURM | {"SLURM_STEP_NUM_TASKS": "2"}, Outer("torchrun", 16)),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "8"}, Outer("SLURM", 8)),
        (SLURM, Outer("SLURM", 1)),  # the batch script itself
        (SLURM | {"SLURM_JOB_NAME": "interactive"}, None),
        (SLURM | {"SLURM_JOB_NAME": "bash"}, None),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "8", "SUBMITIT_EXECUTOR": "slurm"}, Outer("SLURM", 8, True)),
        (
            SLURM | {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_NTASKS": "3"},
            Outer("submitit_local", 3, True, ranks=False),
        ),
    ],
)
def test_outer_launcher(environment, wanted):
    assert processes.outer_launcher(environment) == wanted


# How many processes


@pytest.mark.parametrize(
    ("option", "settings", "gpus_here", "wanted"),
    [
        ("single", {}, 0, 1),
        ("single", {}, 8, 1),
        ("ddp_cpu", {}, 0, 2),
        ("ddp_cpu", {"devices": "3"}, 8, 3),
        ("ddp_cpu", {"devices": "auto"}, 8, 1),
        ("ddp", {}, 4, 4),
        ("ddp_find_unused", {}, 3, 3),
        ("ddp", {"devices": "auto"}, 4, 4),
        ("ddp", {"devices": "-1"}, 4, 4),
        ("ddp", {"devices": 2}, 4, 2),
        ("ddp", {"devices": [0, 3]}, 4, 2),
        ("ddp", {"devices": "1,"}, 4, 1),
        ("ddp", {"devices": "0,1,3"}, 4, 3),
        ("ddp", {"accelerator": "auto"}, 4, 4),
        ("ddp", {"accelerator": "auto"}, 0, 1),
    ],
)
def test_count_devices(gpus, option, settings, gpus_here, wanted):
    gpus(gpus_here)
    assert processes.count_devices(strategy(option, **settings)) == wanted


@pytest.mark.parametrize(
    ("settings", "gpus_here", "words"),
    [
        ({}, 0, ["strategy.accelerator=gpu", "no GPU", "strategy=single"]),
        ({"devices": 8}, 4, ["strategy.devices=8", "4 GPUs"]),
        ({"devices": [0, 1, 2]}, 2, ["strategy.devices=[0,1,2]", "2 GPUs"]),
        ({"devices": "many"}, 2, ["strategy.devices=many", "-1 for all"]),
    ],
)
def test_devices_that_cannot_be_had(gpus, settings, gpus_here, words):
    gpus(gpus_here)
    with pytest.raises(ConfigError) as caught:
        processes.count_devices(strategy("ddp", **settings))
    assert [word for word in words if word not in str(caught.value)] == []


SUBMITTED = Outer("SLURM", 8, by_submitit=True)


@pytest.mark.parametrize(
    ("settings", "multirun", "outer", "wanted"),
    [
        ({"devices": 2}, False, None, 0),  # Lightning starts the second one
        ({"devices": 2}, True, None, 2),
        ({"devices": 1}, True, None, 0),
        ({"devices": 4}, False, Outer("torchrun", 4), 0),
        ({"devices": 4, "num_nodes": 2}, False, Outer("torchrun", 8), 0),
        ({"devices": 4, "num_nodes": 2}, False, Outer("SLURM", 8), 0),
        ({"devices": 1}, False, Outer("SLURM", 1), 0),
        ({"devices": 8}, True, SUBMITTED, 0),  # SLURM started the ranks
        ({"devices": 4, "num_nodes": 2}, True, SUBMITTED, 0),
        ({"devices": 8}, True, Outer("SLURM", 1, by_submitit=True), 8),
        ({"devices": 8}, True, Outer("SLURM", 1), 8),  # a sweep in a batch script
        ({"devices": 2}, True, Outer("submitit_local", 1, by_submitit=True, ranks=False), 2),
    ],
)
def test_processes_to_start(settings, multirun, outer, wanted):
    assert processes.processes_to_start(strategy(**settings), multirun, outer) == wanted


@pytest.mark.parametrize(
    ("settings", "multirun", "outer", "words"),
    [
        ({"devices": 2}, False, Outer("torchrun", 4), ["strategy.devices=2", "2 processes", "torchrun started 4"]),
        ({"devices": 1}, False, Outer("torchrun", 2), ["strategy.devices=1", "torchrun started 2"]),
        ({"devices": 8}, False, Outer("SLURM", 1), ["strategy.devices=8", "SLURM started 1"]),
        ({"devices": 4}, True, SUBMITTED, ["strategy.devices=4", "SLURM started 8"]),
        ({"devices": 4}, True, Outer("torchrun", 4), ["-m under torchrun", "python alone"]),
        ({"devices": 1}, True, Outer("SLURM", 8), ["-m under SLURM", "8 processes"]),
        (
            {"devices": 2},
            True,
            Outer("submitit_local", 2, by_submitit=True, ranks=False),
            ["submitit_local started 2", "tasks_per_node=1"],
        ),
        ({"num_nodes": 2}, True, None, ["strategy.num_nodes=2", "hydra.launcher.nodes=2", "tasks_per_node=2"]),
    ],
)
def test_processes_that_do_not_fit(settings, multirun, outer, words):
    with pytest.raises(ConfigError) as caught:
        processes.processes_to_start(strategy(**settings), multirun, outer)
    assert "\n" not in str(caught.value)
    assert [word for word in words if word not in str(caught.value)] == []


# The command


@pytest.mark.parametrize("name", ["multirun/0", "a run", "it's", "lr=0.1,seed=2", "(x) #1", "back\\slash"])
def test_torchrun_command(tmp_path, name):
    folder = tmp_path / name
    program, *rest = processes.torchrun_command("train.py", folder, 4)
    assert program == sys.executable
    assert rest[:2] == ["-m", "fna_lightning.runs.torchrun"]
    read = parse_args(rest[2:])  # torchrun's own parser
    assert (read.nproc_per_node, read.standalone) == ("4", True)
    assert set(read.signals_to_handle.split(",")) >= {"SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2"}
    assert read.training_script == str(Path("train.py").resolve())
    assert read.training_script_args[:4] == ["--config-dir", str(folder), "--config-name", "config"]
    overrides = OverridesParser.create().parse_overrides(read.training_script_args[4:])
    assert {o.key_or_group: o.value() for o in overrides} == {
        "hydra.run.dir": str(folder),
        "hydra.output_subdir": None,
    }


# How they end


@pytest.mark.parametrize("code", [0, 2, 75])
def test_exit_codes_come_out(code):
    assert processes.run_forwarding([sys.executable, "-c", f"import sys; sys.exit({code})"]) == code


def test_a_process_that_was_killed():
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert processes.run_forwarding([sys.executable, "-c", kill]) == 128 + signal.SIGKILL


WAITS = """
import pathlib, signal, sys, time
for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2"):
    signal.signal(getattr(signal, name), lambda number, _: sys.exit(number + 40))
pathlib.Path(sys.argv[1]).touch()
time.sleep(30)
"""


def send_when(ready, number):
    """Send this process a signal as soon as all these files are there."""

    def wait_and_send():
        until = time.monotonic() + 60
        while not all(path.exists() for path in ready) and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=wait_and_send, daemon=True).start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_are_passed_on(tmp_path, number):
    before = signal.getsignal(number)
    send_when([tmp_path / "ready"], number)
    command = [sys.executable, "-c", WAITS, str(tmp_path / "ready")]
    assert processes.run_forwarding(command) == number + 40
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(
    ("codes", "wanted"), [([2], 2), ([-15, 143], 143), ([75, -9], 75), ([-9], 137), ([-15, -9], 143), ([1, 2], 1)]
)
def test_exit_code_of_several(codes, wanted):
    assert torchrun.exit_code(codes) == wanted


WORKER = """
import os, pathlib, signal, sys, time
folder, number = pathlib.Path(sys.argv[1]), os.environ["RANK"]
signal.signal(signal.SIGUSR1, lambda *_: ((folder / f"saved{number}").touch(), sys.exit(75)))
(folder / f"ready{number}").touch()
if len(sys.argv) > 2 and number == "1":
    sys.exit(int(sys.argv[2]))
time.sleep(30)
"""


def torchrun_of(tmp_path, *arguments):
    (tmp_path / "worker.py").write_text(WORKER)
    command = processes.torchrun_command("worker.py", tmp_path, 2)
    options = command[: command.index(str(Path("worker.py").resolve()))]
    return [*options, str(tmp_path / "worker.py"), str(tmp_path), *arguments]


def test_torchrun_passes_slurms_signal_on_and_waits(tmp_path):
    send_when([tmp_path / "ready0", tmp_path / "ready1"], signal.SIGUSR1)
    assert processes.run_forwarding(torchrun_of(tmp_path), 2) == 75
    assert (tmp_path / "saved0").exists()
    assert (tmp_path / "saved1").exists()


def test_torchrun_exits_as_its_processes_did(tmp_path, capfd):
    assert processes.run_forwarding(torchrun_of(tmp_path, "2"), 2) == 2
    assert "Traceback" not in capfd.readouterr().err


# A job of a sweep


@pytest.fixture
def job(tmp_path, monkeypatch):
    """job(code, objective): a job of a sweep of two processes, which end with `code` and leave results."""

    def run(code, objective=0.5, launcher="basic_launcher.BasicLauncher"):
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            config = compose("train", ["strategy=ddp_cpu", "random_seed=7"], return_hydra_config=True)
        with open_dict(config.hydra):
            config.hydra.mode = RunMode.MULTIRUN
            config.hydra.runtime.output_dir = str(tmp_path)
            config.hydra.job.name = "train"
            config.hydra.launcher._target_ = f"somewhere.{launcher}"

        def ended(command, number):
            assert number == 2
            assert f"--config-dir {tmp_path}" in " ".join(command)
            saved = OmegaConf.load(tmp_path / "config.yaml")
            assert (saved.random_seed, saved.strategy.devices) == (7, 2)
            sections = {"metrics": {}, "cost": {}, "time": {}, "memory": {}, "software": {}}
            (tmp_path / "results.json").write_text(json.dumps({**sections, "objective": objective}))
            return code

        monkeypatch.setattr(processes, "run_forwarding", ended)
        monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        return processes.run_job("train.py", lambda _: pytest.fail("ran in this process"), config)

    return run


def test_a_job_returns_its_objective(job):
    assert job(0) == 0.5
    assert math.isnan(job(0, objective=None))


@pytest.mark.parametrize("code", [2, 75, 130, 143])
def test_ends_that_concern_the_whole_sweep(job, code):
    with pytest.raises(SystemExit) as ended:
        job(code)
    assert ended.value.code == code


def test_a_job_that_fails_leaves_the_sweep_going(job):
    with pytest.raises(RuntimeError, match="exit code 1"):
        job(1)


def test_errors_travel_home_from_other_processes(job, tmp_path):
    from fna_lightning.errors import UserError

    with pytest.raises(UserError, match=str(tmp_path)):
        job(2, launcher="submitit_launcher.LocalLauncher")
