"""How many processes a job has, who starts them, and how they end.

A run by itself leaves that to Lightning, torchrun or SLURM. A job of a sweep cannot: Lightning starts further
ranks by the same command line, and each of them would walk the whole sweep. Such a job therefore starts its
processes afresh, by torchrun on the job's saved configuration.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, ListConfig

from fna_lightning.errors import ConfigError, UserError
from fna_lightning.exit_codes import INTERRUPTED, REQUEUE, TERMINATED, USER_ERROR
from fna_lightning.reporting.results import read_results
from fna_lightning.runs.entry import entry_name, friendly
from fna_lightning.runs.folder import run_folder, save_config
from fna_lightning.runs.ranks import leaving_together
from fna_lightning.runs.validation import check_types

SHUTDOWN_SECONDS = 60
"""How long processes may take to save after a signal, before they are killed; torchrun's own default is 30."""
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
# Ends that concern the whole sweep: a setting to mend, a job that was interrupted or is to be queued again.
_FINAL = (USER_ERROR, REQUEUE, INTERRUPTED, TERMINATED)


@dataclass(frozen=True)
class Outer:
    """Who started this process, where that was torchrun, SLURM or submitit.

    Attributes:
        name: for messages.
        tasks: how many processes it started for this run.
        by_submitit: whether as one job of a sweep.
        ranks: whether Lightning takes them for the ranks of one run.
    """

    name: str
    tasks: int
    by_submitit: bool = False
    ranks: bool = True


def run_job(script: str, work: Callable[[DictConfig], float], config: DictConfig) -> float:
    """Do a job, in this process or in as many fresh ones as `strategy` wants.

    Args:
        script: the entry point's file.
        work: what it does in one process.
        config: the job's settings.

    Returns:
        The job's objective, for sweeps.
    """
    from fna_lightning.runs.resume import check_resume  # which needs this file

    # On another machine or in a worker of joblib's, an exit would lose the message: Hydra carries the error home.
    with contextlib.nullcontext() if _away() else friendly():
        check_types(config, entry_name(script))
        check_resume(config, run_folder(), entry_name(script))
        outer = outer_launcher(os.environ)
        processes = processes_to_start(config.strategy, _is_multirun(), outer)
        if processes == 0:
            with _lightnings_complaints(), leaving_together():
                return work(config)
        folder = run_folder()
        save_config(config, folder)
        command = torchrun_command(script, folder, processes)
        _judge(run_forwarding(command, processes), folder)
        objective = read_results(folder)["objective"]
        return math.nan if objective is None else float(objective)


@contextlib.contextmanager
def _lightnings_complaints() -> Iterator[None]:
    """Make an error of the user's of what Lightning finds wrong with its settings."""
    try:
        yield
    except MisconfigurationException as error:
        raise ConfigError(f"trainer: {' '.join(str(error).split())}") from error


def processes_to_start(strategy: DictConfig, multirun: bool, outer: Outer | None) -> int:
    """How many fresh processes this job needs on this node; 0 where it runs in place.

    Args:
        strategy: the settings of that name.
        multirun: whether this is a job of a sweep.
        outer: who started this process.

    Raises:
        ConfigError: where `strategy` cannot be had here, or does not fit what was started.
    """
    devices, nodes = count_devices(strategy), int(strategy.num_nodes)
    wanted = devices * nodes
    asked = f"strategy.devices={_text(strategy.devices)} strategy.num_nodes={nodes}"
    if multirun and outer and outer.tasks > 1 and not outer.by_submitit:
        raise ConfigError(
            f"-m under {outer.name}: {outer.tasks} processes would each walk the whole sweep; "
            "start it by python alone, its jobs start their own processes"
        )
    if outer and outer.tasks != wanted and (outer.tasks > 1 or not multirun):
        raise ConfigError(
            f"{asked}: these are {wanted} processes, but {outer.name} started {outer.tasks}; make the two agree"
        )
    if outer and outer.tasks > 1 and not outer.ranks:
        raise ConfigError(f"{outer.name} started {outer.tasks} processes: set hydra.launcher.tasks_per_node=1")
    if not multirun or wanted == 1 or (outer and outer.tasks == wanted):
        return 0
    if nodes > 1:
        raise ConfigError(
            f"{asked}: a job of a sweep starts processes on its own node; for more nodes take "
            f"hydra/launcher=submitit_slurm hydra.launcher.nodes={nodes} hydra.launcher.tasks_per_node={devices}"
        )
    return devices


