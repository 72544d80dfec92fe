"""Nothing is wrong in silence: sets that teach nothing, twins, fractions, pictures that nobody lists."""

import json
import logging
import re
import shutil

import cv2
import numpy as np
import pytest
import torch
from cityscapes_trees import Streets, write

from fna_lightning.data import CocoDataModule, FolderDataModule, VocDataModule
from fna_lightning.data.check import examine
from fna_lightning.data.checking.problems import Kind
from fna_lightning.errors import DataError


def module(root, **settings):
    return CocoDataModule(root, size=[32, 32], batch_size=2, num_workers=0, **settings)


def kinds(data, split="training"):
    """What the check finds in a split: (kind, what)."""
    return [(problem.kind, problem.what) for problem in examine(data).problems[split]]


def refused(data, match):
    with pytest.raises(DataError, match=match) as caught:
        data.setup("fit")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("split", "use"), [("train2017", "learn from"), ("val2017", "score")])
@pytest.mark.parametrize("how", ["none", "crowds"])
def test_no_box_to_learn_from_or_to_score(coco, split, use, how):
    content = coco.read(split)
    content["annotations"] = [{**row, "iscrowd": 1} for row in content["annotations"] if how == "crowds"]
    coco.write(content, split)
    more = ": all are marked as iscrowd or difficult" if how == "crowds" else ""
    refused(module(coco.root), f"{split}.json: no image has a box to {use}{more}; annotate single objects")
    found = kinds(module(coco.root), "training" if split == "train2017" else "validation")
    assert [kind for kind, _ in found] == [Kind.SET]


def test_difficult_objects_alone_are_nothing_to_score(voc):
    from voc_trees import ready

    root, first, _ = voc
    first.change("000009", "<difficult>0", "<difficult>1")
    with pytest.raises(
        DataError, match=r"test.txt: no image has a box to score: all are marked as iscrowd or diff"
    ):
        ready(root)


def test_boxes_that_are_fractions(coco):
    content = coco.read()
    for row in content["annotations"]:
        row["bbox"] = [0.1, 0.2, 0.3, 0.1]
    coco.write(content)
    match = (
        r"most of the 6 boxes lie within a single pixel; the first is \[0.1, 0.2, 0.3, 0.1\]; multiply them by its"
    )
    refused(module(coco.root), match)
    refused(module(coco.root, on_error="skip"), match)
    for number, row in enumerate(content["annotations"]):
        row["bbox"] = [1, 2, 20, 20] if number else [0.1, 0.2, 0.3, 0.1]
        del row["area"]
    coco.write(content)  # a single one is noticed
    data = module(coco.root)
    data.setup("fit")
    assert len(data.train_dataset.annotations.boxes) == 6
    assert [kind for kind, _ in kinds(module(coco.root))] == [Kind.TINY]


def test_boxes_of_one_pixel_are_no_fractions(coco):
    content = coco.read()
    for row in content["annotations"]:
        row.update(bbox=[5, 5, 1, 1], area=1)
    coco.write(content)
    assert kinds(module(coco.root)) == []


@pytest.mark.parametrize("one_based", [True, False])
def test_voc_boxes_that_are_fractions(voc, one_based):
    from voc_trees import ready, xml

    root, first, second = voc
    for year, name in ((first, "000005"), (first, "000007"), (second, "2008_000002"), (second, "2008_000003")):
        picture = "png" if name == "2008_000002" else "jpg"
        text = xml(name, [("car", (0.25, 0.1, 0.5, 0.75), False)])
        year.file(name).write_text(text.replace(".jpg", f".{picture}"))
    with pytest.raises(DataError, match="most of the 4 boxes lie within a single pixel; the first has corners"):
        ready(root, one_based=one_based)


