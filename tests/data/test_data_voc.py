"""Sets in Pascal VOC's layout: what is read of them, and that the same set in COCO's layout gives the same."""

import inspect
import json

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from voc_trees import SIZE, Year, ready

from fna_lightning.data import VOC_CLASSES, CocoDataModule, DataModule, DetectionDataModule, VocDataModule
from fna_lightning.data.check import main
from fna_lightning.data.layouts.voc_annotations import corners_to_boxes
from fna_lightning.detectors import Detections
from fna_lightning.errors import DataError
from fna_lightning.files import CONF_DIR
from fna_lightning.tasks import DetectionTask


def test_both_years(voc):
    root, _, _ = voc
    data = ready(root)
    assert data.class_names == VOC_CLASSES == tuple(sorted(VOC_CLASSES))
    assert data.category_ids == list(range(1, 21))
    names = [str(data.train_dataset.path(index).relative_to(root)) for index in range(4)]
    assert names == [
        "VOC2007/JPEGImages/000007.jpg",
        "VOC2007/JPEGImages/000005.jpg",
        "VOC2012/JPEGImages/2008_000002.png",
        "VOC2012/JPEGImages/2008_000003.jpg",
    ]
    sample = data.train_dataset[0, 1]
    # The whole image of 64x48 (width x height); the difficult person is left out.
    assert sample.boxes.tolist() == [[0, 0, 64, 48]]
    assert [VOC_CLASSES[label] for label in sample.labels] == ["dog"]
    assert (sample.image_id, sample.original_size) == (2, SIZE)
    torch.testing.assert_close(data.train_dataset[0, 2].boxes, torch.tensor([[3.7, 4, 20.2, 30]]))
    assert [VOC_CLASSES[label] for label in data.train_dataset[0, 3].labels] == ["person"] * 2
    assert data.val_dataset.totals() == {"images": 1, "boxes": 2, "images without boxes": 0}
    batches = list(data.train_dataloader())
    assert [len(batch) for batch in batches] == [2, 2]
    assert sorted(int(image) for batch in batches for image in batch.image_ids) == [1, 2, 3, 4]


def test_training_on_two_lists_of_a_year(voc, caplog):
    """FAD's search: train and val of 2012, what is difficult dropped; validation is one of the two."""
    root, first, _ = voc
    first.list("train", ["000005"])
    first.list("val", ["000009"])
    data = ready(root, train_sets=["VOC2007/train", "VOC2007/val"], val_sets=["VOC2007/val"])
    assert len(data.train_dataset) == 2
    assert [len(data.train_dataset[0, index].labels) for index in range(2)] == [1, 1]
    assert "1 validation picture(s) are trained on" in caplog.text


def test_one_year_is_a_root_too(voc, tmp_path):
    root, _, _ = voc
    data = ready(root / "VOC2007", train_sets=["trainval"], val_sets=["test"])
    assert data.train_dataset.path(0) == root / "VOC2007" / "JPEGImages" / "000007.jpg"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    absolute = ready(
        tmp_path / "other", train_sets=[f"{root}/VOC2012/trainval"], val_sets=[f"{root}/VOC2007/test"]
    )
    assert absolute.train_dataset[0, 1].image_id == 2


def test_difficult_objects(voc):
    root, _, _ = voc
    trained = ready(root, difficult=True)
    assert trained.train_dataset[0, 1].boxes.tolist() == [[0, 0, 64, 48], [9, 19, 30, 40]]
    for data in (trained, ready(root)):
        assert [row["iscrowd"] for row in data.ground_truth()["annotations"]] == [0, 1]
        assert data.val_dataset[0, 0].boxes.tolist() == [[10, 11, 33, 40]]


def test_corners_that_are_distances(voc):
    root, first, _ = voc
    first.change("000009", "<xmin>11<", "<xmin>0<")
    boxes = ready(root, one_based=False).val_dataset.annotations.boxes
    assert boxes[0].tolist() == [0, 12, 33, 28]


