"""What a search among scored candidates found, and how it came there."""

from __future__ import annotations

import math
import os

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fna_lightning.reporting.candidates import Candidates, read_candidates
from fna_lightning.reporting.pictures.pareto import pareto_front
from fna_lightning.reporting.pictures.style import COLOURS, FAINT, SMALL, counts_on, new_figure, plain

_DARKEST, _LIGHTEST = 0.15, 0.85


def draw_candidates(candidates_csv: str | os.PathLike[str]) -> Figure:
    """Draw scores against cost with the Pareto front, and in the order in which they came with the best so far.

    Args:
        candidates_csv: as `fna_lightning.callbacks.CandidateLog` writes it.

    Raises:
        UserError: the file holds no candidates.
    """
    candidates = read_candidates(candidates_csv)
    figure = new_figure(10.2, 4.2)
    left, right = figure.subplots(1, 2)
    _costs(left, candidates)
    _history(right, candidates)
    return figure


def _costs(axes: Axes, candidates: Candidates) -> None:
    quantity = candidates.quantities[0]
    plain(axes, f"Score against {quantity}", quantity, "score")
    counts_on(axes.xaxis)
    points = [(row.path, row.costs[0], row.score) for row in candidates.rows]
    known = [row for row in candidates.rows if math.isfinite(row.score)]
    last = max(max(row.generation for row in candidates.rows), 1)
    shades = [_DARKEST + (_LIGHTEST - _DARKEST) * row.generation / last for row in known]
    drawn = axes.scatter(
        [row.costs[0] for row in known],
        [row.score for row in known],
        c=shades, cmap="viridis_r", vmin=0, vmax=1, s=14, linewidths=0, zorder=2,
    )  # fmt: skip
    drawn.set_gid("candidates")
    front = pareto_front(points)
    if front:
        x, y = zip(*((points[i][1], points[i][2]) for i in front), strict=True)
        # Steps, not slopes: nothing is known of networks between two points.
        axes.step(x, y, where="post", color=COLOURS[1], linewidth=1.4, zorder=3, label="Pareto front")
        axes.legend(fontsize=SMALL, frameon=False, loc="lower right", title="later generations are darker")
        axes.get_legend().get_title().set_fontsize(SMALL)  # pyright: ignore[reportOptionalMemberAccess]


def _history(axes: Axes, candidates: Candidates) -> None:
    plain(axes, "Score of every candidate", "candidate", "score")
    numbers = [row.number for row in candidates.rows]
    scores = np.array([row.score if math.isfinite(row.score) else np.nan for row in candidates.rows])
    axes.scatter(numbers, scores, s=10, color=FAINT, linewidths=0, label="candidate")
    best = np.fmax.accumulate(scores)
    axes.step(numbers, best, where="post", color=COLOURS[1], linewidth=1.4, label="best so far")
    generations = sorted({row.generation for row in candidates.rows})
    means = [_middle(candidates, generation) for generation in generations]
    axes.plot(*zip(*means, strict=True), color=COLOURS[0], linewidth=1.4, label="mean of a generation")
    axes.legend(fontsize=SMALL, frameon=False, loc="lower right")


def _middle(candidates: Candidates, generation: int) -> tuple[float, float]:
    """The middle number and the mean score of a generation."""
    rows = [row for row in candidates.rows if row.generation == generation and math.isfinite(row.score)]
    if not rows:
        return math.nan, math.nan
    return float(np.mean([row.number for row in rows])), float(np.mean([row.score for row in rows]))