@pytest.mark.parametrize("name", ["0002.jpg", "./0002.jpg"])
def test_one_picture_twice(coco, name):
    content = coco.read()
    image = content["images"][2]
    twin = {**image, "id": 999, "file_name": name}
    content["images"].append(twin)
    own = [row for row in content["annotations"] if row["image_id"] == image["id"]]
    copies = [{**row, "id": 9000 + k, "image_id": 999} for k, row in enumerate(own)]
    assert len(copies) == 2
    content["annotations"] += reversed(copies)
    coco.write(content)
    place = f"images[6] is {name} as images[2]"
    assert kinds(module(coco.root)) == [(Kind.TWICE, f"{place}, with the same boxes")]

    copies[0]["bbox"] = [1, 2, 20, 20]
    coco.write(content)
    assert kinds(module(coco.root)) == [(Kind.TWO_TRUTHS, f"{place}, with other boxes")]
    refused(module(coco.root), re.escape(f"{place}, with other boxes; keep the right entry or set data.on_error"))
    data = module(coco.root, on_error="skip")
    data.setup("fit")
    assert 999 not in data.train_dataset.annotations.image_ids


def test_copies_under_other_names(coco, caplog):
    content = coco.read()
    image = content["images"][2]
    own = [row for row in content["annotations"] if row["image_id"] == image["id"]]
    for k, name in enumerate(("copy.jpg", "link.jpg")):
        path = coco.root / "train2017" / name
        source = coco.root / "train2017" / image["file_name"]
        path.symlink_to(source) if k else shutil.copy(source, path)
        content["images"].append({**image, "id": 999 + k, "file_name": name})
        content["annotations"] += [
            {**row, "id": 9000 + 10 * k + j, "image_id": 999 + k} for j, row in enumerate(own)
        ]
    content["annotations"][-1]["bbox"] = [1, 2, 20, 20]
    coco.write(content)
    twin = coco.root / "train2017" / image["file_name"]
    assert kinds(module(coco.root)) == [
        (Kind.COPY, f"has the same bytes as {twin}, annotated alike"),
        (Kind.OTHER_COPY, f"has the same bytes as {twin}, but annotated otherwise"),
    ]
    with caplog.at_level(logging.WARNING):
        module(coco.root).setup("fit")
    folder = coco.root / "train2017"
    assert [record.getMessage() for record in caplog.records] == [
        f"training set: copies of a picture in one split (1); the first: {folder}/copy.jpg: has the same bytes as "
        f"{twin}, annotated alike",
        f"training set: copies of a picture with other annotations (1); the first: {folder}/link.jpg: has the "
        f"same bytes as {twin}, but annotated otherwise",
    ]
    caplog.clear()
    module(coco.root, check_images="none").setup("fit")
    assert caplog.records == []


def test_copies_of_other_kinds(folders, tmp_path):
    shutil.copy(folders / "train" / "ant" / "0.jpg", folders / "train" / "bee" / "copy.jpg")
    found = kinds(FolderDataModule(folders, size=32, num_workers=0))
    assert [kind for kind, _ in found] == [Kind.OTHER_COPY]
    streets = Streets(tmp_path / "streets")
    for name in ("copy", "other"):
        shutil.copy(streets.picture("train", "ulm/01"), streets.picture("train", f"ulm/{name}"))
        shutil.copy(streets.label("train", "ulm/01"), streets.label("train", f"ulm/{name}"))
    labels = streets.ids("train", "ulm/other")
    labels[:] = 7
    assert cv2.imwrite(str(streets.label("train", "ulm/other")), labels)
    assert [kind for kind, _ in kinds(streets.module())] == [Kind.COPY, Kind.OTHER_COPY]


@pytest.mark.parametrize("area", [-1, 0, float("inf"), float("nan"), 50 * 20.5 * 17, 23 * 19])
def test_areas_that_cannot_be(coco, area):
    content = coco.read()
    content["annotations"][0]["area"] = area
    coco.write(content)
    assert [kind for kind, _ in kinds(module(coco.root))] == [Kind.AREA]
    data = module(coco.root)
    data.setup("fit")
    box = content["annotations"][0]["bbox"]
    assert data.train_dataset.annotations.areas[0] == box[2] * box[3]
    assert data.train_dataset.annotations.areas[1] == 300.5


