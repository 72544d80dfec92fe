"""What a search came to think of its candidates."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from fna_lightning.architectures import SKIP
from fna_lightning.errors import UserError
from fna_lightning.reporting.pictures.style import INK, SMALL, literal, new_figure, plain, shortened
from fna_lightning.reporting.series import Series, read_series

_WIDEST_WITH_NUMBERS = 14
"""Candidates up to which the cells of the heat map hold their numbers."""


def draw_alphas(alphas_csv: str | os.PathLike[str]) -> Figure:
    """Draw the final probabilities as a heat map, and how sure each choice became over the search.

    Args:
        alphas_csv: column `iteration`, then `<choice>/<candidate>`.

    Raises:
        UserError: the file holds no probabilities.
    """
    columns = _by_choice(read_series(os.fspath(alphas_csv), by="iteration"))
    if not columns:
        raise UserError(f"{os.fspath(alphas_csv)}: holds no probabilities: the search wrote nothing yet")
    choices, candidates, table = final_probabilities(columns)
    height = max(0.24 * len(choices) + 1.1, 3.2)
    width = min(max(0.5 * len(candidates) + 1.8, 4.0), 11.0)
    figure = new_figure(width + 4.2, height)
    left, right = figure.subplots(1, 2, width_ratios=[width, 4.2])
    colours = colormaps["viridis"](np.linspace(0, 0.82, len(choices)))
    _heat_map(left, choices, candidates, table)
    for label, colour in zip(left.get_yticklabels(), colours, strict=True):
        label.set_color(colour)
    plain(right, "Largest probability of each choice", "iteration", "probability")
    for choice, colour in zip(choices, colours, strict=True):
        right.plot(*_largest(list(columns[choice].values())), color=colour, linewidth=1.1, label=literal(choice))
    right.set_ylim(0, 1.02)
    return figure


def final_probabilities(
    columns: Mapping[str, Mapping[str, Series]],
) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Choices in the file's order, all their candidates with skip last, and a table of the last values.

    A cell is NaN where a choice lacks the candidate.
    """
    candidates = list(dict.fromkeys(name for row in columns.values() for name in row))
    candidates.sort(key=lambda name: name == SKIP)
    table = np.full((len(columns), len(candidates)), np.nan)
    for number, row in enumerate(columns.values()):
        for name, series in row.items():
            table[number, candidates.index(name)] = series.values[-1]
    return list(columns), candidates, table


def _by_choice(series: Mapping[str, Series]) -> dict[str, dict[str, Series]]:
    result: dict[str, dict[str, Series]] = {}
    for name, column in series.items():
        choice, slash, candidate = name.rpartition("/")
        if slash:
            result.setdefault(choice, {})[candidate] = column
    return result


def _heat_map(axes: Axes, choices: Sequence[str], candidates: Sequence[str], table: NDArray[np.float64]) -> None:
    plain(axes, "Final probabilities; framed: the most probable")
    axes.grid(visible=False)
    axes.set_facecolor("#f1f1f1")
    image = axes.imshow(np.ma.masked_invalid(table), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(candidates)), [literal(shortened(name, 14)) for name in candidates])
    axes.set_yticks(range(len(choices)), [literal(shortened(name, 32)) for name in choices])
    if max(map(len, candidates)) > 5:
        axes.tick_params(axis="x", rotation=60)
    for number, row in enumerate(table):
        if np.isfinite(row).any():
            best = int(np.nanargmax(row))
            axes.add_patch(
                Rectangle((best - 0.5, number - 0.5), 1, 1, fill=False, edgecolor="#D55E00", linewidth=1.4)
            )
    if len(candidates) <= _WIDEST_WITH_NUMBERS:
        _numbers(axes, table)
    else:
        axes.figure.colorbar(image, ax=axes, fraction=0.03).ax.tick_params(labelsize=SMALL)


def _numbers(axes: Axes, table: NDArray[np.float64]) -> None:
    for (number, place), value in np.ndenumerate(table):
        if np.isfinite(value):
            colour = "white" if value > 0.55 else INK
            axes.text(place, number, f"{value:.2f}", ha="center", va="center", fontsize=SMALL - 1, color=colour)


def _largest(columns: Sequence[Series]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At every iteration that all candidates of a choice have."""
    iterations = columns[0].iterations
    for column in columns[1:]:
        iterations = np.intersect1d(iterations, column.iterations)
    values = [column.values[np.isin(column.iterations, iterations)] for column in columns]
    return iterations, np.max(values, axis=0)
