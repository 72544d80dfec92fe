"""What `metrics.csv` holds, over the iterations."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fna_lightning.reporting.pictures.style import (
    COLOURS,
    FAINT,
    INK,
    SMALL,
    counts_on,
    literal,
    new_figure,
    plain,
)
from fna_lightning.reporting.results import monitored
from fna_lightning.reporting.series import Series, read_series, smoothed
from fna_lightning.reporting.units import NOTHING_TO_FIND

_PHASES = {"train": "Training", "weight": "Weight steps", "arch": "Architecture steps"}
_SEARCH = {
    "entropy": "Entropy of choices (1: undecided)",
    "skip_share": "Mean probability of skip",
    "expected_madds": "Expected multiply-adds",
    "expected_params": "Expected parameters",
    "best": "Best score of a candidate",
    "feasible_share": "Drawn candidates within the limits",
}
_SMOOTH_FROM = 100
"""Points from which on a noisy loss is drawn as its moving mean."""


def draw_curves(metrics_csv: str | os.PathLike[str]) -> list[Figure]:
    """Losses, validation metric, and the state of a search, as far as the file holds them.

    Args:
        metrics_csv: as Lightning's CSVLogger writes it.

    Returns:
        One figure for each of these that there is; none for a file that is missing or empty.
    """
    series = read_series(os.fspath(metrics_csv))
    return [figure for draw in (_losses, _validation, _search) if (figure := draw(series)) is not None]


def _group(series: Mapping[str, Series], prefix: str) -> dict[str, Series]:
    """The columns `prefix/<name>` by name; an epoch's mean is left out where there are the steps."""
    start = f"{prefix}/"
    found = {name[len(start) :]: column for name, column in series.items() if name.startswith(start)}
    means = {f"{name}_epoch" for name in found}
    return {name: column for name, column in found.items() if name not in means}


def _losses(series: Mapping[str, Series]) -> Figure | None:
    phases = {phase: group for phase in _PHASES if (group := _group(series, phase))}
    if not phases:
        return None
    figure = new_figure(4.6 * max(len(phases), 1.5), 3.0)
    grid = figure.subplots(1, len(phases), squeeze=False)[0]
    for axes, (phase, group) in zip(grid, phases.items(), strict=True):
        plain(axes, f"{_PHASES[phase]}: loss", "iteration", "loss")
        # The sum last, so that it lies on top.
        for number, name in enumerate(sorted(group, key=lambda name: name == "loss")):
            _draw_loss(axes, name, group[name], INK if name == "loss" else COLOURS[number % len(COLOURS)])
        if len(group) > 1:
            axes.legend(fontsize=SMALL, frameon=False)
    return figure


def _draw_loss(axes: Axes, name: str, column: Series, colour: str) -> None:
    """A loss; a long one as its moving mean over a faint trace."""
    width = 1.8 if name == "loss" else 1.2
    values = np.where(np.isfinite(column.values), column.values, np.nan)
    if len(values) < _SMOOTH_FROM:
        marker = "o" if len(values) == 1 else ""
        axes.plot(column.iterations, values, color=colour, linewidth=width, label=literal(name), marker=marker)
        return
    axes.plot(column.iterations, values, color=colour, linewidth=0.5, alpha=0.25)
    mean = smoothed(values, window=max(len(values) // 40, 5))
    axes.plot(column.iterations, mean, color=colour, linewidth=width, label=literal(name))


def _validation(series: Mapping[str, Series]) -> Figure | None:
    scored = {name: kept for name, column in _group(series, "val").items() if len((kept := _known(column)).values)}
    first = monitored(scored)
    if first is None:
        return None
    figure = new_figure(6.9, 3.0)
    axes = figure.subplots()
    plain(axes, f"Validation: {first}", "iteration", first)
    companions = [name for name in (f"{first}_50", f"{first}_75") if name in scored]
    for name, colour in zip([first, *companions], COLOURS, strict=False):
        width = 1.8 if name == first else 1.0
        axes.plot(*scored[name], color=colour, linewidth=width, marker="o", markersize=3.5, label=literal(name))
    _mark_best(axes, scored[first], smaller="loss" in first)
    if companions:
        axes.legend(fontsize=SMALL, frameon=False)
    return figure


def _known(column: Series) -> Series:
    kept = np.isfinite(column.values) & (column.values != NOTHING_TO_FIND)
    return Series(column.iterations[kept], column.values[kept])


def _mark_best(axes: Axes, column: Series, *, smaller: bool) -> None:
    best = int(np.argmin(column.values) if smaller else np.argmax(column.values))
    x, y = column.iterations[best], column.values[best]
    axes.scatter([x], [y], s=70, facecolors="none", edgecolors=INK, linewidths=1.2, zorder=3, gid="best")
    axes.margins(x=0.1, y=0.15)
    if axes.dataLim.y0 >= 0:
        axes.set_ylim(bottom=0)
    axes.annotate(
        f"best {y:.4g}", (x, y), (0, 8), textcoords="offset points", ha="center", fontsize=SMALL, color=INK
    )


def _search(series: Mapping[str, Series]) -> Figure | None:
    found = _group(series, "search")
    names = [name for name in _SEARCH if name in found]
    if not names:
        return None
    figure = new_figure(3.5 * max(len(names), 2), 2.9)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        plain(axes, _SEARCH[name], "iteration", name.replace("_", " "))
        axes.title.set_fontsize(9)
        axes.plot(*found[name], color=COLOURS[0], linewidth=1.6)
        if name.startswith("expected_"):
            counts_on(axes.yaxis)
        else:
            axes.set_ylim(-0.02, 1.02)
            axes.axhline(0, color=FAINT, linewidth=0.6)
    return figure
