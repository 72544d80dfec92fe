"""Any one change to a good set is read as it stands, noticed, or one clear line; never another set in silence."""

import copy
import re
import shutil
from xml.etree import ElementTree

import pytest
from cityscapes_trees import Streets
from coco_trees import CocoSet
from hypothesis import given, settings
from hypothesis import strategies as st
from voc_trees import Year

from fna_lightning.data import CocoDataModule, FolderDataModule, VocDataModule
from fna_lightning.data.check import examine
from fna_lightning.data.checking.folders import PICTURES
from fna_lightning.errors import DataError

NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70), st.integers(-5, 200), st.floats(), st.sampled_from([0.25, 1e300])
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.text(max_size=8),
    st.sampled_from(["0001.png", "../x.jpg", "0000.jpg", "\ud800", "a\0b"]),
    st.lists(NUMBERS, max_size=5),
    st.just({}),
)
READ = ("size", "width", "height", "name", "bndbox", "xmin", "ymin", "xmax", "ymax")
"""Elements that an annotation file of VOC needs, once each."""
TABLES = ("images", "annotations", "categories")
OF_IMAGE = ("id", "file_name", "height", "width")


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return CocoSet(tmp_path_factory.mktemp("sets") / "coco")


@pytest.fixture(scope="module")
def original(coco):
    return coco.read()


@st.composite
def changes(draw):
    """(table, place, what is done there, key, value)."""
    how = draw(st.sampled_from(["set", "set", "set", "remove key", "remove row", "repeat row"]))
    keys = {"images": OF_IMAGE, "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd")}
    table = draw(st.sampled_from(TABLES))
    key = draw(st.sampled_from(keys.get(table, ("id", "name"))))
    return table, draw(st.integers(0, 2)), how, key, draw(VALUES)


def changed(content, change):
    table, place, how, key, value = change
    content = copy.deepcopy(content)
    rows = content[table]
    if how == "set":
        rows[place][key] = value
    elif how == "remove key":
        del rows[place][key]
    elif how == "remove row":
        del rows[place]
    else:
        rows.append(copy.deepcopy(rows[place]))
    return content


def outcome(data):
    """The problems that the check finds, and None, or the line by which training refuses the set."""
    problems = [problem for found in examine(data).problems.values() for problem in found]
    line = None
    try:
        data.setup("fit")
    except DataError as error:
        line = str(error)
    assert line is None or re.fullmatch(r"[^\n]+: [^\n]+; [^\n]+", line)
    return problems, line


@given(changes())
@settings(max_examples=150)
def test_one_change_to_an_annotation_file(coco, original, change):
    content = changed(original, change)
    coco.write(content)
    data = CocoDataModule(coco.root, size=[32, 32], batch_size=2, num_workers=0)
    try:
        problems, refusal = outcome(data)
    except DataError as error:  # nothing of either split can be read
        problems, refusal = [error], str(error)
    if refusal:
        assert problems
        return
    found = data.train_dataset.annotations.as_coco()
    assert found["images"] == [{key: row[key] for key in OF_IMAGE} for row in content["images"]]
    by_id = {row["id"]: row for row in content["annotations"]}
    assert len(found["annotations"]) == len(by_id) == len(content["annotations"])
    for row in found["annotations"]:
        wanted = by_id[row["id"]]
        area = wanted.get("area") or 0
        for key in ("image_id", "category_id", "bbox"):
            assert row[key] == wanted[key]
        assert row["iscrowd"] == bool(wanted.get("iscrowd", 0))
        assert row["area"] == (area if 0 < area < float("inf") else wanted["bbox"][2] * wanted["bbox"][3])
    names = {row["id"]: row["name"] for row in content["categories"]}
    assert {row["id"]: row["name"] for row in found["categories"]} == names or problems
    samples = [data.train_dataset[0, index] for index in range(len(data.train_dataset))]
    assert sum(len(sample.boxes) for sample in samples) <= len(by_id)


