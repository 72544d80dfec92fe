"""Segmentation by the entry points: searched, trained, scored, and its predictions held against their files."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from entries import start

from fna_lightning.architectures import load_architecture

SMALL = (
    "data.num_train=12",
    "data.num_val=5",
    "data.image_size=64",
    "data.batch_size=4",
    "data.num_workers=0",
    "detector.channels=16",
    "cost.input_size=[64,64]",
    "trainer.enable_progress_bar=false",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
)


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    """Directories of a search, of its network trained, and of the set that was generated for them."""
    folder = tmp_path_factory.mktemp("segmentation")
    data, search, train = (folder / name for name in ("shapes", "search", "train"))
    given = (*SMALL, f"data.root={data}")
    start(
        "search",
        "experiment=demo/segmentation_search",
        *given,
        "search.warmup_epochs=1",
        "search.share=0.4",
        "space.candidates=[k3_e3,k5_e6]",
        f"hydra.run.dir={search}",
    )
    start("train", "experiment=demo/segmentation", *given, f"architecture={search}", f"hydra.run.dir={train}")
    return SimpleNamespace(data=data, search=search, train=train)


@pytest.fixture
def evaluated(segmented, tmp_path, monkeypatch):
    """evaluated(*overrides) -> the directory of an evaluation of the trained network."""
    monkeypatch.chdir(tmp_path)

    def run(*overrides):
        start("evaluate", f"checkpoint={segmented.train}", *overrides, "hydra.run.dir=evaluation")
        return tmp_path / "evaluation"

    return run


def metrics(folder):
    return json.loads((folder / "results.json").read_text())["metrics"]


def recounted(folder, data):
    """IoU by id, from the written label files and those of the set alone."""
    hits, union = np.zeros(256), np.zeros(256)
    paths = sorted((folder / "predictions" / "label_ids").rglob("*.png"))
    for path in paths:
        found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        (truth_path,) = data.rglob(f"val/*/{path.stem}_gtFine_labelIds.png")
        truth = cv2.imread(str(truth_path), cv2.IMREAD_UNCHANGED)
        assert found.shape == truth.shape
        assert found.dtype == np.uint8
        valid = truth != 255
        for label in range(5):
            hits[label] += np.sum(valid & (found == label) & (truth == label))
            union[label] += np.sum(valid & ((found == label) | (truth == label)))
    assert len(paths) == 5
    return hits[:5] / union[:5]


def test_the_found_network_is_trained_at_its_output_stride(segmented):
    assert load_architecture(segmented.train) == load_architecture(segmented.search)
    assert set(metrics(segmented.train)) == {"mIoU", "pixel_accuracy"}
    assert "Labels" in (segmented.train / "report.html").read_text()
    checkpoint = torch.load(segmented.train / "checkpoints" / "last.ckpt", weights_only=True)
    assert "network.aspp.pooling.0.weight" in checkpoint["state_dict"]


@pytest.mark.parametrize(
    "how",
    [
        [],
        ["task.window=48", "task.window_batch=3"],
        ["+task.scales=[0.75,1.25]", "++task.flip=true"],
        ["data.resize=[48,80]"],
    ],
    ids=["whole", "windows", "scales", "resized"],
)
def test_scores_are_those_of_the_written_files(segmented, evaluated, how):
    folder = evaluated("save_predictions=true", *how)
    found = metrics(folder)
    ious = recounted(folder, segmented.data)
    names = ("ground", "circle", "square", "triangle", "star")
    assert {name: found[f"IoU/{name}"] for name in names} == pytest.approx(dict(zip(names, ious, strict=True)))
    assert found["mIoU"] == pytest.approx(ious.mean())
    coloured = sorted((folder / "predictions" / "coloured").rglob("*.png"))
    assert [cv2.imread(str(path)).shape for path in coloured] == [(64, 64, 3)] * 5


def test_evaluation_repeats_the_training_runs_score(segmented, evaluated):
    folder = evaluated()
    assert metrics(folder)["mIoU"] == pytest.approx(metrics(segmented.train)["mIoU"], abs=1e-6)
    time = json.loads((folder / "results.json").read_text())["time"]
    assert time["training_seconds"] * time["images_per_second"] == pytest.approx(5)  # images
    assert not (folder / "predictions").exists()
    assert "Classes" in (folder / "report.html").read_text()


def test_classes_are_matched_by_name(segmented, evaluated):
    """The same files, described as a set whose classes are in another order, and one of another name."""
    given = ["data=cityscapes", f"data.root={segmented.data}", "data.batch_size=4", "data.num_workers=0"]
    given += ["data.classes={star: 4, disc: 1, square: 2, triangle: 3, ground: 0}", "data.ignored=[255]"]
    folder = evaluated(*given, "classes={disc: circle}", "save_predictions=true")
    found, wanted = metrics(folder), metrics(segmented.train)
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=1e-6)
    ious = recounted(folder, segmented.data)
    names = ("ground", "circle", "square", "triangle", "star")
    assert [found[f"IoU/{name}"] for name in names] == pytest.approx(list(ious))


@pytest.mark.parametrize(
    ("entry", "overrides", "words"),
    [
        (
            "evaluate",
            [
                "data=cityscapes",
                "data.root=SET",
                "data.classes={star: 4, disc: 1, square: 2, triangle: 3, moon: 0}",
            ],
            ["only the data set has 'disc', 'moon', only the network has 'ground', 'circle'", "classes={name in"],
        ),
        (
            "train",
            ["data=shapes_detection", "data.root=other"],
            ["for detection", "for segmentation"],
        ),
        ("train", ["detector=deeplabv3plus", "detector.features=[7]"], ["features", "[2, 7]"]),
        ("train", ["detector.output_stride=12"], ["output stride 12"]),
        ("train", ["data.batch_size=1"], ["data.batch_size=1", "2 or more"]),
        ("train", ["task.stride=32"], ["task.stride=32", "task.window"]),
        ("train", ["parameters.head_lr_factor=0"], ["parameters.head_lr_factor=0", "above 0"]),
        ("train", ["data.crop=[64]"], ["data.crop"]),
        ("evaluate", ["data.val_split=test"], ["test", "data.val_split"]),
    ],
)
def test_mistakes_are_told_in_one_line(segmented, tmp_path, monkeypatch, capsys, entry, overrides, words):
    monkeypatch.chdir(tmp_path)
    given = [f"checkpoint={segmented.train}"]
    if entry == "train":
        given = ["experiment=demo/segmentation", *SMALL, f"data.root={segmented.data}"]
    with pytest.raises(SystemExit) as caught:
        start(entry, *given, *(text.replace("SET", str(segmented.data)) for text in overrides))
    assert caught.value.code == 2
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    assert [word for word in words if word not in line] == []
