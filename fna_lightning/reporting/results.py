"""`results.json`: what a run reached, what it cost and what it ran on."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fna_lightning
from fna_lightning.errors import UserError
from fna_lightning.files import write_text

if TYPE_CHECKING:
    from fna_lightning.costs.counter import Cost

FILE_NAME = "results.json"
MACHINE_KEYS = ("paths", "hydra")
"""Top-level keys of a configuration that say where a run lies, not what it computes."""
MONITORED = ("mAP", "mIoU", "accuracy")
"""Metrics by which runs are compared, the first that is there."""
_SECTIONS = ("metrics", "cost", "time", "memory", "software")


def write_results(
    folder: str | os.PathLike[str],
    *,
    entry: str,
    metrics: Mapping[str, float],
    cost: Cost | None,
    input_size: Sequence[int] | None,
    seconds: float,
    images: int,
    config: Mapping[str, Any],
    objective: float | None = None,
    left_out: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Write `results.json` into a run directory, whole or not at all.

    Args:
        folder: the run directory.
        entry: "search", "train" or "evaluate".
        metrics: final scores; NaN and infinity become null.
        cost: of one image, where it was counted.
        input_size: (H, W) in pixels at which it was counted.
        seconds: of training (of evaluation, where nothing was trained), by the wall clock.
        images: how many were processed in these seconds.
        config: the resolved configuration.
        objective: the one figure that a sweep compares runs by.
        left_out: what of the data set was not used, in words, and how often.

    Returns:
        What `read_results` will read.
    """
    results = {
        "entry": entry,
        "metrics": dict(metrics),
        "objective": objective,
        "left_out": dict(left_out or {}),
        "cost": {
            "madds": cost.madds if cost else None,
            "params": cost.params if cost else None,
            "input_size": list(input_size) if input_size else None,
            **({"shares": [share._asdict() for share in cost.shares]} if cost and cost.shares else {}),
        },
        "time": {
            "training_seconds": float(seconds),
            "images_per_second": images / seconds if seconds > 0 else None,
        },
        "memory": _memory(),
        "software": _software(),
        "config_hash": config_hash(config),
    }
    text = json.dumps(_plain(results, finite=True), indent=2, allow_nan=False)
    write_text(Path(folder) / FILE_NAME, f"{text}\n")
    return json.loads(text)


def read_results(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the `results.json` of a run directory.

    Raises:
        UserError: naming the file, where it is missing or was not written by `write_results`.
    """
    path = Path(folder) / FILE_NAME
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file: the run has not finished, or this is no run directory") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}): run again to write it anew") from error
    if not isinstance(results, dict):
        raise UserError(f"{path}: holds no mapping: run again to write it anew")
    for key in _SECTIONS:
        if not isinstance(results.get(key), dict):
            raise UserError(f"{path}: {key} is {results.get(key)!r}, not a mapping: run again to write it anew")
    _check_numbers(path, results)
    return results


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of a resolved configuration, the same for any order of keys and any place of the run."""
    kept = {str(key): value for key, value in config.items() if str(key) not in MACHINE_KEYS}
    text = json.dumps(_plain(kept), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def monitored(metrics: Mapping[str, Any]) -> str | None:
    """The key by which runs are compared: mAP, mIoU or accuracy, else the first; None without any."""
    return next((name for name in MONITORED if name in metrics), next(iter(metrics), None))


def _check_numbers(path: Path, results: Mapping[str, Any]) -> None:
    figures = {f"metrics.{name}": value for name, value in results["metrics"].items()}
    figures |= {f"cost.{name}": results["cost"].get(name) for name in ("madds", "params")}
    figures |= {f"time.{name}": results["time"].get(name) for name in ("training_seconds", "images_per_second")}
    figures["memory.peak_bytes"] = results["memory"].get("peak_bytes")
    for name, value in figures.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise UserError(f"{path}: {name} is {value!r}, not a number: run again to write it anew")


def _plain(value: Any, *, finite: bool = False) -> Any:
    """Mappings, lists and scalars that JSON knows; anything else as its text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, finite=finite) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) or not finite else None
    if isinstance(value, Sequence):
        return [_plain(item, finite=finite) for item in value]
    # Zero-dimensional tensors and NumPy's numbers.
    return _plain(value.item(), finite=finite) if hasattr(value, "item") else str(value)


def _memory() -> dict[str, Any]:
    """Peak of this process: of the busiest GPU where one was used, else of main memory."""
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        peak = max(torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count()))
        if peak:
            return {"peak_bytes": peak, "device": "cuda"}
    try:
        import resource
    except ImportError:  # Windows
        return {"peak_bytes": None, "device": "cpu"}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak_bytes": peak if sys.platform == "darwin" else peak * 1024, "device": "cpu"}


def _software() -> dict[str, Any]:
    versions = {name: _version(name) for name in ("torch", "torchvision", "lightning")}
    return {
        "fna_lightning": fna_lightning.__version__,
        "python": platform.python_version(),
        **versions,
        "device": _device_name(),
        "git_revision": _git_revision(),
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _device_name() -> str:
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine() or "cpu"


def _git_revision() -> str | None:
    """Revision of the checkout this package runs from, with `-dirty` where files were changed."""
    root = Path(fna_lightning.__file__).resolve().parents[1]
    # An installed package may lie inside somebody else's checkout, whose revision says nothing of it.
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
