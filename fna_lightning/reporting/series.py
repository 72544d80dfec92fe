"""Reading the CSV files of a run directory, whatever state an interrupted run left them in."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Series(NamedTuple):
    """One column over the iterations at which it was written, in order."""

    iterations: NDArray[np.float64]
    values: NDArray[np.float64]


def read_series(path: str | Path, by: str = "step") -> dict[str, Series]:
    """Every column of a sparse CSV file against the column `by`.

    Empty and malformed cells are left out: rows are sparse, and the last one may be cut off. A resumed
    run writes some iterations twice, so rows are sorted and the later one of a pair holds.

    Args:
        path: the file; there may be none.
        by: the column of iterations; rows without it are left out.
    """
    path = Path(path)
    if not path.is_file():
        return {}
    columns: dict[str, dict[float, float]] = {}
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for row in csv.DictReader(without_nul(file), restval=""):
            iteration = _number(row.get(by))
            if iteration is None or not math.isfinite(iteration):
                continue
            for name, text in row.items():
                value = _number(text)
                if name and name != by and value is not None:
                    columns.setdefault(name, {})[iteration] = value
    return {name: _sorted(points) for name, points in columns.items()}


def without_nul(lines: Iterable[str]) -> Iterator[str]:
    """The lines without zero bytes, which a crashed machine leaves and Python 3.10 reads no CSV file with."""
    return (line.replace("\0", "") for line in lines)


def smoothed(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Centred mean over `window` values, fewer at the ends; gaps (NaN) are passed over."""
    known = np.isfinite(values)
    kernel = np.ones(window)
    total = np.convolve(np.where(known, values, 0.0), kernel, mode="same")
    number = np.convolve(known.astype(np.float64), kernel, mode="same")
    return np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0.5)


def _number(text: object) -> float | None:
    try:
        return float(text) if isinstance(text, str) and text else None
    except ValueError:
        return None


def _sorted(points: dict[float, float]) -> Series:
    pairs = sorted(points.items())
    return Series(np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs]))