def count_devices(strategy: DictConfig) -> int:
    """Processes on each node, one per device.

    Raises:
        ConfigError: where there are not so many GPUs.
    """
    import torch

    gpus = torch.cuda.device_count()
    name, devices = str(strategy.accelerator), strategy.devices
    on_gpus = name in ("gpu", "cuda") or (name == "auto" and gpus > 0)
    if on_gpus and gpus == 0:
        raise ConfigError(f"strategy.accelerator={name}: there is no GPU here; choose strategy=single or ddp_cpu")
    count = _count(devices, gpus if on_gpus else 1)
    if on_gpus and count > gpus:
        raise ConfigError(f"strategy.devices={_text(devices)}: there are {gpus} GPUs here; give {gpus} or fewer")
    return count


def outer_launcher(environment: Mapping[str, str]) -> Outer | None:
    """Who started this process, read from what it left in the environment; None for a plain start."""
    if "TORCHELASTIC_RUN_ID" in environment:
        return Outer("torchrun", int(environment["WORLD_SIZE"]))
    executor = environment.get("SUBMITIT_EXECUTOR")
    if executor == "local":
        tasks = int(environment["SUBMITIT_LOCAL_NTASKS"])
        return Outer("submitit_local", tasks, by_submitit=True, ranks=False)
    # By these names Lightning, too, knows a shell in an allocation from a job in it.
    if "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        # Set by srun: a batch script itself is one process, whatever number of tasks it was granted.
        tasks = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
        return Outer("SLURM", tasks, by_submitit=executor == "slurm")
    return None


def torchrun_command(script: str, folder: Path, processes: int) -> list[str]:
    """The command that does the job in `folder`, as saved there, in so many processes."""
    quoted = str(folder).replace("'", r"\'")
    return [
        *(sys.executable, "-m", "fna_lightning.runs.torchrun"),
        *("--standalone", f"--nproc-per-node={processes}"),
        # The two last are SLURM's and submitit's.
        "--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1,SIGUSR2",
        str(Path(script).resolve()),
        *("--config-dir", str(folder), "--config-name", "config"),
        f"hydra.run.dir='{quoted}'",
        # Hydra's record of the job's overrides is there already.
        "hydra.output_subdir=null",
    ]


def run_forwarding(command: Sequence[str], processes: int = 1) -> int:
    """Run a command to its end, passing on the signals that this process gets meanwhile.

    Args:
        command: program and arguments.
        processes: how many it will start; they share the cores.

    Returns:
        Its exit code, 128 + the signal's number where one ended it.
    """
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    # By a variable, which releases of torch that do not know it pass over, unlike the option of that name.
    patience = str(SHUTDOWN_SECONDS)
    environment = {"OMP_NUM_THREADS": threads, "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": patience, **os.environ}
    # In a session of its own: what a terminal sends to all of a group would arrive twice.
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    with _forwarding(process):
        code = process.wait()
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _forwarding(process: subprocess.Popen[bytes]) -> Iterator[None]:
    # Only the main thread may set handlers; launchers that work in threads keep the signals to themselves.
    signals = _FORWARDED if threading.current_thread() is threading.main_thread() else ()
    previous = {number: signal.signal(number, lambda got, _: process.send_signal(got)) for number in signals}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _judge(code: int, folder: Path) -> None:
    """Pass on how a job's processes ended; they have said why.

    Raises:
        SystemExit: with their code, where it ends the sweep.
        UserError: instead, where the sweep is in another process than the job.
        RuntimeError: for a failure of this job alone.
    """
    if code == USER_ERROR and _away():
        raise UserError(f"{folder}: the job's settings or data are at fault; its log says which")
    if code in _FINAL:
        sys.exit(code)
    if code:
        raise RuntimeError(f"{folder}: the job's processes ended with exit code {code}")


def _is_multirun() -> bool:
    return HydraConfig.get().mode == RunMode.MULTIRUN


def _away() -> bool:
    """Whether this job runs in another process than its sweep."""
    return _is_multirun() and not str(HydraConfig.get().launcher._target_).endswith("BasicLauncher")


def _count(devices: int | str | ListConfig, every: int) -> int:
    """Lightning's ways of naming devices: a number, all of them (-1, "auto"), or a list of indices."""
    if isinstance(devices, ListConfig):
        return len(devices)
    if str(devices) in ("-1", "auto"):
        return every
    if isinstance(devices, str) and "," in devices:
        return len([index for index in devices.split(",") if index.strip()])
    try:
        return int(devices)
    except ValueError as error:
        raise ConfigError(
            f"strategy.devices={devices}: give a number, -1 for all, or a list of indices"
        ) from error


def _text(devices: int | str | ListConfig) -> str:
    return str(devices).replace(" ", "")
