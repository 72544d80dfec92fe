"""Sets in Pascal VOC's layout: what is read of them, and that the same set in COCO's layout gives the same."""

import inspect
import json
import re

import cv2
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fna_lightning.data import VOC_CLASSES, CocoDataModule, DataModule, DetectionDataModule, VocDataModule
from fna_lightning.data.check import main
from fna_lightning.data.problems import Kind
from fna_lightning.data.voc_annotations import corners_to_boxes
from fna_lightning.data.voc_xml import VocImage, XmlError, parse_annotation
from fna_lightning.detectors import Detections
from fna_lightning.errors import ConfigError, DataError
from fna_lightning.files import CONF_DIR
from fna_lightning.tasks import DetectionTask

SIZE = (48, 64)


def xml(name, objects, size=SIZE):
    """An annotation file; objects are (class, corners, difficult)."""
    parts = [
        f"""
    <object>
        <name>{kind}</name>
        <truncated>1</truncated>
        <occluded>1</occluded>
        <bndbox>
            <xmax>{corners[2]}</xmax>
            <xmin>{corners[0]}</xmin>
            <ymax>{corners[3]}</ymax>
            <ymin>{corners[1]}</ymin>
        </bndbox>
        <difficult>{difficult:d}</difficult>
        <part>
            <name>head</name>
            <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>
        </part>
    </object>"""
        for kind, corners, difficult in objects
    ]
    return f"""<annotation>
    <folder>VOC</folder>
    <filename>{name}.jpg</filename>
    <source><annotation>nested</annotation></source>
    <size>
        <width>{size[1]}</width>
        <height>{size[0]}</height>
        <depth>3</depth>
    </size>{"".join(parts)}
</annotation>
"""