@pytest.mark.parametrize("area", [1, 20.5 * 17, 22.5 * 19])
def test_areas_that_a_box_holds_but_for_rounding(coco, area):
    content = coco.read()
    content["annotations"][0]["area"] = area
    coco.write(content)
    assert kinds(module(coco.root)) == []
    data = module(coco.root)
    data.setup("fit")
    assert data.train_dataset.annotations.areas[0] == area


def test_categories_of_one_name(coco):
    for split in ("train2017", "val2017"):
        content = coco.read(split)
        content["categories"][2]["name"] = "car"
        coco.write(content, split)
    data = module(coco.root)
    data.setup("fit")
    assert data.class_names == ("car (3)", "car (8)", "brush")
    assert [kind for kind, _ in kinds(module(coco.root))] == [Kind.SAME_NAME] * 2


def test_classes_that_no_box_is_of(coco):
    content = coco.read()
    for row in content["annotations"]:
        row["iscrowd"] = row["category_id"] == 90
    coco.write(content)
    assert kinds(module(coco.root)) == [(Kind.UNSEEN_CLASS, "no image has a box of brush")]
    for row in content["annotations"]:
        row.update(iscrowd=None, area=None)  # as good as not there
    coco.write(content)
    assert kinds(module(coco.root)) == []


def test_streets_of_no_class(tmp_path):
    streets = Streets(tmp_path / "streets")
    for k in range(3):
        streets.add("val", f"bonn/{k:02d}", (48, 64), ids=(0, 4, 0, 4, 0, 4))
    with pytest.raises(DataError, match="no label file has a pixel of any class to score: all are ignored"):
        streets.ready()


def test_pictures_in_neither_split_are_counted(coco, caplog):
    for name in (
        "train2017/more/a.JPG",
        "train2017/b.gif",
        "val2017/c.webp",
        "val2017/.hidden.jpg",
        "val2017/d.txt",
    ):
        path = coco.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    found = [problem for problem in examine(module(coco.root)).problems["training"] if problem.kind is Kind.UNUSED]
    assert [(problem.path.name, problem.what) for problem in found] == [
        ("train2017", "2 picture(s) are in neither split, and not used: b.gif, more/a.JPG"),
        ("val2017", "1 picture(s) are in neither split, and not used: c.webp"),
    ]
    with caplog.at_level(logging.WARNING):
        module(coco.root).setup("fit")
    assert "folders with pictures that no split lists (2)" in caplog.text


def test_pictures_beside_the_class_folders_are_counted(folders):
    shutil.copy(folders / "train" / "ant" / "0.jpg", folders / "train" / "stray.jpg")
    data = FolderDataModule(folders, size=32, num_workers=0)
    found = [problem for problem in examine(data).problems["training"] if problem.kind is Kind.UNUSED]
    assert [problem.what for problem in found] == ["1 picture(s) are in neither split, and not used: stray.jpg"]


def test_splits_that_nobody_asked_for_are_counted(coco, folders, voc, tmp_path):
    streets = Streets(tmp_path / "streets")
    for split, number in (("train_extra", 4), ("test", 2)):
        for k in range(number):
            streets.add(split, f"ulm/{k:02d}", (40, 64), seed=50 + k)
        streets.label(split, "ulm/00").with_name("00_color.png").write_bytes(b"")
    both = "picture(s) are in neither split, and not used: ulm/00_leftImg8bit.png, ulm/01_leftImg8bit.png"
    together = {"image_suffix": ".jpg", "label_suffix": ".png", "images_folder": "all", "labels_folder": "all"}
    for split, names in (("train", "abc"), ("val", "de"), ("test", "f")):
        for name in names:
            write(tmp_path / "streets" / "all" / split / f"{name}.png", np.full((40, 64), ord(name) % 3, np.uint8))
            picture = np.full((40, 64, 3), ord(name), np.uint8)
            write(tmp_path / "streets" / "all" / split / f"{name}.jpg", picture)
    shutil.copytree(coco.root / "val2017", coco.root / "test2017")
    (folders / "__MACOSX").mkdir()
    shutil.copytree(folders / "val", folders / "test")
    root, first, _ = voc
    shutil.copytree(first.root / "JPEGImages", first.root / "SegmentationClass")
    for data, wanted in (
        (streets.module(), [("test", f"2 {both}"), ("train_extra", f"4 {both}, ulm/02_leftImg8bit.png, ...")]),
        (streets.module(classes={"a": 0, "b": 1, "c": 2}, **together), [("test", "1 picture(s) are in neither")]),
        (module(coco.root), [("test2017", "3 picture(s) are in neither split")]),
        (FolderDataModule(folders, size=32, num_workers=0), [("test", "6 picture(s) are in neither split")]),
        (VocDataModule(root, size=[48, 64], num_workers=0), []),
    ):
        found = [problem for problem in examine(data).problems["training"] if problem.kind is Kind.UNUSED]
        assert [problem.path.name for problem in found] == [name for name, _ in wanted]
        for problem, (_, words) in zip(found, wanted, strict=True):
            assert problem.what.startswith(words)


