"""What the processes of one run settle among themselves outside training: their directory, and who speaks.

Hydra imports this module at every start, so torch is imported where it is used.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

_TORCHRUN = "TORCHELASTIC_RUN_ID"
_PATIENCE = timedelta(seconds=10)


def rank() -> int:
    """This process's number among those of its run, 0 for the first and where there is only one."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


class OneDirectory(Callback):
    """Hydra callback: all processes that torchrun or srun started write to one run directory.

    Each composes `${now:...}` by itself, and may do so in another second. Under torchrun the process that comes
    first decides for all, also for processes that are started again. Under srun the numbers of job and step stand
    where the time would, so that a job that is queued again returns to its directory.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Settle `hydra.run.dir`, and leave Hydra's own files to the first process."""
        with read_write(config.hydra), open_dict(config.hydra):
            if _TORCHRUN in os.environ:
                folder = first_said("run.dir", str(config.hydra.run.dir))
            elif int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
                run = cast("dict[str, str]", OmegaConf.to_container(config.hydra.run))
                number = f"job_{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}"
                config.hydra.run.dir = re.sub(r"\$\{now:[^}]*\}", number, run["dir"])
                folder = str(config.hydra.run.dir)
            else:
                return
            config.hydra.run.dir = folder
            if rank() > 0:
                config.hydra.output_subdir = None
                config.hydra.job.name = f"{config.hydra.job.name}_rank_{rank()}"


@contextlib.contextmanager
def leaving_together() -> Iterator[None]:
    """Give up this process's place among its ranks once all have done their work or agreed to stop.

    Threads of gloo's that still live when the interpreter ends can abort a process whose work is done, and with it
    the others and the exit code. After an error this is not tried: other ranks may never answer what is pending.
    """
    try:
        yield
    except SystemExit:
        _leave()
        raise
    _leave()


def _leave() -> None:
    from torch.distributed import destroy_process_group, is_initialized

    if is_initialized():
        destroy_process_group()


def is_first_to_say(line: str) -> bool:
    """Whether this process should report an error, because no other one of its run has reported the same."""
    me = str(rank())
    return first_said(f"error/{os.environ.get('TORCHELASTIC_RESTART_COUNT')}/{line}", me) == me


def first_said(key: str, value: str) -> str:
    """What the first process of the run to ask said of `key`; `value` where processes cannot reach each other."""
    store = _store()
    if store is None:
        return value
    return store.compare_set(f"fna_lightning/{os.environ.get(_TORCHRUN)}/{key}", "", value).decode()


def _store() -> TCPStore | None:
    """The store at which the ranks meet: torchrun's from the start, else that of a process group that is up."""
    if _TORCHRUN not in os.environ and "torch" not in sys.modules:
        return None
    from torch.distributed import TCPStore, is_initialized  # pyright: ignore[reportPrivateImportUsage]

    if _TORCHRUN not in os.environ and not is_initialized():
        return None
    try:
        return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=_PATIENCE)
    except (KeyError, RuntimeError):
        return None  # whoever held it has ended
