"""Evolution by the entry point: under a limit, from its own supernet and from another run's."""

import csv
import json
from pathlib import Path

import pytest
import torch
from entries import SEARCH, start
from torch import nn

from fna_lightning.blocks import reestimate_statistics
from fna_lightning.checkpoints import read_file
from fna_lightning.modules import evolution

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


def tensors(folder):
    return read_file(Path(folder, "checkpoints", "last.ckpt"))["state_dict"]


def same_tensors(one, other):
    """Names of the tensors that two runs ended with alike."""
    left, right = tensors(one), tensors(other)
    return {name for name in left if name in right and torch.equal(left[name], right[name])}


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

    assert same_tensors("first", "second") == set(tensors("first"))
    report = Path("second/report.html").read_text()
    assert "The best of 6 candidates" in report
    assert 'alt="Candidates 1"' in report

    with pytest.raises(SystemExit):
        start("search", *again, "search.supernet=first", "space.candidates=[k3_e2]", "hydra.run.dir=third")
    assert "search.supernet=first: is of another network or space, first in" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        start("search", *SMALL, "cost.limit=1", "hydra.run.dir=fourth")
    assert "cannot be met" in capsys.readouterr().err


def test_limits_of_several_quantities_and_paths_even_over_costs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settings = ("cost.limits.params=200e3", "search.cost_bins=[1e6,5e6,1e8]", "search.generations=1")
    start("search", *SMALL, *settings, "hydra.run.dir=first")
    rows = candidates("first")
    assert list(rows[0])[-3:] == ["madds", "params", "score"]
    assert all(int(row["params"]) <= 200e3 and int(row["madds"]) <= 6.0e6 for row in rows)

    with pytest.raises(SystemExit):
        start("search", *SMALL, "cost.limits.params=1", "hydra.run.dir=second")
    assert "a limit of 1 parameters cannot be met" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        start("search", *SEARCH, "cost.limits.params=1e6", "hydra.run.dir=third")
    assert "cost.limits: search=bilevel keeps one limit" in capsys.readouterr().err


def test_norms_of_a_box_head_are_estimated_for_every_candidate(tmp_path, monkeypatch):
    """Losses draw proposals: alike for a candidate wherever it comes in the row."""
    monkeypatch.chdir(tmp_path)
    means = []

    def spy(network, batches, run):
        reestimate_statistics(network, batches, run)
        head = [norm for norm in network.box_head.modules() if isinstance(norm, nn.BatchNorm2d)]
        assert [int(norm.num_batches_tracked) for norm in head] == [1] * 4
        means.append(torch.cat([norm.running_mean for norm in head]))

    monkeypatch.setattr(evolution, "reestimate_statistics", spy)
    given = [each for each in SMALL if not each.startswith("detector.head_depth")]
    given += [
        "experiment=demo/search",
        "detector=faster_rcnn",
        "~detector.head_depth",
        "detector.box_width=16",
        "detector.box_samples=16",
    ]
    start("search", *given, "hydra.run.dir=first")
    start("search", *given, "trainer.max_epochs=1", "hydra.run.dir=second", "search.supernet=first")
    assert candidates("second") == candidates("first")
    assert torch.equal(torch.stack(means[:6]), torch.stack(means[6:]))


def test_what_would_make_scores_worthless(tmp_path, monkeypatch, capsys):
    """A part that holds no image or that the supernet has learnt, and other batches than scores began with."""
    monkeypatch.chdir(tmp_path)
    start("search", *SMALL, "hydra.run.dir=first")

    def refused(*overrides):
        with pytest.raises(SystemExit):
            start("search", *SMALL, *overrides)
        (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("error: ")]
        return line

    assert "search.share=0.01: of 16 training images that is none" in refused("search.share=0.01")
    again = ("search.supernet=first", "trainer.max_epochs=1")
    assert "search.share=0.5: the supernet of first was trained on all images but 0.25" in refused(
        *again, "search.share=0.5"
    )
    assert "search.supernet=first: has the backbone alone in common, and trainer.max_epochs=1 scores" in refused(
        *again, "detector.fpn_channels=16"
    )
    line = refused("resume=first", "trainer.max_epochs=2", "data.batch_size=1", "hydra.run.dir=second")
    assert "data.batch_size" in line
