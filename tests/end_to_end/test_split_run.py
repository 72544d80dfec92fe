"""A run on a set without a validation part: what it sets aside is written down, and stays aside."""

import csv
import json

import pytest

from fna_lightning.data import CocoDataModule
from fna_lightning.data.sampling import split_by_name

QUIET = ("trainer.enable_progress_bar=false", "data.num_workers=0")


def said(folder):
    return next(folder.glob("*.log")).read_text()


def test_training_evaluation_and_resuming_share_one_split(cli, runs, tmp_path):
    annotations = runs.folder / "detection" / "annotations" / "instances_train2017.json"
    whole = ["data=coco", runs.detection, f"data.train_annotations={annotations}", "data.val_annotations=null"]
    small = [text for text in cli.detection if "num_" not in text and "image_size" not in text]
    own = [
        *small,
        *whole,
        "data.size=[64,64]",
        "data.train_images=train2017",
        "data.val_share=0.4",
        "data.val_seed=2",
    ]
    own += ["data.batch_size=2", "trainer.max_epochs=1", *runs.from_seed, "random_seed=7"]
    cli.start("train", *own, "hydra.run.dir=run")
    with (tmp_path / "run" / "split.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted(row["file_name"] for row in json.loads(annotations.read_text())["images"])
    scored = [names[index] for index in split_by_name(names, 0.4, 2)[0]]
    assert sorted(row["picture"] for row in rows if row["split"] == "validation") == scored
    assert sorted(row["picture"] for row in rows) == names
    assert f"has no validation part: {len(scored)} of its {len(names)} pictures are set aside" in said(
        tmp_path / "run"
    )

    # The same pictures are scored, whatever the random seed, and none of them was trained on.
    cli.start("evaluate", "checkpoint=run", *QUIET, "hydra.run.dir=same")
    figures = [json.loads((tmp_path / name / "results.json").read_text())["metrics"] for name in ("run", "same")]
    assert {key: figures[1][key] for key in figures[0]} == figures[0]
    assert "has trained on" not in said(tmp_path / "same")
    cli.start("evaluate", "checkpoint=run", "data.val_share=1", *QUIET, "hydra.run.dir=all")
    trained = len(names) - len(scored)
    assert f"the run has trained on {trained} of the {len(names)} pictures that are scored" in said(
        tmp_path / "all"
    )

    # A run that goes on keeps its split: another one is refused before anything is written.
    before = (tmp_path / "run" / "split.csv").read_bytes()
    with pytest.raises(SystemExit):
        cli.start("train", *own, "resume=auto", "data.val_seed=3", "hydra.run.dir=run")
    cli.start("train", *own, "resume=auto", "hydra.run.dir=run")
    assert (tmp_path / "run" / "split.csv").read_bytes() == before


def test_a_set_with_both_parts_has_no_such_file(runs):
    assert not (runs.train / "split.csv").exists()
    assert CocoDataModule(runs.folder / "detection").has_validation()
