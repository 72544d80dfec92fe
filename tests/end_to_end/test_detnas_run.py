"""DetNAS's method by the entry points: search, then training from the supernet's weights."""

import csv
from pathlib import Path

import pytest
from entries import DETECTION, start

from fna_lightning.architectures import load_architecture

NETWORK = "shuffle detnas_supernet: 4 | 8: 00 | 12: 0 | 16: 00 | 20: 0 | 24\n"
SEARCH = (
    "~experiment",
    "method=detnas",
    "seed=none",
    *(setting for setting in DETECTION if not setting.startswith("trainer.limit")),
    "search.share=0.25",
    "search.generations=2",
    "search.population=3",
    "search.parents=2",
    "search.mutations=1",
    "search.crossovers=1",
    "search.statistics_batches=1",
    "cost.limit=2.0e6",
    "cost.limit_size=[64,64]",
)


def table(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_search_and_training_from_the_supernet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("base.txt").write_text(NETWORK)
    start("search", *SEARCH, "architecture=base.txt", "hydra.run.dir=found")
    found = load_architecture("found")
    assert found.layout == "detnas_supernet"
    assert [stage.width for stage in found.stages] == [8, 12, 16, 20]
    rows = table("found/candidates.csv")
    assert len({row["path"] for row in rows}) == 6
    assert 'alt="Architecture' in Path("found/report.html").read_text()

    # From the same supernet, statistics and all, the same paths have the same scores.
    again = ("architecture=base.txt", "search.supernet=found", "trainer.max_epochs=1", "hydra.run.dir=second")
    start("search", *SEARCH, *again)
    assert table("second/candidates.csv") == rows

    supernet = ("remap.source=supernet", "remap.supernet=found", "architecture=found", "seed=none")
    start("train", "~experiment", *DETECTION, *supernet, "trainer.max_epochs=1", "hydra.run.dir=trained")
    rows = table("trained/remapping.csv")
    assert {row["how"] for row in rows} == {"copied"}
    assert any("candidates" in row["source"] and row["source"].endswith("running_var") for row in rows)

    # What was trained is a seed for a network of other operations.
    Path("other.txt").write_text("shuffle detnas_supernet: 4 | 8: 21 | 12: 3 | 16: 122 | 20: 2 | 24\n")
    seed = ("seed=custom", "seed.weights=trained", "architecture=other.txt")
    start("train", "~experiment", *DETECTION, *seed, "trainer.max_epochs=1", "hydra.run.dir=again")
    assert load_architecture("again").layout == "detnas_supernet"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            ["architecture=mobilenet_v2"],
            "architecture: is of kind mobile, where ShuffleSpace begins with one of kind",
        ),
        (["architecture=short.txt"], "short.txt: an architecture of 3 integers: give 20"),
        (["architecture=shufflenet_300m", "cost.limit=1"], "cannot be met"),
        (["architecture=shufflenet_300m", "space.candidates=[skip]"], "candidates name 'skip'"),
    ],
)
def test_one_line_for_what_cannot_be(tmp_path, monkeypatch, capsys, settings, words):
    monkeypatch.chdir(tmp_path)
    Path("short.txt").write_text("[1, 2, 3]")
    with pytest.raises(SystemExit) as exit_:
        start("search", *SEARCH, *settings)
    assert exit_.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert words in line
