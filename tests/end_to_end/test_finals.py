"""Finalists by the entry points: trained, compared with the seed's network, and never trained twice."""

import csv
import json
from pathlib import Path

import pytest
from entries import SEARCH

from fna_lightning.architectures import load_architecture

FINALS = (
    "search.finalists=2",
    "search.finalist_epochs=1",
    "search.finalist_repeats=2",
    "search.finalist_share=0.25",
    "space.candidates=[k3_e3,k3_e6,k5_e6]",
    "space.norms=kept",
    "remap=preserving",
    "trainer.max_epochs=1",
    "search.warmup_epochs=0",
)


def table(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_finalists_and_the_seed(cli, runs, capsys):
    settings = (*cli.search, *runs.from_seed, *FINALS, "search.paths=2")
    cli.start("search", *settings, "hydra.run.dir=found")
    printed = capsys.readouterr().out
    rows = {row["network"]: row for row in table("found/finalists.csv")}
    assert rows.keys() == {"seed", "finalist_1", "finalist_2"}
    scores = {name: [float(score) for score in row["scores"].split()] for name, row in rows.items()}
    assert all(len(each) == 2 for each in scores.values())
    best = max(("finalist_1", "finalist_2"), key=lambda name: sum(scores[name]))
    metrics = json.loads(Path("found/results.json").read_text())["metrics"]
    assert metrics["finalist_score"] == pytest.approx(sum(scores[best]) / 2, abs=1e-6)
    assert metrics["seed_score"] == pytest.approx(sum(scores["seed"]) / 2, abs=1e-6)
    assert metrics["madds"] == float(rows[best]["cost"])
    text = Path("found/finalists", f"{best}_0", "remapping.csv").read_text()
    assert "refitted" in text or "copied" in text
    words = " ".join(printed.split())
    assert "mAP on 4 held-out training images, 2 trainings each: " in words
    assert any(word in words for word in ("as good as the seed's", "better by", "worse by", "keep it"))

    # What is scored is not trained again, and what was lost is as it was.
    before = {path: path.stat().st_mtime_ns for path in Path("found/finalists").glob("*/score.json")}
    lost = Path("found/finalists/finalist_2_1/score.json")
    was = lost.read_text()
    lost.unlink()
    cli.start("search", *settings, "hydra.run.dir=found", "resume=auto")
    assert lost.read_text() == was
    assert all(path.stat().st_mtime_ns == time for path, time in before.items() if path != lost)


BILEVEL = ("search.warmup_epochs=0",)
EVOLUTION = (
    "search=evolution",
    "search.generations=2",
    "search.population=2",
    "search.mutations=1",
    "search.crossovers=0",
    "search.share=0.25",
    "search.statistics_batches=1",
)


@pytest.mark.parametrize("search", [BILEVEL, EVOLUTION])
@pytest.mark.parametrize("target", [2.5e6, 4.5e6, 6.5e6])
def test_a_target_is_met_by_what_is_found(cli, runs, search, target):
    """Paths cost 1.9 M to 6.7 M here."""
    settings = [each for each in cli.search if not each.startswith(("search.", "space."))]
    settings += [*runs.from_seed, "space.candidates=[k3_e3,k3_e6,k5_e6]", "trainer.max_epochs=1"]
    cli.start("search", *settings, *search, f"cost.target={target}", "hydra.run.dir=run")
    madds = json.loads(Path("run/results.json").read_text())["cost"]["madds"]
    assert 0.95 * target <= madds <= target
    assert load_architecture("run")


def test_more_repeats_than_parts(cli, runs, capsys):
    with pytest.raises(SystemExit):
        cli.start("search", *cli.search, *runs.from_seed, *FINALS, "search.finalist_repeats=4")
    assert "search.finalist_share=0.25: 4 repeats hold out as many parts" in capsys.readouterr().err


def test_settings_of_finals_do_not_hinder_a_search_without(cli, runs, capsys):
    assert "search.finalists=4" not in SEARCH
    cli.start("search", *cli.search, *runs.from_seed, "trainer.max_epochs=1", "hydra.run.dir=plain")
    assert "no training has shown: search.finalists=4" in " ".join(capsys.readouterr().out.split())
    assert not Path("plain/finalists").exists()