@given(st.data())
@settings(max_examples=100)
def test_one_change_to_a_voc_file(tmp_path_factory, data):
    year = Year(tmp_path_factory.mktemp("voc") / "VOC2007")
    for name in ("000001", "000002", "000003"):
        year.add(name, [("car", (5, 6, 27, 28), False), ("dog", (11, 12, 33, 40), False)])
    year.list("train", ["000001", "000002"])
    year.list("val", ["000003"])
    text = re.sub(r"<part>.*?</part>", "", year.file("000001").read_text(), flags=re.DOTALL)
    tags = list(re.finditer(r"<(\w+)>([^<>]*)</\1>", text))
    tag = data.draw(st.sampled_from(tags))
    new = data.draw(st.one_of(st.integers(-99, 999).map(str), st.floats().map(str), st.text(max_size=5)))
    how = data.draw(st.sampled_from(["value", "value", "cut", "twice"]))
    place = slice(*tag.span(2)) if how == "value" else slice(*tag.span())
    text = text[: place.start] + {"value": new, "cut": "", "twice": 2 * tag[0]}[how] + text[place.stop :]
    year.file("000001").write_text(text, encoding="utf-8", errors="replace")

    own = {"train_sets": ["train"], "val_sets": ["val"], "classes": ["car", "dog"]}
    voc = VocDataModule(year.root, size=[32, 32], batch_size=1, num_workers=0, **own)
    problems, refusal = outcome(voc)
    if refusal:
        assert problems
        return
    assert how == "value" or tag[1] not in READ
    found = voc.train_dataset.annotations
    assert len(found.boxes) == 4
    # What is in the file as it stands, by another reader: the first two boxes are those of the changed file.
    for row, element in zip(found.boxes, ElementTree.fromstring(text).iter("object"), strict=False):
        corners = [float(element.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")]
        assert row[:2].tolist() == [corners[0] - 1, corners[1] - 1]
        assert (row[:2] + row[2:]).tolist() == pytest.approx(corners[2:])


MOVES = st.sampled_from(["delete", "truncate", "text", "deeper", "upper", "empty", "copy"])


def move(path, how):
    """One thing that happens to a file."""
    if how == "delete":
        path.unlink()
    elif how == "truncate":
        path.write_bytes(path.read_bytes()[:-30])
    elif how == "text":
        path.write_text("<html>")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "copy":
        shutil.copy(path, path.with_name(f"copy {path.name}"))
    else:
        other = path.parent / "deeper" / path.name if how == "deeper" else path.with_suffix(path.suffix.upper())
        other.parent.mkdir(exist_ok=True)
        path.rename(other)


def pictures(*folders):
    """What people would count as pictures in some folders."""
    return {path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in PICTURES}


def spoken_of(data, problems):
    """Paths in the sets or named by a problem, and how many pictures were counted as unused."""
    used = set()
    for dataset in (data.train_dataset, data.val_dataset):
        used |= {dataset.path(index) for index in range(len(dataset))} if dataset else set()
    counts = [int(match[1]) for p in problems if (match := re.match(r"(\d+) picture\(s\) are in neither", p.what))]
    return used | {problem.path for problem in problems}, sum(counts)


@given(st.integers(0, 17), MOVES)
@settings(max_examples=60)
def test_one_change_to_a_folder_of_classes(tmp_path_factory, place, how):
    rng = tmp_path_factory.mktemp("folders")
    streets = Streets(rng / "streets")  # pictures for both tests
    sources = sorted(pictures(streets.root / "leftImg8bit"))
    root = rng / "classes"
    for k in range(18):
        path = root / ("train" if k % 3 else "val") / f"class{k % 2}" / f"{k:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sources[k % len(sources)], path)
    move(sorted(pictures(root))[place], how)
    data = FolderDataModule(root, size=32, batch_size=2, num_workers=0)
    problems, _ = outcome(data)
    data = FolderDataModule(root, size=32, batch_size=2, num_workers=0, on_error="skip")
    data.setup("fit")
    known, counted = spoken_of(data, problems)
    assert len(pictures(root / "train", root / "val") - known) <= counted


@given(st.integers(0, 8), st.booleans(), MOVES)
@settings(max_examples=60)
def test_one_change_to_streets(tmp_path_factory, place, of_labels, how):
    streets = Streets(tmp_path_factory.mktemp("streets") / "streets")
    kind = "gtFine" if of_labels else "leftImg8bit"
    move(sorted(pictures(streets.root / kind))[place], how)
    problems, refusal = outcome(streets.module())
    assert refusal or how in ("copy", "deeper", "upper", "delete")
    data = streets.module(on_error="skip")
    data.setup("fit")
    known, counted = spoken_of(data, problems)
    labels = {path.name for path in known}  # whoever speaks of a label file speaks of its picture
    left = {
        path
        for path in pictures(streets.root / "leftImg8bit") - known
        if path.name.replace("leftImg8bit", "gtFine_labelIds") not in labels
    }
    assert len(left) <= counted
