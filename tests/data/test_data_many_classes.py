"""Sets of hundreds of classes: messages name the first of them, and how many more there are."""

import numpy as np
import pytest
from cityscapes_trees import Streets, write
from voc_trees import ready

from fna_lightning.data import CocoDataModule
from fna_lightning.data.check import examine
from fna_lightning.data.checking.problems import Kind
from fna_lightning.errors import DataError

NAMES = [f"class {k:03d}" for k in range(300)]


def unseen(data):
    (line,) = (p.what for p in examine(data).problems["training"] if p.kind is Kind.UNSEEN_CLASS)
    return line


def refusal(call, *arguments, **settings):
    with pytest.raises(DataError) as caught:
        call(*arguments, **settings)
    return str(caught.value)


def test_classes_that_no_box_is_of(coco):
    for split in ("train2017", "val2017"):
        content = coco.read(split)
        content["categories"] += [{"id": 100 + k, "name": name} for k, name in enumerate(NAMES)]
        coco.write(content, split)
    assert unseen(CocoDataModule(coco.root, size=[32, 32])) == (
        f"no image has a box of {', '.join(NAMES[:8])} and 292 more"
    )


def test_ids_that_differ_behind_many_that_do_not(coco):
    for split, shift in (("train2017", 0), ("val2017", 7)):
        content = coco.read(split)
        content["categories"] += [
            {"id": 100 + k + shift * (k == 299), "name": name} for k, name in enumerate(NAMES)
        ]
        coco.write(content, split)
    line = refusal(CocoDataModule(coco.root, size=[32, 32], num_workers=0).setup, "fit")
    assert "category 'class 299' has the id 406, but 399 in the training set; give both the same" in line


def test_ids_of_pixels(tmp_path):
    streets = Streets(tmp_path / "streets")
    some = {name: k for k, name in enumerate(NAMES[:100])}
    assert unseen(streets.module(classes=some)).endswith("class 008, class 009, class 010 and 86 more")
    write(streets.label("train", "aachen/00"), np.tile(np.arange(100, 164, dtype=np.uint8), (40, 1)))
    line = refusal(streets.ready, classes=some)
    assert "has label ids 100, 101, 102, 103, 104, 105, 106, 107 and 56 more, of no class and not in" in line


@pytest.mark.parametrize("number", [3, 200])
def test_classes_of_one_image_set(voc, number):
    root, first, _ = voc
    text = (first.root / "Annotations" / "000009.xml").read_text()
    start, end = text.index("<object>"), text.rindex("</object>") + len("</object>")
    objects = (text[start:end].replace("<name>car", f"<name>{name}") for name in NAMES[:number])
    (first.root / "Annotations" / "000009.xml").write_text(text[:start] + "\n".join(objects) + text[end:])
    line = refusal(ready, root, classes=None)
    mend = (
        "data.classes to the 204 names of both" if number == 200 else "data.classes=[car,class 000,class 001,class"
    )
    assert "only one of training and validation set has objects of 'car', 'class 000'" in line
    assert f"; set {mend}" in line
    assert (" more; set" in line) == (number == 200)
