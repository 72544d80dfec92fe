"""One table and one picture at the end of a sweep.

Hydra imports this module at every start, so what draws and prints is imported where it is used.
"""

from __future__ import annotations

import atexit
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra.experimental.callback import Callback

from fna_lightning.errors import UserError
from fna_lightning.files import write_text
from fna_lightning.reporting.results import monitored, read_results
from fna_lightning.reporting.units import NOTHING_TO_FIND

if TYPE_CHECKING:
    from omegaconf import DictConfig

_OVERRIDES = Path(".hydra") / "overrides.yaml"


QUOTE = "'"


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        name: its folder in the sweep directory.
        overrides: what it was called with, `key=value` each.
        results: its `results.json`; None where it failed.
    """

    name: str
    overrides: tuple[str, ...]
    results: dict[str, Any] | None


class SweepSummary(Callback):
    """Hydra callback: at the end of a multirun prints all jobs in one table, writes `sweep.csv` and `pareto.png`.

    Hydra's own sweeper raises as soon as a job has failed and then calls no callback any more; the
    summary is then made when the process ends, so that one failed job does not cost the table of the others.
    """

    def __init__(self) -> None:
        self._pending: DictConfig | None = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Remember that a summary is due."""
        # When the process ends, threads and what needs them can no longer be imported.
        import fna_lightning.reporting.pictures
        import fna_lightning.reporting.tables  # noqa: F401

        self._pending = config
        atexit.register(self._finish)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Summarise the sweep directory."""
        self._pending = config
        atexit.unregister(self._finish)
        self._finish()

    def _finish(self) -> None:
        config, self._pending = self._pending, None
        if config is not None:
            summarise(Path(config.hydra.sweep.dir))


def summarise(folder: Path) -> None:
    """Print the table of all jobs below a sweep directory and write its files, if there is any job."""
    jobs = read_jobs(folder)
    if not jobs:
        return
    from rich.console import Console

    from fna_lightning.reporting.tables import RunRow, relative_path, runs_table

    labels = job_labels(jobs)
    rows = [
        RunRow(label, failed=True) if job.results is None else RunRow.of(label, job.results)
        for job, label in zip(jobs, labels, strict=True)
    ]
    write_text(folder / "sweep.csv", _csv(jobs))
    written = ["sweep.csv", *_draw(folder, jobs, labels)]
    console = Console()
    console.print()
    console.print(runs_table(rows, title=f"Sweep of {len(jobs)} jobs"))
    for name in written:
        console.print(relative_path(folder / name), soft_wrap=True, markup=False, highlight=False)
    best = _best_trained(jobs)
    if best is not None:
        command = f"python evaluate.py checkpoint={relative_path(folder / best)}"
        console.print(f"\nNext:\n{command}", soft_wrap=True, markup=False, highlight=False)


def read_jobs(folder: Path) -> list[Job]:
    """All jobs below a sweep directory, 2 before 10."""
    places = [path.parent.parent for path in folder.rglob(str(_OVERRIDES))]
    names = sorted((place.relative_to(folder).as_posix() for place in places), key=_natural)
    return [Job(name, _overrides(folder / name), _results(folder / name)) for name in names]


def job_labels(jobs: Sequence[Job]) -> list[str]:
    """The overrides in which a job differs from another, joined; its folder where that says nothing."""
    common = set(jobs[0].overrides).intersection(*(job.overrides for job in jobs)) if len(jobs) > 1 else set()
    labels = [" ".join(_typed(text) for text in job.overrides if text not in common) for job in jobs]
    return [
        label if label and labels.count(label) == 1 else f"{label} (job {job.name})".strip()
        for job, label in zip(jobs, labels, strict=True)
    ]


def _typed(override: str) -> str:
    """As a user types it: the short form of an architecture's path, without quotes that nothing needs."""
    key, value = _key_value(override)
    return f"{'architecture' if key == 'architecture.path' else key}={value.strip(QUOTE)}"


def _best_trained(jobs: Sequence[Job]) -> str | None:
    """The folder of the best of several trained networks."""
    scores: dict[str, float] = {}
    for job in jobs:
        if job.results is not None and job.results.get("entry") == "train":
            value = job.results["metrics"].get(monitored(job.results["metrics"]))
            if value is not None:
                scores[job.name] = value
    return max(scores, key=scores.__getitem__) if scores else None


def _overrides(folder: Path) -> tuple[str, ...]:
    try:
        read = yaml.safe_load((folder / _OVERRIDES).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return ()
    return tuple(str(text) for text in read) if isinstance(read, list) else ()


def _results(folder: Path) -> dict[str, Any] | None:
    try:
        return read_results(folder)
    except UserError:
        return None


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _csv(jobs: Sequence[Job]) -> str:
    """One row a job: overrides in columns of their own, then cost, time and every metric."""
    settings = [dict(_key_value(text) for text in job.overrides) for job in jobs]
    keys = list(dict.fromkeys(key for row in settings for key in row))
    finished = [job.results for job in jobs if job.results is not None]
    metrics = list(dict.fromkeys(name for results in finished for name in results["metrics"]))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["job", "status", *keys, "madds", "params", "training_seconds", *metrics])
    for job, row in zip(jobs, settings, strict=True):
        results = job.results or {"cost": {}, "time": {}, "metrics": {}}
        figures = [results["cost"].get("madds"), results["cost"].get("params")]
        figures += [results["time"].get("training_seconds"), *(results["metrics"].get(name) for name in metrics)]
        status = "failed" if job.results is None else "finished"
        writer.writerow([job.name, status, *(row.get(key, "") for key in keys), *figures])
    return buffer.getvalue()


def _key_value(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key.lstrip("+~"), value


def _draw(folder: Path, jobs: Sequence[Job], labels: Sequence[str]) -> list[str]:
    """Write `pareto.png` where a job has both a cost and the metric; return what was written."""
    finished = [(label, job.results) for label, job in zip(labels, jobs, strict=True) if job.results is not None]
    name = next(filter(None, (monitored(results["metrics"]) for _, results in finished)), None)
    points = [(label, results["cost"].get("madds"), results["metrics"].get(name)) for label, results in finished]
    points = [point for point in points if None not in point and point[2] != NOTHING_TO_FIND]
    if not points:
        return []
    from fna_lightning.reporting.pictures import draw_pareto, save_picture

    save_picture(draw_pareto(points, metric_name=str(name)), folder / "pareto.png")
    return ["pareto.png"]


if __name__ == "__main__":
    import sys

    summarise(Path(sys.argv[1]))
