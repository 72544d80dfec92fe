"""Sets with YOLO's label files: every form of their description, and the same boxes as in other layouts."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from voc_trees import xml
from yolo_trees import SIZE, YoloSet, content

from fna_lightning.data import CocoDataModule, VocDataModule, YoloDataModule
from fna_lightning.data.check import examine
from fna_lightning.data.checking.problems import Kind
from fna_lightning.data.layouts.yolo_annotations import label_file
from fna_lightning.data.layouts.yolo_text import parse_labels

EXPECTED = {
    "train": {
        "train0.png": [("cell", (48, 16, 32, 32)), ("dot", (24, 8, 16, 16))],
        "train1.png": [("dot", (0, 0, 128, 64))],
        "train2.png": [("cell", (64, 24, 64, 16))],
    },
    "val": {
        "val0.png": [("dot", (16, 24, 32, 16))],
        "val1.png": [("cell", (48, 0, 32, 32))],
    },
}


@pytest.fixture
def yolo(tmp_path):
    return YoloSet(tmp_path / "cells")


def test_boxes_and_classes(yolo):
    data = yolo.ready()
    assert data.class_names == ("cell", "dot")
    assert data.category_ids == [0, 1]
    assert content(data) == EXPECTED
    assert data.train_dataset.totals() == {"images": 3, "boxes": 4, "images without boxes": 0}
    # Corners at half the size.
    assert data.val_dataset[0, 0].boxes.tolist() == [[8, 12, 24, 20]]


FORMS = {
    "names by number": {"train": "images/train", "val": "images/val", "names": {1: "dot", 0: "cell"}, "nc": 2},
    "a path": {"path": ".", "train": "images/train", "val": "images/val/", "names": ["cell", "dot"]},
    "ultralytics": {"path": "../datasets/cells", "train": "images/train", "val": "images/val", "test": None},
    "another machine": {"path": "/content/cells", "train": "/content/cells/images/train", "val": "images/val"},
    "Windows": {"train": "C:\\sets\\cells\\images\\train", "val": "images\\val"},
    "folders": {"train": ["images/train"], "val": ["images/val"]},
    "one level up": {"train": "../images/train", "val": "../images/val"},
    "lists": {"train": "train.txt", "val": ["val.txt"]},
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_description(yolo, form):
    yolo.describe(**{"names": ["cell", "dot"], **FORMS[form]})
    (yolo.root / "train.txt").write_text(
        "./images/train/train0.png\nimages/train/train1.png\n\ndata/images/train/train2.png\n"
    )
    (yolo.root / "val.txt").write_text(f"{yolo.root}/images/val/val0.png\r\n/other/images/val/val1.png")
    assert content(yolo.ready()) == EXPECTED


def test_folders_of_another_set_beside_are_not_taken(yolo):
    """Roboflow writes ../train/images, which is inside its set."""
    other = yolo.root.parent / "train" / "images"
    other.mkdir(parents=True)
    roboflow = YoloSet(yolo.root.parent / "exported", "{}/images", "{}/labels")
    roboflow.describe(train="../train/images", val="../val/images", nc=2, names=["cell", "dot"])
    assert content(roboflow.ready()) == EXPECTED
    assert not any(other.iterdir())


@pytest.mark.parametrize(
    ("images", "labels"), [("{}/images", "{}/labels"), ("{}", "{}"), ("images/a/images/{}", "images/a/labels/{}")]
)
def test_where_labels_are(tmp_path, images, labels):
    """In place of the last folder `images`, and beside the pictures where there is none."""
    yolo = YoloSet(tmp_path / "images" / "cells", images, labels)
    assert content(yolo.ready()) == EXPECTED


def test_the_rule_does_not_look_outside_the_set(tmp_path):
    root = tmp_path / "images" / "cells"
    assert label_file(root / "train" / "a.b.jpg", root) == root / "train" / "a.b.txt"
    assert label_file(tmp_path / "images" / "a.jpg", root) == tmp_path / "labels" / "a.txt"


def test_label_studio(yolo):
    """No data.yaml, but `classes.txt` and all pictures in one folder."""
    (yolo.root / "data.yaml").unlink()
    (yolo.root / "classes.txt").write_text("cell\ndot\n")
    data = yolo.ready()
    found = content(data)
    assert {**found["train"], **found["val"]} == {**EXPECTED["train"], **EXPECTED["val"]}


def test_pictures_without_objects(yolo):
    yolo.add("train", "train3", None)
    yolo.add("train", "train4", " \n")
    data = yolo.ready()
    assert content(data)["train"] == {**EXPECTED["train"], "train3.png": [], "train4.png": []}
    assert data.train_dataset[0, 3].boxes.shape == (0, 4)
    found = examine(yolo.module()).problems["training"]
    assert [problem.kind for problem in found] == [Kind.NO_OBJECT] * 2
    assert "has no label file" in found[0].what
    assert found[1].what == "has no object, and stands for background"


def test_polygons_are_the_boxes_around_them(yolo):
    yolo.label("train", "train1").write_text("0 0.5 0.5 0.25 0.5\n1 0.25 0.25 0.5 0.125 0.375 0.75\n")
    data = yolo.ready()
    assert content(data)["train"]["train1.png"] == [("cell", (48, 16, 32, 32)), ("dot", (32, 8, 32, 40))]
    (problem,) = examine(yolo.module()).problems["training"]
    assert problem.kind is Kind.POLYGONS
    assert problem.where().endswith("train1.txt:2")
    assert problem.what == "1 object(s) are polygons, the first from here on, and taken as the boxes around them"


@pytest.fixture
def three(tmp_path):
    """One set of pictures and boxes in the layouts of COCO, VOC and YOLO."""
    generator = np.random.default_rng(5)
    names = ("cell", "dot", "line")
    yolo = YoloSet(tmp_path / "set")
    for split in ("train", "val"):
        for folder in (yolo.root / "images" / split, yolo.root / "labels" / split):
            for path in folder.iterdir():
                path.unlink()
        images, rows = [], []
        for number in range(6):
            objects, lines = [], []
            for _ in range(number % 4):
                left, top = (int(generator.integers(0, side - 9)) for side in SIZE[::-1])
                width, height = (
                    int(generator.integers(2, side - at)) for side, at in zip(SIZE[::-1], (left, top), strict=True)
                )
                label = int(generator.integers(3))
                lines.append(
                    f"{label} {(left + width / 2) / 128} {(top + height / 2) / 64} {width / 128} {height / 64}"
                )
                objects.append((names[label], (left + 1, top + 1, left + width, top + height), False))
                rows.append(
                    {"id": len(rows), "image_id": number, "category_id": label, "bbox": [left, top, width, height]}
                )
            name = f"{split}_{number}"
            yolo.add(split, name, "\n".join(lines))
            images.append({"id": number, "file_name": f"{name}.png", "height": SIZE[0], "width": SIZE[1]})
            (yolo.root / "Annotations").mkdir(exist_ok=True)
            file = yolo.root / "Annotations" / f"{name}.xml"
            file.write_text(xml(name, objects, SIZE).replace(f"{name}.jpg", f"{name}.png"))
        categories = [{"id": label, "name": name} for label, name in enumerate(names)]
        (yolo.root / f"{split}.json").write_text(
            json.dumps({"images": images, "annotations": rows, "categories": categories})
        )
        (yolo.root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (yolo.root / "ImageSets" / "Main" / f"{split}.txt").write_text(
            "\n".join(row["file_name"][:-4] for row in images)
        )
    pictures = yolo.root / "JPEGImages"
    pictures.mkdir()
    for path in (yolo.root / "images").rglob("*.png"):
        (pictures / path.name).symlink_to(path)
    yolo.describe(train="images/train", val="images/val", names=list(names))
    settings = {"size": [32, 64], "batch_size": 2, "num_workers": 0}
    folders = ("images/train", "images/val")
    found = (
        YoloDataModule(yolo.root, **settings),
        CocoDataModule(yolo.root, "train.json", "val.json", *folders, **settings),
        VocDataModule(yolo.root, ["train"], ["val"], names, **settings),
    )
    for data in found:
        data.setup("fit")
    return found


def test_three_layouts_hold_the_same(three):
    yolo, *others = three
    assert len(yolo.train_dataset.annotations.boxes) == 7
    for other in others:
        assert other.class_names == yolo.class_names
        for left, right in ((yolo.train_dataset, other.train_dataset), (yolo.val_dataset, other.val_dataset)):
            for name in ("sizes", "image_of", "labels", "boxes", "areas", "crowd"):
                np.testing.assert_array_equal(getattr(left.annotations, name), getattr(right.annotations, name))
            for epoch in range(2):
                for index in range(len(left)):
                    a, b = left[epoch, index], right[epoch, index]
                    assert a.file.rpartition("/")[2] == b.file.rpartition("/")[2]
                    torch.testing.assert_close(
                        (a.image, a.boxes, a.labels), (b.image, b.boxes, b.labels), rtol=0, atol=0
                    )


SHARE = st.floats(0, 1, allow_nan=False)


@given(
    st.lists(st.tuples(st.integers(0, 3), SHARE, SHARE, SHARE, SHARE), max_size=6),
    st.sampled_from([" ", "\t", "  "]),
)
def test_boxes_come_back(rows, blank):
    text = "\n".join(blank.join(map(repr, row)) for row in rows)
    found = parse_labels(text, {0, 1, 2, 3})
    assert not found.faults
    for item, (category, x, y, width, height) in zip(found.objects, rows, strict=True):
        left, top, *size = item.box
        assert (item.category, item.is_polygon, tuple(size)) == (category, False, (width, height))
        assert left + width / 2 == pytest.approx(x)
        assert top + height / 2 == pytest.approx(y)
    assert [item.line for item in found.objects] == list(range(1, len(rows) + 1))


@given(st.lists(st.tuples(SHARE, SHARE), min_size=3, max_size=9))
def test_a_polygon_lies_in_its_box_and_touches_every_side(points):
    (item,) = parse_labels("2 " + " ".join(f"{x!r} {y!r}" for x, y in points), {2}).objects
    left, top, width, height = item.box
    xs, ys = zip(*points, strict=True)
    assert item.is_polygon
    assert (left, left + width) == pytest.approx((min(xs), max(xs)))
    assert (top, top + height) == pytest.approx((min(ys), max(ys)))


WORDS = st.one_of(
    st.integers(-2, 5).map(str),
    st.floats().map(repr),
    SHARE.map(repr),
    st.sampled_from(["cat", "1,5", "nan", "inf", "1e400", "-0"]),
)
LINES = st.lists(st.lists(WORDS, max_size=10).map(" ".join), max_size=6)


@given(LINES)
def test_every_line_is_an_object_or_a_fault(lines):
    found = parse_labels("\n".join(lines), {0, 1})
    places = [item.line for item in found.objects] + [fault.line for fault in found.faults]
    assert sorted(places) == [number for number, line in enumerate(lines, 1) if line.split()]
    for item in found.objects:
        words = lines[item.line - 1].split()
        assert item.category in {0, 1}
        assert len(words) == 5 or (len(words) >= 7 and len(words) % 2 == 1)
        assert all(-0.01 <= float(word) <= 1.01 for word in words[1:])
        assert all(map(math.isfinite, item.box))
    for fault in found.faults:
        assert fault.kind.severity == "error"


@given(st.text())
def test_any_text_is_read(text):
    found = parse_labels(text, {0})
    assert len(found.objects) + len(found.faults) == sum(bool(line.split()) for line in text.splitlines())