class Year:
    """One year's folder."""

    def __init__(self, root):
        self.root = root
        for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (root / folder).mkdir(parents=True)

    def add(self, name, objects, ending="jpg"):
        generator = np.random.default_rng(int(re.sub(r"\D", "", name)))
        picture = generator.integers(0, 256, (*SIZE, 3), np.uint8)
        cv2.imwrite(str(self.root / "JPEGImages" / f"{name}.{ending}"), picture)
        self.file(name).write_text(xml(name, objects).replace(".jpg", f".{ending}"))

    def list(self, split, names):
        (self.root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")

    def file(self, name):
        return self.root / "Annotations" / f"{name}.xml"

    def change(self, name, old, new):
        text = self.file(name).read_text()
        assert old in text
        self.file(name).write_text(text.replace(old, new, 1))


@pytest.fixture
def voc(tmp_path):
    """Both years; (VOCdevkit, 2007, 2012)."""
    root = tmp_path / "VOCdevkit"
    first, second = Year(root / "VOC2007"), Year(root / "VOC2012")
    first.add("000005", [("dog", (1, 1, 64, 48), False), ("person", (10, 20, 30, 40), True)])
    first.add("000007", [("car", (5, 6, 7, 8), False)])
    first.add("000009", [("car", (11, 12, 33, 40), False), ("dog", (2, 3, 30, 20), True)])
    second.add("2008_000002", [("tvmonitor", (4.7, 5, 20.2, 30), False)], "png")
    second.add("2008_000003", [("person", (1, 1, 20, 20), False), ("person", (30, 10, 60, 40), False)])
    first.list("trainval", ["000007", "000005"])
    first.list("test", ["000009"])
    second.list("trainval", ["2008_000002", "2008_000003"])
    return root, first, second


def ready(root, **settings):
    data = VocDataModule(root, **{"size": [48, 64], "batch_size": 2, "num_workers": 0, "flip": 0.0, **settings})
    data.setup("fit")
    return data


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


NO_SIZE = """<size>
        <width>64</width>
        <height>48</height>
        <depth>3</depth>
    </size>"""
# What of 000009.xml is replaced by what, the kind of problem, what begins at its line, and words of the message.
BROKEN = [
    ("</object>\n</annotation>", "</object>\n", Kind.ENTRY, None, "is not XML (no element found)"),
    ("<name>car", "<name>car&amp", Kind.ENTRY, "<name>car", "is not XML"),
    ("<depth>", "<depth a=1>", Kind.ENTRY, "<depth", "is not XML (not well-formed (invalid token))"),
    ("<size>", "</size>", Kind.ENTRY, "</size>", "is not XML (mismatched tag)"),
    ("000009.jpg", "000010.jpg", Kind.ENTRY, "<filename", "belongs to '000010.jpg', but is called 000009.xml"),
    ("000009.jpg", "../000009.jpg", Kind.ENTRY, "<filename", "belongs to '../000009.jpg'"),
    (NO_SIZE, "", Kind.NO_SIZE, "<annotation>", "the image has no <size>"),
    ("<width>64", "<width>0", Kind.NO_SIZE, "<size>", "the image has width 0 and height 48"),
    ("<width>64", "<width>64.5", Kind.NO_SIZE, "<size>", "width 64.5"),
    ("<width>64", "<width>nan", Kind.NO_SIZE, "<size>", "width nan"),
    ("<width>64", "<width>wide", Kind.NO_SIZE, "<width>", "the width 'wide', not a number"),
    ("<height>48</height>", "", Kind.NO_SIZE, "<size>", "the image has no <height>"),
    ("<name>car</name>", "", Kind.ENTRY, "<object>", "an object has no <name>"),
    ("<name>car<", "<name> <", Kind.ENTRY, "<object>", "an object has an empty <name>"),
    ("<xmin>11</xmin>", "", Kind.ENTRY, "<bndbox>", "object 'car' has no <xmin>"),
    ("<xmin>11<", "<xmin>left<", Kind.ENTRY, "<xmin>", "object 'car' has the xmin 'left', not a number"),
    ("<difficult>0", "<difficult>2", Kind.ENTRY, "<difficult>", "mark difficult '2', not 0 or 1"),
    ("<name>car", "<name>cart", Kind.NO_CATEGORY, "<object>", "object 'cart' is of none of the 20 classes"),
    ("<xmin>11<", "<xmin>34<", Kind.FLAT, "<object>", "xmin 34, ymin 12, xmax 33, ymax 40 of no area"),
    ("<xmin>11<", "<xmin>60<", Kind.FLAT, "<object>", "of no area"),
    ("<xmax>33<", "<xmax>70<", Kind.OUTSIDE, "<object>", "xmax 70, ymax 40 outside the image of 64x48"),
    ("<ymin>12<", "<ymin>-9<", Kind.OUTSIDE, "<object>", "outside the image"),
    ("<ymax>40<", "<ymax>inf<", Kind.NOT_FINITE, "<object>", "ymax inf with a number that is not finite"),
]


def line_of(text, marker):
    return text[: text.index(marker)].count("\n") + 1


@pytest.mark.parametrize(("old", "new", "kind", "marker", "words"), BROKEN, ids=lambda value: str(value)[:20])
def test_broken_files_stop_or_are_left_out(voc, caplog, old, new, kind, marker, words):
    root, first, _ = voc
    first.add("000011", [("cat", (1, 1, 9, 9), False)])
    first.list("test", ["000009", "000011"])
    first.change("000009", old, new)
    text = first.file("000009").read_text()
    line = line_of(text, marker) if marker else text.count("\n") + 1
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        ready(root)
    message = str(caught.value)
    assert message.startswith(f"{first.file('000009')}:{line}: ")
    assert message.endswith(" or set data.on_error=skip to leave it out")
    assert "\n" not in message
    data = ready(root, on_error="skip")
    whole = kind is Kind.NO_SIZE or words.startswith(("is not XML", "belongs"))
    assert data.left_out == {f"validation: {kind.title}": 1}
    assert data.val_dataset.totals()["images"] == (1 if whole else 2)
    assert data.val_dataset.totals()["boxes"] == (1 if whole else 2)
    assert f"left out 1 item(s), {kind.title}" in caplog.text
    # Ids are those of the lists, whatever is left out.
    assert data.val_dataset[0, len(data.val_dataset) - 1].image_id == 2


BOMB = """<?xml version="1.0"?>
<!DOCTYPE annotation [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">{more}]>
<annotation><filename>&z;</filename></annotation>"""


def test_document_types_are_refused():
    more = "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">'
        for a, b in zip("bcdefghijklmnopqrstuvwxy", "cdefghijklmnopqrstuvwxyz", strict=True)
    )
    external = '<!DOCTYPE annotation SYSTEM "file:///etc/hostname"><annotation/>'
    for content, line in ((BOMB.format(more=more), 2), (external, 1), ("<!DOCTYPE annotation><annotation/>", 1)):
        with pytest.raises(XmlError, match="declares a document type") as caught:
            parse_annotation(content.encode(), "z")
        assert caught.value.line == line


@given(st.data())
def test_whatever_is_in_a_file_it_is_read_or_refused(data):
    good = xml("a", [("dog", (1, 2, 3, 4), False)]).encode()
    start = data.draw(st.integers(0, len(good)))
    content = good[:start] + data.draw(st.binary(max_size=6)) + good[start + data.draw(st.integers(0, 9)) :]
    try:
        image = parse_annotation(content, "a")
    except XmlError as error:
        refused = error.what
    else:
        refused = None
        assert isinstance(image, VocImage)
        assert min(image.size) >= 1
    assert refused is None or (refused and refused.isprintable())


def test_encodings():
    text = xml("ä", [("möwe", (1, 2, 3, 4), True)])
    for encoding in ("utf-8", "utf-16", "iso-8859-1"):
        content = f'<?xml version="1.0" encoding="{encoding}"?>{text}'.encode(encoding)
        image = parse_annotation(content, "ä")
        assert (image.picture, image.objects[0].name) == ("ä.jpg", "möwe")
    for encoding in ("klingon", "rot13"):
        with pytest.raises(XmlError, match="is not XML"):
            parse_annotation(f'<?xml version="1.0" encoding="{encoding}"?><annotation/>'.encode(), "a")


