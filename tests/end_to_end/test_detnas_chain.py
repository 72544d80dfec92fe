"""DetNAS's six steps on generated sets: each takes the run directory of the one before, and no more."""

import csv
import json
from pathlib import Path

import pytest
import torch
from entries import start

from fna_lightning.architectures import load_architecture
from fna_lightning.checkpoints import read_file

RUN = ("data.num_workers=0", "trainer.enable_progress_bar=false", "cost.input_size=[64,64]")
CLASSES = ("data=shapes_classification", "data.num_train=40", "data.num_val=8", "data.image_size=32")
BOXES = (
    *("data=shapes_detection", "data.num_train=20", "data.num_val=4", "data.image_size=64", "data.batch_size=2"),
    *("detector.fpn_channels=8", "detector.box_width=8"),
)
SPACE = ("space.candidates=[shuffle_3x3,xception_3x3]", "search.statistics_batches=1", "search.population=3")


def state(folder):
    return read_file(Path(folder, "checkpoints", "last.ckpt"))["state_dict"]


def backbone(folder):
    return {name: value for name, value in state(folder).items() if name.startswith("network.backbone.")}


def equal(one, other):
    """Whether all tensors of `one` are in `other`; the classifier alone has a tail."""
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_six_steps(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipe = "experiment=cells/"
    two = "trainer.max_epochs=2"
    start(
        "search",
        f"{recipe}supernet_pretrain",
        *CLASSES,
        "data.batch_size=8",
        *SPACE,
        *RUN,
        two,
        "hydra.run.dir=step1",
    )
    said = capsys.readouterr().out
    assert "python search.py experiment=cells/supernet_finetune search.supernet=step1 'space.candidates=" in said
    assert "'data.root=<folder>'\n" in said

    one = "trainer.max_epochs=1"
    given = (f"{recipe}supernet_finetune", "search.supernet=step1", *BOXES, *SPACE, *RUN)
    with pytest.raises(SystemExit):
        start("search", *given, one, "hydra.run.dir=step2a")  # which trains nothing
    assert "step1: has the backbone alone in common" in capsys.readouterr().err
    start("search", *given, two, "hydra.run.dir=step2")
    with Path("step2/remapping.csv").open(newline="") as file:
        ways = {row["target"]: row["how"] for row in csv.DictReader(file)}
    assert {ways[name.removeprefix("network.")] for name in backbone("step2")} == {"copied"}
    assert not equal(backbone("step2"), backbone("step1"))
    assert "python search.py experiment=cells/search search.supernet=step2 " in capsys.readouterr().out

    breeding = ("search.generations=2", "search.parents=2", "search.mutations=1", "search.crossovers=1")
    start(
        "search",
        f"{recipe}search",
        "search.supernet=step2",
        *BOXES,
        *SPACE,
        *RUN,
        *breeding,
        "hydra.run.dir=step3",
    )
    assert equal(state("step3"), state("step2"))
    with Path("step3/candidates.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert all(int(row["madds"]) <= 4.2e7 for row in rows)
    assert (
        "python train.py experiment=cells/subnet_pretrain architecture=step3 'data.root=<folder>'"
        in capsys.readouterr().out
    )

    pretrain = (f"{recipe}subnet_pretrain", "architecture=step3", *CLASSES, "data.batch_size=8")
    start("train", *pretrain, *RUN, one, "hydra.run.dir=step4")
    assert load_architecture("step4") == load_architecture("step3")
    assert "experiment=cells/subnet_finetune architecture=step4 seed.weights=step4 " in capsys.readouterr().out
    finetune = (f"{recipe}subnet_finetune", "architecture=step4", "seed.weights=step4", *BOXES)
    start("train", *finetune, *RUN, one, "hydra.run.dir=step5")
    with Path("step5/remapping.csv").open(newline="") as file:
        assert {row["how"] for row in csv.DictReader(file)} == {"copied"}
    start("evaluate", "checkpoint=step5", "trainer.enable_progress_bar=false", "hydra.run.dir=step6")
    scores = [
        json.loads(Path(folder, "results.json").read_text())["metrics"]["mAP"] for folder in ("step5", "step6")
    ]
    assert scores[0] == scores[1]

    with pytest.raises(SystemExit):
        start("search", *given, one, "architecture=shufflenet_300m", "hydra.run.dir=step7")
    assert "search.supernet=step1: is of another network or space" in capsys.readouterr().err
