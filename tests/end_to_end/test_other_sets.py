"""Evaluation on another set, and with single settings of the training's changed."""

import json
import shutil

import pytest
from omegaconf import OmegaConf


def scores(folder):
    return json.loads((folder / "results.json").read_text())["metrics"]


def settings(folder, *keys):
    data = OmegaConf.load(folder / "config.yaml").data
    return {key: data[key] for key in keys}


def detections(folder):
    return json.loads((folder / "detections.json").read_text())


@pytest.fixture
def keen(cli, runs):
    """The trained detector, which two epochs have not made sure of anything, with all its detections."""
    folder = cli.here / "keen"
    shutil.copytree(runs.train, folder)
    config = OmegaConf.load(folder / "config.yaml")
    config.detector.score_threshold = 0.0
    OmegaConf.save(config, folder / "config.yaml")
    return folder


@pytest.fixture
def evaluate(cli, keen):
    """evaluate(overrides) -> the directory of an evaluation."""

    def start(*overrides, checkpoint=keen, folder="run"):
        cli.start(
            "evaluate", f"checkpoint={checkpoint}", *overrides, f"hydra.run.dir={folder}", "data.num_workers=0"
        )
        return cli.here / folder

    return start


def test_another_set_is_seen_in_the_size_of_the_training(runs, cli, evaluate):
    folder = evaluate("data=coco", runs.detection)
    assert settings(folder, "size", "pad") == {"size": [64, 64], "pad": 32}
    wanted = detections(evaluate(folder="own"))
    assert len(wanted) > 10
    assert detections(folder) == wanted
    assert "brought to the size of the training's: data.size=[64, 64]" in (folder / "evaluate.log").read_text()
    # The saved configuration says all of it.
    cli.start("evaluate", "--config-dir", str(folder), "--config-name", "config", "hydra.run.dir=again")
    assert detections(cli.here / "again") == wanted


def test_unless_a_size_is_given(runs, cli, evaluate):
    folder = evaluate("data=coco", runs.detection, "data.short_side=96", "data.long_side=128")
    assert settings(folder, "size", "short_side", "long_side") == {
        "size": None,
        "short_side": 96,
        "long_side": 128,
    }
    assert "size of the training's" not in (folder / "evaluate.log").read_text()
    cli.start("evaluate", "--config-dir", str(folder), "--config-name", "config", "hydra.run.dir=again")
    assert settings(cli.here / "again", "size", "short_side") == {"size": None, "short_side": 96}


def test_classifiers_too(runs, evaluate):
    root = f"data.root={runs.folder / 'classification'}"
    folder = evaluate("data=imagenet", root, checkpoint=runs.seed)
    assert settings(folder, "size") == {"size": 32}
    assert scores(folder)["accuracy"] == scores(runs.seed)["accuracy"]


def test_images_that_are_not_scored_are_counted(evaluate):
    folder = evaluate("data.batch_size=3", "trainer.limit_val_batches=1")
    left_out = json.loads((folder / "results.json").read_text())["left_out"]
    assert left_out == {"validation: images behind trainer.limit_val_batches": 1}


@pytest.mark.parametrize("sign", ["", "+", "++"])
def test_single_settings_are_changed_with_or_without_a_sign(evaluate, sign):
    folder = evaluate(f"{sign}data.batch_size=3", f"{sign}task.backend=pycocotools")
    assert settings(folder, "batch_size", "size") == {"batch_size": 3, "size": None}
    assert OmegaConf.load(folder / "config.yaml").task.backend == "pycocotools"
