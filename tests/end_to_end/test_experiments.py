"""Every recipe in conf/experiment really runs: ten steps, as golden as ever, and a validation on small sets."""

import csv
import hashlib
import json
import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from entries import start
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from recipes import EXPERIMENTS, entry_of

from fna_lightning.architectures import (
    ResNetArchitecture,
    architecture_from_dict,
    load_architecture,
    save_architecture,
    save_parts,
)
from fna_lightning.backbones import build_backbone
from fna_lightning.data import (
    CityscapesDataModule,
    CocoDataModule,
    ShapesClassificationDataModule,
    ShapesDetectionDataModule,
    ShapesSegmentationDataModule,
    VocDataModule,
)
from fna_lightning.files import CONF_DIR
from fna_lightning.targets import resolve_target

SIDE = 64  # pixels of all images here
STEPS = 10
RATE = 1e-5  # at the recipes' own, ten steps on so small maps are chaos: a second thread changes losses by half
IMAGES = 40  # of which a search takes half for either step

# What makes a run small, as far as its groups have such a key.
SMALL = {
    "optimizer.lr": RATE,
    "search.weights.lr": RATE,
    "search.architecture.lr": RATE,
    "trainer.max_epochs": 1,
    "trainer.limit_train_batches": STEPS,
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
    "data.num_train": IMAGES,
    "data.num_val": 4,
    "data.image_size": SIDE,
    "data.batch_size": 2,
    "data.num_workers": 0,
}
# The same of a search that scores candidates, in an epoch behind that of the ten steps.
CANDIDATES = 2
FEW = {
    "trainer.max_epochs": 2,
    "search.supernet": "null",
    "search.share": 0.2,
    "search.generations": 1,
    "search.population": CANDIDATES,
    "search.parents": 1,
    "search.mutations": 0,
    "search.crossovers": 0,
    "search.statistics_batches": 1,
    "search.cost_bins": "null",
    "cost.limit": "null",
    "detector.box_width": 16,
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Kind, or streets -> root and settings by which such a set is read, whatever layout the recipe names."""
    root = tmp_path_factory.mktemp("sets")
    ShapesDetectionDataModule(root / "detection", IMAGES, 4, SIDE).prepare_data()
    ShapesClassificationDataModule(root / "classification", IMAGES, 4, SIDE).prepare_data()
    ShapesSegmentationDataModule(root / "segmentation", IMAGES, 4, SIDE).prepare_data()
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
        "voc": {
            "data.root": voc(root, coco),
            "data.train_sets": "[train]",
            "data.val_sets": "[val]",
            "data.classes": "[circle,square,triangle,star]",
            "data.one_based": False,
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


def voc(root, coco):
    """The generated detection set in the layout of Pascal VOC."""
    year = root / "voc"
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (year / folder).mkdir(parents=True)
    for split, file, pictures in (
        ("train", coco.train_annotation_file, coco.train_images),
        ("val", coco.val_annotation_file, coco.val_images),
    ):
        content = json.loads(file.read_text())
        names = {category["id"]: category["name"] for category in content["categories"]}
        for image in content["images"]:
            boxes = [each for each in content["annotations"] if each["image_id"] == image["id"]]
            stem, ending = f"{split}_{image['id']}", Path(image["file_name"]).suffix
            shutil.copy(pictures / image["file_name"], year / "JPEGImages" / f"{stem}{ending}")
            objects = "".join(voc_object(names[each["category_id"]], *each["bbox"]) for each in boxes)
            size = f"<size><width>{image['width']}</width><height>{image['height']}</height></size>"
            text = f"<annotation><filename>{stem}{ending}</filename>{size}{objects}</annotation>"
            (year / "Annotations" / f"{stem}.xml").write_text(text)
        lines = [f"{split}_{image['id']}" for image in content["images"]]
        (year / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(lines))
    return year


def voc_object(name, left, top, width, height):
    sides = {"xmin": left, "ymin": top, "xmax": left + width, "ymax": top + height}
    box = "".join(f"<{side}>{value}</{side}>" for side, value in sides.items())
    return f"<object><name>{name}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"


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
    """run(experiment) -> its directory, after a run that is small enough; with a small network of the kind."""
    monkeypatch.chdir(tmp_path)

    def start_small(experiment):
        entry, recipe = entry_of(experiment), [f"experiment={experiment}"]
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            config = compose(entry, recipe)
            if small := smaller(config.architecture):
                recipe += small
                config = compose(entry, recipe)
        config.paths.output = "run"
        module = resolve_target("data", config.data._target_)
        layout = {CityscapesDataModule: "streets", VocDataModule: "voc"}.get(module, module.kind)
        settings = {**SMALL, **sets[layout]}
        if has_key(config, "search.generations"):
            settings |= FEW
        if OmegaConf.is_missing(config.seed, "weights"):
            settings |= seed_of(config.architecture, weights)
        given = [f"{key}={value}" for key, value in settings.items() if has_key(config, key)]
        start(entry, *recipe, *given, "hydra.run.dir=run")
        return tmp_path / "run"

    return start_small


def smaller(node):
    """Settings of a backbone to be trained in its place, where it is a large one."""
    large = backbone_of(node)
    if large.kind == "shuffle":
        return ["architecture=shufflenet_small"]
    if large.kind != "resnet":
        return []
    small = ResNetArchitecture(large.block, (1, 1, 1, 1), large.groups, large.width_per_group)
    save_architecture(small, "net.yaml")
    if "backbone" in node:  # beside a head
        return ["architecture.backbone=net.yaml"]
    return ["architecture=file", "architecture.path=net.yaml"]


def seed_of(node, mobilenet):
    """Settings of a seed: MobileNetV2 for recipes of its kind, else random weights of the recipe's own network."""
    architecture = backbone_of(node)
    if architecture.kind == "mobile":
        return {"seed.weights": mobilenet}
    save_parts({"backbone": architecture}, Path("seed"))
    torch.save(build_backbone(architecture).state_dict(), "seed/weights.pth")
    return {"seed.weights": "seed/weights.pth", "seed.architecture": "seed/architecture.yaml"}


def backbone_of(node):
    """Its architecture, whether it is given as data, by a file or by a name."""
    part = node.get("path") or node.get("backbone", node)
    return load_architecture(part) if isinstance(part, str) else plain(part)


def plain(node):
    return architecture_from_dict(OmegaConf.to_container(node))


def has_key(config, key):
    """Whether there is such a key, missing values included."""
    above, _, name = key.rpartition(".")
    node = OmegaConf.select(config, above)
    return OmegaConf.is_dict(node) and name in list(node)  # `in node` leaves missing values out


def digest(state):
    """Of all tensors of a network but its architecture parameters, names included."""
    whole = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        if "alpha" not in name:
            whole.update(name.encode() + tensor.numpy().tobytes())
    return whole.hexdigest()[:16]


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_ten_steps(run, golden, experiment):
    folder = run(experiment)
    results = json.loads((folder / "results.json").read_text())
    assert results["entry"] == entry_of(experiment)
    assert results["cost"]["input_size"] == [SIDE, SIDE]
    assert results["metrics"]
    assert all(math.isfinite(value) for value in results["metrics"].values())

    is_search = entry_of(experiment) == "search"
    table = rows(folder / "metrics.csv")
    scores_candidates = (folder / "candidates.csv").exists()
    losses = {
        name: [float(row[name]) for row in table if row[name]]
        for name in ("weight/loss", "arch/loss", "train/loss")
        if name in table[0]
    }
    steps, *architecture_steps = (len(found) for found in losses.values())
    assert steps == STEPS
    assert all(0 < count <= STEPS for count in architecture_steps)
    assert all(math.isfinite(value) for found in losses.values() for value in found)
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["iteration"] == STEPS + CANDIDATES * scores_candidates
    tensors = [value for value in checkpoint["state_dict"].values() if value.is_floating_point()]
    assert all(value.isfinite().all() for value in tensors)
    facts = {"architecture": (folder / "architecture.txt").read_text()}
    bits = {"metrics": results["metrics"], "weights": digest(checkpoint["state_dict"])}
    if scores_candidates:
        assert len(rows(folder / "candidates.csv")) == CANDIDATES
    elif is_search:
        first, *_, last = rows(folder / "alphas.csv")
        assert {**first, "iteration": 0} != {**last, "iteration": 0}  # the architecture was stepped as well
        bits["probabilities"] = [float(value) for value in last.values()]
    else:
        facts["cost"] = results["cost"]
    golden(experiment, losses, facts, bits)


def test_there_are_recipes_of_both_kinds():
    assert {entry_of(experiment) for experiment in EXPERIMENTS} == {"search", "train"}