@given(st.lists(st.tuples(*[st.integers(1, 40)] * 4), min_size=1, max_size=5))
def test_a_box_covers_its_pixels(numbers):
    corners = np.array([[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in numbers])
    boxes = corners_to_boxes(corners.astype(float), one_based=True)
    for (left, top, right, bottom), box in zip(corners, boxes, strict=True):
        picture = np.zeros((42, 42), bool)
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                picture[row - 1, column - 1] = True
        rows, columns = np.flatnonzero(picture.any(axis=1)), np.flatnonzero(picture.any(axis=0))
        assert box.tolist() == [columns[0], rows[0], len(columns), len(rows)]
        assert box[2] * box[3] == picture.sum()
    back = np.concatenate([boxes[:, :2] + 1, boxes[:, :2] + boxes[:, 2:]], axis=1)
    assert (back == corners).all()
    distances = corners_to_boxes(corners.astype(float), one_based=False)
    assert (distances[:, :2] == corners[:, :2]).all()
    assert (distances[:, :2] + distances[:, 2:] == corners[:, 2:]).all()


def test_classes_of_the_files(voc):
    root, first, _ = voc
    with pytest.raises(
        DataError, match=r"has objects of 'person', 'tvmonitor'; set data.classes=\[car,dog,person"
    ):
        ready(root, classes=None)
    first.add("000011", [("person", (1, 1, 9, 9), False)])
    first.list("test", ["000009", "000011"])
    assert ready(root, classes=None, train_sets=["VOC2007/trainval"]).class_names == ("car", "dog", "person")


def test_pose_and_names_without_endings_are_passed_over(voc):
    root, first, _ = voc
    expected = ready(root).val_dataset.annotations
    first.change("000009", "<truncated>1", "<pose>Left</pose><truncated>perhaps")
    first.change("000009", "<filename>000009.jpg", "<filename>000009")
    first.change("000009", "<difficult>0</difficult>", "")
    found = ready(root).val_dataset.annotations
    assert found.file_names.tolist() == expected.file_names.tolist()
    assert found.as_coco() == expected.as_coco()


@pytest.fixture
def twins(tmp_path):
    """One set of images in both layouts: as `data=coco` and as `data=voc`."""
    generator = np.random.default_rng(3)
    year = Year(tmp_path / "set")
    names = ("cell", "dot", "line")
    for split, numbers in (("train", range(5)), ("val", range(5, 12))):
        images, rows = [], []
        for number in numbers:
            objects = []
            for _ in range(generator.integers(0, 5)):
                left, top = (int(generator.integers(1, side - 9)) for side in SIZE[::-1])
                right, bottom = (
                    left + int(generator.integers(5, 64 - left)),
                    top + int(generator.integers(5, 48 - top)),
                )
                label, difficult = int(generator.integers(3)), bool(generator.random() < 0.3)
                objects.append((names[label], (left, top, right, bottom), difficult))
                box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
                rows.append(
                    {
                        "id": len(rows) + 1,
                        "image_id": 100 + number,
                        "category_id": 10 * label + 4,
                        "bbox": box,
                        "iscrowd": int(difficult),
                    }
                )
            year.add(f"{number:03d}", objects)
            image = {"id": 100 + number, "file_name": f"{number:03d}.jpg", "height": SIZE[0], "width": SIZE[1]}
            images.append(image)
        year.list(split, [f"{number:03d}" for number in numbers])
        categories = [{"id": 10 * label + 4, "name": name} for label, name in enumerate(names)]
        content = {"images": images, "annotations": rows, "categories": categories}
        (year.root / f"{split}.json").write_text(json.dumps(content))
    settings = {"size": [96, 96], "batch_size": 2, "num_workers": 0}
    coco = CocoDataModule(year.root, "train.json", "val.json", "JPEGImages", "JPEGImages", **settings)
    voc = VocDataModule(year.root, ["train"], ["val"], names, **settings)
    for data in (coco, voc):
        data.setup("fit")
    return coco, voc


def test_both_layouts_hold_the_same(twins):
    coco, voc = twins
    assert coco.class_names == voc.class_names
    for left, right in ((coco.train_dataset, voc.train_dataset), (coco.val_dataset, voc.val_dataset)):
        for name in ("sizes", "image_of", "labels", "boxes", "areas", "crowd"):
            np.testing.assert_array_equal(getattr(left.annotations, name), getattr(right.annotations, name))
        for index in range(len(left)):
            assert left.path(index) == right.path(index)
            for epoch in range(2):
                a, b = left[epoch, index], right[epoch, index]
                torch.testing.assert_close(
                    (a.image, a.boxes, a.labels), (b.image, b.boxes, b.labels), rtol=0, atol=0
                )
    assert voc.val_dataset.annotations.crowd.any()


def shaken(data, task):
    """A metric that has seen the annotated boxes, shaken, and some that are wrong."""
    generator = torch.Generator().manual_seed(0)
    metric = task.metric(data)
    for batch in data.val_dataloader():
        found = []
        for boxes, labels in zip(batch.boxes, batch.labels, strict=True):
            boxes = torch.cat([boxes, boxes, torch.tensor([[0.0, 0, 90, 90], [4, 4, 20, 20]])])
            boxes = boxes + torch.randn(boxes.shape, generator=generator)
            labels = torch.cat([labels, labels, torch.tensor([0, 1])])
            found.append(Detections(boxes, torch.rand(len(boxes), generator=generator), labels))
        metric.update(found, batch)
    return metric


def test_both_layouts_score_the_same(twins):
    coco, voc = twins
    plain, full = shaken(coco, DetectionTask()), shaken(voc, DetectionTask())
    expected, figures = plain.compute(), full.compute()
    # VOC's own figures come with VOC's data; asked for, they are the same from COCO's.
    assert set(figures) - set(expected) == {"VOC_AP_11", "VOC_AP_area"}
    assert figures == shaken(coco, DetectionTask(voc=True)).compute()
    assert figures | expected == figures
    assert 0.1 < figures["VOC_AP_11"] < 1
    assert set(shaken(voc, DetectionTask(voc=False)).compute()) == set(expected)
    scores = full.class_scores()
    full.compute()
    assert scores == full.class_scores()
    assert {"AP/cell", "VOC_AP_11/dot", "VOC_AP_area/line"} <= set(scores)
    assert plain.per_class() == full.per_class()
    assert np.mean(list(full.per_class("VOC_AP_area").values())) == pytest.approx(figures["VOC_AP_area"])


def test_configuration(voc, tmp_path, capsys):
    root, _, _ = voc
    assert main(["data=voc", f"data.root={root}"]) == 0
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("check", ["data=voc", f"data.root={root}", "random_seed=7"])
    keys = set(config.data) - {"_target_"}
    signatures = [
        inspect.signature(owner).parameters for owner in (VocDataModule, DetectionDataModule, DataModule)
    ]
    assert keys == set().union(*signatures) - {"settings"}
    data, default = instantiate(config.data), VocDataModule(root)
    assert data.random_seed == 7
    for key in ("train_sets", "val_sets", "classes", "one_based", "difficult", "flip", "pad", "resize"):
        left, right = getattr(data, key), getattr(default, key)
        assert (left.args, left.func) == (right.args, right.func) if key == "resize" else left == right

    cells = Year(tmp_path / "cells")
    for number, split in enumerate(("train", "val")):
        cells.add(f"BloodImage_{number}", [("RBC", (1, 1, 9, 9), False)])
        cells.list(split, [f"BloodImage_{number}"])
    capsys.readouterr()
    assert main(["data=bccd_voc", f"data.root={cells.root}"]) == 0
    assert "nothing is broken, 1 notice(s)" in capsys.readouterr().out