def test_missing_and_other_files(voc):
    root, first, second = voc
    second.file("2008_000003").unlink()
    with pytest.raises(
        DataError, match=r"2008_000003.xml: is missing; restore it or remove it from the image set"
    ):
        ready(root)
    second.file("2008_000003").write_text("<xml/>")
    with pytest.raises(
        DataError, match=r"2008_000003.xml:1: is no VOC annotation: <xml> where <annotation> should be"
    ):
        ready(root)
    assert len(ready(root, on_error="skip").train_dataset) == 3
    (root / "VOC2012" / "JPEGImages" / "2008_000002.png").unlink()
    with pytest.raises(DataError, match=r"none of the 1 images of trainval.txt is usable; set data.train_sets"):
        ready(root, train_sets=["VOC2012/trainval"], on_error="skip")
    first.list("test", ["000009", "", " 000005", "000009"])
    with pytest.raises(DataError, match=r"test.txt:4: 000009 is listed twice; remove one"):
        ready(root, train_sets=["VOC2007/trainval"])


@pytest.mark.parametrize(
    "how", ["no root", "no list", "empty list", "no text", "only broken", "only others", "nothing"]
)
def test_sets_that_cannot_be_used(voc, how):
    root, first, _ = voc
    settings = {"on_error": "skip"}
    list_file = first.root / "ImageSets" / "Main" / "trainval.txt"
    match = "trainval.txt: "
    if how == "no root":
        root, match = root / "none", "none: no such folder; set data.root"
    elif how == "no list":
        list_file.unlink()
        match += "no such image set; set data.root to .* and data.train_sets"
    elif how == "empty list":
        list_file.write_text("\n \n")
        match += "lists no images; write"
    elif how == "no text":
        list_file.write_bytes(b"\xff\xfe\xff")
        match += "cannot be read .*; restore"
    elif how == "only broken":
        first.list("trainval", ["a", "b"])
        settings |= {"train_sets": ["VOC2007/trainval"]}
        match += "none of the 2 images is usable; correct"
    elif how == "only others":
        settings |= {"classes": ["owl"]}
        match += "none of the 6 objects is usable; .* data.classes"
    else:
        for name in ("000005", "000007"):
            first.add(name, [])
        settings |= {"train_sets": ["VOC2007/trainval"], "classes": None}
        match += "lists no image with objects"
    with pytest.raises(DataError, match=match):
        ready(root, **settings)


def test_impossible_settings(voc):
    for key, value in (("train_sets", []), ("val_sets", "VOC2007/test"), ("classes", ["a", "a"])):
        with pytest.raises(ConfigError, match=rf"data.{key}=.* is no list of different names"):
            VocDataModule(voc[0], **{key: value})


def test_the_command_lists_everything_by_file_and_line(voc, capsys):
    root, first, second = voc
    first.change("000009", "<name>car", "<name>cart")
    first.change("000005", "<difficult>1", "<difficult>maybe")
    first.add("000011", [])
    first.list("test", ["000009", "000011"])
    second.file("2008_000002").write_text("<annotation>\n<size>")
    (second.root / "JPEGImages" / "2008_000003.jpg").write_bytes(b"")
    assert main(["data=voc", f"data.root={root}"]) == 1
    output, errors = capsys.readouterr()
    assert errors == ""
    marker = line_of(first.file("000005").read_text(), "<difficult>maybe")
    lines = [line for line in output.splitlines() if line.startswith(str(root))]
    assert [line.removeprefix(f"{root}/VOC")[:42].split(" ")[0] for line in lines] == [
        f"2007/Annotations/000005.xml:{marker}:",
        f"2007/Annotations/000009.xml:{line_of(first.file('000009').read_text(), '<object>')}:",
        "2007/Annotations/000011.xml:",
        "2012/Annotations/2008_000002.xml:2:",
        "2012/JPEGImages/2008_000003.jpg:",
    ]
    assert [re.search("error|notice", line)[0] for line in lines] == ["error", "error", "notice", "error", "error"]
    assert "has no object, and stands for background; annotate it if it shows any" in lines[2]
    assert re.search(r"usable +images +2 +2", output)


def test_configuration(voc, tmp_path, capsys):
    root, _, _ = voc
    assert main(["data=voc", f"data.root={root}"]) == 0
    config = OmegaConf.create({"random_seed": 7, "data": OmegaConf.load(CONF_DIR / "data" / "voc.yaml")})
    config.data.root = str(root)
    keys = set(config.data) - {"_target_", "defaults"}
    signatures = [
        inspect.signature(owner).parameters for owner in (VocDataModule, DetectionDataModule, DataModule)
    ]
    assert keys == set().union(*signatures) - {"settings"}
    del config.data.defaults
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
    assert "nothing is broken, 0 notice(s)" in capsys.readouterr().out
