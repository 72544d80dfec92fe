"""Evolution by the entry point: under a limit, from its own supernet and from another run's."""

import csv
import json
from pathlib import Path

import pytest
from entries import SEARCH, start

SMALL = (
    *SEARCH[:-3],
    "search=evolution",
    "search.share=0.25",
    "search.generations=2",
    "search.population=3",
    "search.parents=2",
    "search.mutations=1",
    "search.crossovers=1",
    "search.statistics_batches=1",
    "trainer.limit_train_batches=null",
    "cost.limit=6.0e6",
)


def candidates(folder):
    with Path(folder, "candidates.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_evolution_and_its_supernet(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    start("search", *SMALL, "hydra.run.dir=first")
    rows = candidates("first")
    assert [int(row["generation"]) for row in rows] == [0, 0, 0, 1, 1, 1]
    assert len({row["path"] for row in rows}) == len(rows)
    assert all(int(row["madds"]) <= 6.0e6 for row in rows)
    results = json.loads(Path("first/results.json").read_text())
    assert results["cost"]["madds"] <= 6.0e6
    assert results["metrics"]["candidates"] == 6

    # The same paths from the same supernet have the same scores: nothing is trained.
    again = (*SMALL, "trainer.max_epochs=1", "hydra.run.dir=second")
    start("search", *again, "search.supernet=first")
    assert candidates("second") == rows

    with pytest.raises(SystemExit):
        start("search", *again, "search.supernet=first", "space.candidates=[k3_e2]", "hydra.run.dir=third")
    assert "search.supernet=first: is of another network or space, first in" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        start("search", *SMALL, "cost.limit=1", "hydra.run.dir=fourth")
    assert "cannot be met" in capsys.readouterr().err
