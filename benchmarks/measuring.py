"""What the benchmarks of this folder measure with."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch


class Runs:
    """Runs of the entry points in one folder. What is finished is not run again, what was interrupted goes on.

    Args:
        folder: of all of them.
        overrides: settings of every search and training.
    """

    def __init__(self, folder: Path, overrides: Sequence[str] = ()) -> None:
        self.folder = folder
        self._overrides = [*overrides, "resume=auto", "trainer.enable_progress_bar=false"]

    def run(self, entry: str, place: str, *overrides: str) -> None:
        """`<entry>.py` with these settings, into the directory `place`."""
        if (self.folder / place / "results.json").exists():
            return
        more = [] if entry == "evaluate" else self._overrides
        command = [sys.executable, f"{entry}.py", *overrides, *more, f"hydra.run.dir={self.folder / place}"]
        print(" ".join(command[1:]), flush=True)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def results(self, place: str) -> dict[str, Any]:
        """What the run in `place` wrote down."""
        return json.loads((self.folder / place / "results.json").read_text())


def seconds_in_turn(calls: Mapping[str, Callable[[], Any]], repeats: int, device: str) -> dict[str, float]:
    """Median seconds of each call, measured in turn so that a busy machine slows all alike."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            wait(device)
            start = time.perf_counter()
            call()
            wait(device)
            if repeat:  # the first round warms up
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def memory_in_own_process(name: str) -> int:
    """What this script prints when it is started again for `name` alone, by the option --memory-of."""
    command = [sys.executable, *sys.argv, "--memory-of", name]
    return int(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def peak_resident() -> int:
    """Bytes at the peak of this process; unlike getrusage's, not inherited from the one that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def peak_of(call: Callable[[], Any], device: str) -> int:
    """Bytes at the peak of two calls: allocated on the GPU, or resident beyond what was there before."""
    before = peak_resident()
    for _ in range(2):
        call()
    return torch.cuda.max_memory_allocated() if device == "cuda" else peak_resident() - before


def wait(device: str) -> None:
    """Let the device finish what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def machine(device: str) -> str:
    """What is measured on, for a table's heading."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} threads on {platform.machine()}"
