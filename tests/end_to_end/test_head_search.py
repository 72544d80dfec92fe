"""Heads searched by the entry points, alone and with the backbone: found, trained, scored, and drawn."""

import json
from pathlib import Path

import pytest
from entries import DETECTION, start

from fna_lightning.architectures import load_parts

SMALL = (*DETECTION, "data=shapes_detection", "detector.tower_channels=4", "seed=none")
HEAD, BOTH = "experiment=bccd/fcos_head_search", "experiment=bccd/fcos_joint_search"
BILEVEL = ("search.warmup_epochs=0", "search.log_every=2", "cost.target=null")
EVOLUTION = (
    "search=evolution_bccd",
    *("search.generations=2", "search.population=3", "search.parents=1", "search.mutations=1"),
    *("search.crossovers=1", "search.statistics_batches=1", "search.share=0.3", "search.with_seed=false"),
    *("trainer.limit_train_batches=6", "cost.target=null"),
)
SEARCHES = {
    "FAD": (HEAD, *BILEVEL),
    "evolution": (HEAD, *EVOLUTION),
    "both": (BOTH, *BILEVEL),
    "both by evolution": (BOTH, *EVOLUTION),
}


@pytest.mark.parametrize("search", SEARCHES)
def test_search_train_and_evaluate(tmp_path, monkeypatch, search):
    monkeypatch.chdir(tmp_path)
    start("search", *SMALL, *SEARCHES[search], "hydra.run.dir=search")
    found = load_parts(Path("search"))
    assert set(found) == {"backbone", "head"}
    assert all(len(edges) == 2 for tower in (found["head"].box, found["head"].classes) for edges in tower.nodes)
    assert Path("search", "candidates.csv" if "evolution" in search else "alphas.csv").is_file()
    assert "Genotype(" in Path("search/architecture.txt").read_text()
    assert "<img" in Path("search/report.html").read_text()

    start("train", "experiment=bccd/fcos", *SMALL, "architecture=search", "hydra.run.dir=train")
    assert load_parts(Path("train")) == found
    costs = [json.loads(Path(f"{run}/results.json").read_text())["cost"] for run in ("search", "train")]
    assert costs[0]["madds"] == costs[1]["madds"]
    start("evaluate", "checkpoint=train", "hydra.run.dir=score", "trainer.enable_progress_bar=false")
    scores = [json.loads(Path(f"{run}/results.json").read_text())["metrics"] for run in ("train", "score")]
    assert scores[0]["mAP"] == pytest.approx(scores[1]["mAP"])


def test_nothing_is_near_a_network_that_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        start("search", *SMALL, *SEARCHES["evolution"], "search.near_seed=0.5", "hydra.run.dir=run")
    assert "search.near_seed=0.5: the space does not have the network" in capsys.readouterr().err


def test_a_cost_target_is_of_backbone_and_head(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start("search", *SMALL, *SEARCHES["both"], "hydra.run.dir=free")
    free = json.loads(Path("free/results.json").read_text())["cost"]["madds"]
    start("search", *SMALL, *SEARCHES["both"][:-1], f"cost.target={0.9 * free}", "hydra.run.dir=bound")
    bound = json.loads(Path("bound/results.json").read_text())["cost"]["madds"]
    assert 0.95 * 0.9 * free <= bound <= 0.9 * free
