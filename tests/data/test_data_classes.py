"""Classes are the same by name: labels in a network's order mean what they meant in the set's own."""

import numpy as np
import pytest
import torch
from cityscapes_trees import Streets
from hypothesis import given
from hypothesis import strategies as st
from voc_trees import ready

from fna_lightning.data import CocoDataModule, FolderDataModule
from fna_lightning.data.classes import class_order
from fna_lightning.errors import DataError

NAMES = st.lists(st.text(max_size=4), min_size=1, max_size=6, unique=True)


@given(NAMES, st.data())
def test_an_order_leads_from_names_to_names(own, data):
    names = data.draw(st.permutations(own))
    assert [own[place] for place in class_order(names, own)] == names


@given(NAMES, st.data())
def test_renamed_classes(own, data):
    other = {name: f"network's {name}" for name in data.draw(st.permutations(own))}
    some = data.draw(st.sets(st.sampled_from(own)))
    names = [other[name] if name in some else name for name in data.draw(st.permutations(own))]
    order = class_order(names, own, {name: other[name] for name in some})
    assert [other[own[place]] if own[place] in some else own[place] for place in order] == names


@given(NAMES, NAMES)
def test_other_names_are_listed(names, own):
    if set(names) == set(own):
        return
    with pytest.raises(DataError, match="its classes are not the network's: ") as refused:
        class_order(names, own)
    assert [name for name in set(names) ^ set(own) if repr(name) not in str(refused.value)] == []


@pytest.mark.parametrize(
    ("names", "own", "renamed", "words"),
    [
        (["a", "b"], ["a", "a"], None, "several classes are named 'a'"),
        (["a", "b"], ["a", "c"], {"c": "a"}, "several classes are named 'a'"),
        (["a"], ["b"], {"c": "a"}, "the data set has no class 'c', but 'b'"),
        (["a"], ["b"], None, "only the data set has 'b', only the network has 'a'"),
        (["a", "b"], ["b"], None, "not the network's: only the network has 'a'$"),
    ],
)
def test_what_cannot_be_matched(names, own, renamed, words):
    with pytest.raises(DataError, match=words):
        class_order(names, own, renamed)


def test_two_of_one_name_in_the_same_order_are_the_same():
    assert class_order(["a", "a"], ["a", "a"]) == [0, 1]


def coco_module(coco):
    return CocoDataModule(coco.root, size=[64, 96], batch_size=2, num_workers=0)


def named_boxes(data):
    """Per validation picture its boxes with the names of their labels."""
    return [
        sorted((data.class_names[label], box) for label, box in zip(labels.tolist(), boxes.tolist(), strict=True))
        for batch in data.val_dataloader()
        for labels, boxes in zip(batch.labels, batch.boxes, strict=True)
    ]


def test_coco(coco):
    data, own = coco_module(coco), coco_module(coco)
    for module in (data, own):
        module.setup()
    data.match_classes(["truck", "brush", "car"])
    assert data.class_names == data.train_dataset.class_names == ("truck", "brush", "car")
    assert data.category_ids == [8, 90, 3]
    assert named_boxes(data) == named_boxes(own)
    key = lambda entry: entry["id"]  # noqa: E731
    for name in ("images", "annotations", "categories"):  # the ids of the file, with what they were
        assert sorted(data.ground_truth()[name], key=key) == sorted(own.ground_truth()[name], key=key)


def test_coco_under_other_ids_and_in_another_order(coco):
    own = coco_module(coco)
    own.setup()
    wanted = named_boxes(own)
    content = coco.read("val2017")
    ids = {3: 70, 8: 5, 90: 6}
    for category in content["categories"]:
        category["id"] = ids[category["id"]]
    for annotation in content["annotations"]:
        annotation["category_id"] = ids[annotation["category_id"]]
    coco.write(content, "val2017")
    data = coco_module(coco)
    data.setup("validate")
    assert data.class_names != own.class_names
    data.match_classes(own.class_names)
    assert data.class_names == own.class_names
    assert named_boxes(data) == wanted


def test_voc(voc):
    data, own = ready(voc[0]), ready(voc[0])
    names = own.class_names[::-1]
    data.match_classes(names)
    assert data.class_names == names
    assert data.category_ids == own.category_ids[::-1]
    assert named_boxes(data) == named_boxes(own)


def test_segmentation(tmp_path):
    streets = Streets(tmp_path / "streets")
    data, own = streets.ready(), streets.ready()
    names = (own.class_names[2], "other", own.class_names[0])
    data.match_classes(names, {own.class_names[1]: "other"})
    assert data.class_names == data.label_map.class_names == names
    turned = torch.tensor([2, 1, 0])
    for a, b in zip(data.val_dataloader(), own.val_dataloader(), strict=True):
        valid = b.labels != 255
        assert torch.equal(a.labels != 255, valid)
        assert torch.equal(a.labels[valid].long(), turned[b.labels[valid].long()])
    labels = np.arange(3, dtype=np.uint8)[None]
    assert data.label_files.label_map.to_ids(labels).tolist() == own.label_map.to_ids(labels[:, ::-1]).tolist()
    assert data.label_files.label_map.coloured(labels).tolist() == own.label_map.coloured(labels[:, ::-1]).tolist()
    assert data.train_dataset.totals() == own.train_dataset.totals()


def test_classification(folders):
    data, own = (FolderDataModule(folders, size=32, batch_size=2, num_workers=0) for _ in range(2))
    for module in (data, own):
        module.setup()
    data.match_classes(["cat", "ant", "wasp"], {"bee": "wasp"})
    assert data.class_names == ("cat", "ant", "wasp")
    for a, b in zip(data.val_dataloader(), own.val_dataloader(), strict=True):
        assert torch.equal(a.images, b.images)
        assert [("cat", "ant", "bee")[label] for label in a.labels] == [
            own.class_names[label] for label in b.labels
        ]
