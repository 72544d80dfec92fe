"""The candidates that a search scored, as its `candidates.csv` holds them."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import NamedTuple

from fna_lightning.errors import UserError
from fna_lightning.reporting.series import without_nul

CANDIDATES = "candidates.csv"
_HEAD = ("candidate", "generation", "path")
"""Its first columns, before the costs; the last is the score."""
_WORDS = {"madds": "multiply-adds", "params": "parameters"}


class Candidate(NamedTuple):
    """One row."""

    number: int
    generation: int
    path: str
    """Indices of its candidates, joined by hyphens."""
    costs: tuple[float, ...]
    score: float


class Candidates(NamedTuple):
    """All rows in the order in which they were scored."""

    quantities: tuple[str, ...]
    """What `Candidate.costs` are, in words."""
    rows: list[Candidate]


def read_candidates(path: str | os.PathLike[str]) -> Candidates:
    """Read the table; a last row that was cut off is passed over.

    Raises:
        UserError: where it is no such table, or has no row yet.
    """
    with Path(path).open(newline="", encoding="utf-8", errors="replace") as file:
        head, *lines = list(csv.reader(without_nul(file))) or [[]]
    if tuple(head[:3]) != _HEAD or len(head) < 5 or head[-1] != "score":
        raise UserError(f"{os.fspath(path)}: is no table of candidates")
    rows = [row for line in lines if len(line) == len(head) and (row := _row(line)) is not None]
    if not rows:
        raise UserError(f"{os.fspath(path)}: holds no candidate yet")
    return Candidates(tuple(_WORDS.get(name, name) for name in head[3:-1]), rows)


def _row(line: list[str]) -> Candidate | None:
    try:
        costs = tuple(float(text) for text in line[3:-1])
        return Candidate(int(line[0]), int(line[1]), line[2], costs, float(line[-1]))
    except ValueError:
        return None
