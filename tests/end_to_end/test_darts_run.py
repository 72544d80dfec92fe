"""`search.py` as DARTS and FAD search: the mixture's weights, the second order, one set for both."""

import csv
import json
from pathlib import Path

import pytest
from entries import SEARCH, start

DARTS = (
    *SEARCH,
    "search.weights_on=mixture",
    "search.order=2",
    "search.derive=raw",
    "search.share=0",
    "search.warmup_epochs=0",
)


def test_a_search_is_recorded_and_says_what_it_trains_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    start("search", *DARTS, "optimizer@search.weights=sgd", "hydra.run.dir=run")
    run = Path("run")
    said = [line for line in (run / "search.log").read_text().splitlines() if "search.share=0" in line]
    assert len(said) == 1
    assert "weights and architecture parameters are trained on the same images" in said[0]
    rows = list(csv.DictReader((run / "alphas.csv").open()))
    assert len({tuple(row.values())[1:] for row in rows}) == len(rows) > 2
    assert 0 < json.loads((run / "results.json").read_text())["metrics"]["entropy"] <= 1
    assert (run / "architecture.yaml").is_file()
    signals = [row.get("search/signal") for row in csv.DictReader((run / "metrics.csv").open())]
    assert any(signals)

    capsys.readouterr()
    with pytest.raises(SystemExit):
        start("search", *DARTS, "hydra.run.dir=second")
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "search.weights is AdamW: give optimizer@search.weights=sgd, or search.order=1" in line
