"""Tables on the terminal: the last lines of a run, and several runs side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fna_lightning.reporting.results import monitored
from fna_lightning.reporting.units import (
    MISSING,
    NOTHING_TO_FIND,
    bytes_text,
    count_text,
    metric_text,
    rate_text,
    seconds_text,
)

_FILES = {
    "report.html": "the report, for a browser",
    "results.json": "these figures",
    "architecture.yaml": "the network",
    "candidates.csv": "all networks that were scored",
    "finalists.csv": "those that were trained and compared",
    "detections.json": "all boxes, as a COCO results file",
    "predictions": "label files, and the same in colours",
    "checkpoints": "its parameters",
    "metrics.csv": "all figures over time",
    "config.yaml": "the settings, enough to run again",
}
"""What of a run directory is worth a line, and why."""


@dataclass(frozen=True)
class RunRow:
    """One run among several.

    Attributes:
        label: what sets it apart.
        madds: multiply-adds of one image.
        params: parameters.
        metrics: what runs are compared by, larger is better (smaller where the name says loss or error).
        failed: it left no results.
    """

    label: str
    madds: float | None = None
    params: float | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    failed: bool = False

    @classmethod
    def of(cls, label: str, results: Mapping[str, Any]) -> RunRow:
        """The row of a run's `results.json`, with its monitored metric."""
        name = monitored(results["metrics"])
        cost = results["cost"]
        metrics = {} if name is None else {name: results["metrics"][name]}
        return cls(label, cost.get("madds"), cost.get("params"), metrics)


def print_summary(
    folder: str | os.PathLike[str],
    results: Mapping[str, Any],
    next_command: str | None,
    console: Console | None = None,
    remark: str | None = None,
) -> None:
    """Print the last lines of a run: its result, where the files are, and what to type next.

    Args:
        folder: the run directory.
        results: as `write_results` returns them.
        next_command: printed alone on a line, whole, so that it can be copied; None for none.
        console: where to print; standard output if not given.
        remark: what the figures do not say by themselves, behind them.
    """
    console = console or Console()
    console.print()
    console.print(summary_table(results))
    if remark:
        _plain_line(console, f"{remark}\n")
    folder = Path(folder)
    _plain_line(console, f"Files in {relative_path(folder)}{os.sep}")
    present = {name: why for name, why in _FILES.items() if (folder / name).exists()}
    width = max((len(name) for name in present), default=0)
    for name, why in present.items():
        _plain_line(console, f"  {name:<{width}}  {why}")
    if next_command:
        _plain_line(console, "\nNext:")
        _plain_line(console, next_command)


def summary_table(results: Mapping[str, Any]) -> Table:
    """Metrics, cost, time and memory of one run, one figure a line; the monitored metric in bold."""
    table = Table(title=f"Result of {results.get('entry', 'the run')}", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right", overflow="fold")
    first = monitored(results["metrics"])
    for name, value in results["metrics"].items():
        table.add_row(Text(name), metric_text(value), style="bold" if name == first else "")
    table.add_section()
    for name, text in cost_lines(results):
        table.add_row(name, text)
    return table


def cost_lines(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value with unit) of what a run and its network cost, and of what was not used."""
    cost, time, memory = results["cost"], results["time"], results["memory"]
    size = cost.get("input_size")
    at = f" at {'x'.join(str(length) for length in size)}" if isinstance(size, list) else ""
    verb = "evaluation" if results.get("entry") == "evaluate" else "training"
    return [
        (f"multiply-adds{at}", count_text(cost.get("madds"))),
        *(_share_line(share) for share in cost.get("shares", ())),
        ("parameters", count_text(cost.get("params"))),
        (f"{verb} time", seconds_text(time.get("training_seconds"))),
        ("images per second", rate_text(time.get("images_per_second"))),
        (f"peak memory ({memory.get('device') or 'unknown'})", bytes_text(memory.get("peak_bytes"))),
        *((f"left out: {what}", f"{number:,}") for what, number in results.get("left_out", {}).items()),
    ]


def _share_line(share: Mapping[str, Any]) -> tuple[str, str]:
    """What runs several times an image, as a part of the line above."""
    return f"of it {share['number']:,} {share['what']}", count_text(share["number"] * share["madds"])


def runs_table(rows: Sequence[RunRow], title: str | None = None) -> Table:
    """Several runs in one table, the best value of every column in bold."""
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("run", overflow="fold")
    for name in ("multiply-adds", "parameters", *names):
        table.add_column(Text(name), justify="right", no_wrap=name not in names, overflow="fold")
    columns = [
        _cells([row.madds for row in rows], count_text, smaller=True),
        _cells([row.params for row in rows], count_text, smaller=True),
        *(_cells([row.metrics.get(name) for row in rows], metric_text, smaller=_smaller(name)) for name in names),
    ]
    for number, row in enumerate(rows):
        label = Text(row.label)
        if row.failed:
            table.add_row(label, Text("failed", style="red"), *[MISSING] * (len(columns) - 1))
        else:
            table.add_row(label, *(column[number] for column in columns))
    return table


def relative_path(path: str | os.PathLike[str]) -> str:
    """`path` as seen from the working directory where it lies in it, else absolute."""
    absolute = Path(path).absolute()
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)


def _cells(values: Sequence[float | None], text: Any, *, smaller: bool) -> list[Text]:
    """One column; bold is what is best, where there is anything to choose between."""
    known = [value for value in values if value is not None and value != NOTHING_TO_FIND]
    best = (min(known) if smaller else max(known)) if len(set(known)) > 1 else None
    return [Text(text(value), style="bold" if best is not None and value == best else "") for value in values]


def _smaller(name: str) -> bool:
    return "loss" in name.lower() or "error" in name.lower()


def _plain_line(console: Console, text: str) -> None:
    """One line as it is: rich would break long paths, colour numbers and read square brackets as markup."""
    console.print(text, soft_wrap=True, markup=False, highlight=False)
