"""Every recipe in conf/experiment really runs: two steps and a validation on small sets in the right layout."""

import csv
import json
import math

import cv2
import numpy as np
import pytest
import torch
from entries import start
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from fna_lightning.data import (
    CityscapesDataModule,
    CocoDataModule,
    ShapesClassificationDataModule,
    ShapesDetectionDataModule,
    ShapesSegmentationDataModule,
)
from fna_lightning.files import CONF_DIR
from fna_lightning.targets import resolve_target

FOLDER = CONF_DIR / "experiment"
EXPERIMENTS = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))
SIDE = 64  # pixels of all images here

# What makes a run small, as far as its groups have such a key.
SMALL = {
    "trainer.max_epochs": 1,
    "trainer.limit_train_batches": 2,
    "trainer.limit_val_batches": 1,
    "trainer.log_every_n_steps": 1,
    "trainer.enable_progress_bar": False,
    "strategy.sync_batchnorm": False,  # which torch has for GPUs only
    "search.warmup_epochs": 0,  # so that architecture steps are taken
    "search.log_every": 1,
    "cost.input_size": [SIDE, SIDE],
    "detector.fpn_channels": 8,
    "detector.head_depth": 1,
    "detector.channels": 16,
    "remap.calibration_batches": 2,
    "schedule.warmup_steps": 1,
    "data.num_train": 16,
    "data.num_val": 4,
    "data.image_size": SIDE,
    "data.batch_size": 2,
    "data.num_workers": 0,
}


def entry_of(experiment):
    """Recipes of searches are named so."""
    return "search" if experiment.endswith(("/search", "_search")) else "train"


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Kind, or streets -> root and settings by which such a set is read, whatever layout the recipe names."""
    root = tmp_path_factory.mktemp("sets")
    ShapesDetectionDataModule(root / "detection", 16, 4, SIDE).prepare_data()
    ShapesClassificationDataModule(root / "classification", 16, 4, SIDE).prepare_data()
    ShapesSegmentationDataModule(root / "segmentation", 16, 4, SIDE).prepare_data()
    coco = CocoDataModule(root / "detection")
    return {
        "detection": {
            "data.root": root / "detection",
            "data.train_annotations": coco.train_annotation_file,
            "data.val_annotations": coco.val_annotation_file,
            "data.train_images": coco.train_images,
            "data.val_images": coco.val_images,
            "data.size": [SIDE, SIDE],
        },
        "segmentation": {"data.root": root / "segmentation", "data.crop": [SIDE, SIDE]},
        "streets": {"data.root": streets(root), "data.resize": "null", "data.crop": [SIDE, SIDE]},
        "classification": {
            "data.root": root / "classification",
            "data.train_folder": "train",
            "data.val_folder": "val",
            "data.size": SIDE,
            "data.resize": SIDE,
        },
    }


def streets(root):
    """The generated segmentation set under ids of Cityscapes."""
    ids = np.zeros(256, np.uint8)
    ids[:5] = (7, 8, 11, 13, 17)
    for path in sorted((root / "segmentation").rglob("*.png")):
        copy = root / "streets" / path.relative_to(root / "segmentation")
        copy.parent.mkdir(parents=True, exist_ok=True)
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(copy), ids[pixels] if pixels.ndim == 2 else pixels)
    return root / "streets"


@pytest.fixture(scope="module")
def weights(torchvision_net, tmp_path_factory):
    """A file of MobileNetV2's weights under torchvision's names; their values are random."""
    path = tmp_path_factory.mktemp("weights") / "mobilenet_v2.pth"
    torch.save(torchvision_net.state_dict(), path)
    return path


@pytest.fixture
def run(sets, weights, tmp_path, monkeypatch):
    """run(experiment) -> its directory, after a run that is small enough."""
    monkeypatch.chdir(tmp_path)

    def start_small(experiment):
        entry = entry_of(experiment)
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            config = compose(entry, [f"experiment={experiment}"])
        config.paths.output = "run"
        module = resolve_target("data", config.data._target_)
        settings = {**SMALL, **sets["streets" if module is CityscapesDataModule else module.kind]}
        if OmegaConf.is_missing(config.seed, "weights"):
            settings["seed.weights"] = weights
        nodes = {group: node for group, node in config.items() if OmegaConf.is_dict(node)}
        known = {f"{group}.{name}" for group, node in nodes.items() for name in node}
        given = [f"{key}={value}" for key, value in settings.items() if key in known]
        start(entry, f"experiment={experiment}", *given, "hydra.run.dir=run")
        return tmp_path / "run"

    return start_small


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_two_steps(run, experiment):
    folder = run(experiment)
    results = json.loads((folder / "results.json").read_text())
    assert results["entry"] == entry_of(experiment)
    assert results["cost"]["input_size"] == [SIDE, SIDE]
    assert results["metrics"]
    assert all(math.isfinite(value) for value in results["metrics"].values())

    table = rows(folder / "metrics.csv")
    losses = ["weight/loss", "arch/loss"] if entry_of(experiment) == "search" else ["train/loss"]
    for loss in losses:
        found = [float(row[loss]) for row in table if row[loss]]
        assert len(found) == 2 or loss == "arch/loss"
        assert found
        assert all(math.isfinite(value) for value in found)
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["iteration"] == 2
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values() if value.is_floating_point())
    if entry_of(experiment) == "search":
        first, *_, last = rows(folder / "alphas.csv")
        assert {**first, "iteration": 0} != {**last, "iteration": 0}  # the architecture was stepped as well


def test_there_are_recipes_of_both_kinds():
    assert {entry_of(experiment) for experiment in EXPERIMENTS} == {"search", "train"}