def test_streets_in_deeper_folders_are_found(tmp_path):
    streets = Streets(tmp_path / "streets")
    streets.add("train", "north/berlin/mitte/20", (40, 64))
    assert len(streets.ready().train_dataset) == 7
    assert (tmp_path / "streets/leftImg8bit/train/north").is_dir()


@pytest.mark.parametrize("given", ["coco/annotations", "", "other", "coco/coco"])
def test_a_root_that_is_close_by(coco, tmp_path, given):
    (tmp_path / "other").mkdir()
    refused(
        module(tmp_path / given),
        f"instances_train2017.json: no such file or folder, but there is {coco.file()}; set data.root={coco.root}",
    )


def test_other_layouts_close_by(voc, folders, tmp_path):
    from voc_trees import ready

    root, _, _ = voc
    with pytest.raises(DataError, match=f"set data.root={root}$"):
        ready(root / "VOC2007")
    refused(FolderDataModule(folders / "train", size=32, num_workers=0), f"set data.root={folders}$")
    streets = Streets(tmp_path / "set" / "streets")
    streets.root = streets.root / "gtFine"
    refused(streets.module(), f"set data.root={tmp_path / 'set' / 'streets'}$")


@pytest.mark.parametrize("backend", ["faster_coco_eval", "pycocotools"])
def test_ids_beyond_what_doubles_hold_are_scored(coco, backend):
    """The same figures as with small ids; files keep the user's."""
    from fna_lightning.detectors import Detections
    from fna_lightning.tasks import DetectionTask

    scores = []
    for start in (0, 2**53):
        content = coco.read("val2017")
        shift = {row["id"]: row["id"] % 100 + start for row in content["images"]}
        content["images"] = [{**row, "id": shift[row["id"]]} for row in content["images"]]
        content["annotations"] = [{**row, "image_id": shift[row["image_id"]]} for row in content["annotations"]]
        for row in (*content["annotations"], *content["categories"]):
            key = "id" if "name" in row else "category_id"
            row[key] = row[key] % 100 + start
        train = coco.read()
        train["categories"] = content["categories"]
        for row in train["annotations"]:
            row["category_id"] = row["category_id"] % 100 + start
        coco.write(content, "val2017")
        coco.write(train)
        data = module(coco.root)
        data.setup("fit")
        metric = DetectionTask(backend).metric(data)
        for batch in data.val_dataloader():
            found = [
                Detections(boxes, torch.linspace(0.4, 0.9, len(boxes)), labels)
                for boxes, labels in zip(batch.boxes, batch.labels, strict=True)
            ]
            metric.update(found, batch)
        scores.append(metric.compute())
        assert {row["image_id"] for row in metric.results()} <= {row["id"] for row in content["images"]}
        assert {row["category_id"] for row in metric.results()} <= {row["id"] for row in content["categories"]}
    assert scores[0] == scores[1]
    assert scores[0]["mAP"] > 0.9


def test_ids_of_more_than_64_bits_are_named(coco):
    content = coco.read()
    content["images"][0]["id"] = 2**70
    coco.write(content)
    refused(module(coco.root), "images.0..id is 1180591620717411303424, not int of 64 bits")
    assert json.loads(coco.file().read_text())["images"][0]["id"] == 2**70
