"""What label ids stand for, against torchvision's table of Cityscapes and plain loops."""

import numpy as np
import pytest
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fna_lightning.data.label_maps import CITYSCAPES_CLASSES, build_label_map
from fna_lightning.errors import ConfigError, DataError

PUBLISHED = torchvision.datasets.Cityscapes.classes
SCORED = [known for known in PUBLISHED if not known.ignore_in_eval]


def test_cityscapes_by_torchvisions_table():
    label_map = build_label_map()
    assert [known.train_id for known in SCORED] == list(range(19))
    assert label_map.class_names == tuple(known.name for known in SCORED)
    assert label_map.class_ids == tuple((known.id,) for known in SCORED)
    assert label_map.colours == tuple(known.color for known in SCORED)
    ids = np.array([[known.id % 256 for known in PUBLISHED]], np.uint8)  # -1 is stored as 255
    expected = [255 if known.ignore_in_eval else known.train_id for known in PUBLISHED]
    assert label_map.to_labels(ids)[0].tolist() == expected
    assert label_map.unknown_ids(np.arange(256)) == list(range(34, 255))


@st.composite
def settings(draw):
    """Classes with one to three ids each, and ignored ids; all different."""
    ids = draw(st.lists(st.integers(0, 255), min_size=2, max_size=40, unique=True))
    classes, left = {}, ids
    while left and len(classes) < draw(st.integers(1, 20)):
        taken = draw(st.integers(1, 3))
        classes[f"class {len(classes)}"], left = left[:taken], left[taken:]
    return classes, left


@given(settings(), st.integers(0, 2**32 - 1))
def test_labels_as_by_a_loop(drawn, seed):
    classes, ignored = drawn
    label_map = build_label_map(classes, ignored)
    known = [*[i for ids in classes.values() for i in ids], *ignored]
    stored = np.random.default_rng(seed).choice(np.array(known, np.uint8), (5, 7))
    labels = label_map.to_labels(stored)
    for label, label_id in zip(labels.flat, stored.flat, strict=True):
        owners = [k for k, ids in enumerate(classes.values()) if label_id in ids]
        assert label == (owners[0] if owners else 255)
    first = label_map.to_ids(labels)
    assert np.array_equal(label_map.to_labels(first) if ignored else labels, labels)
    assert set(first.flat) <= {ids[0] for ids in classes.values()} | set(ignored[:1])
    shown = label_map.coloured(labels)
    assert [tuple(pixel) for pixel in shown.reshape(-1, 3)] == [
        (0, 0, 0) if label == 255 else label_map.colours[label] for label in labels.flat
    ]


def test_unknown_ids_are_named():
    label_map = build_label_map({"road": 7}, [0, 255])
    with pytest.raises(DataError, match=r"has label ids 3, 200, of no class and not in data.ignored"):
        label_map.to_labels(np.array([[7, 200], [3, 200]], np.uint8))
    with pytest.raises(DataError, match=r"has label id 254, of no class"):
        label_map.to_labels(np.array([[254]], np.uint8))


def test_ignored_ids_are_by_default_those_of_cityscapes_without_a_class():
    label_map = build_label_map({"vehicle": [26, 27, 28], "number": 99})
    assert set(label_map.ignored) == {*range(34), 255} - {26, 27, 28}
    assert build_label_map({"road": 7}, []).to_ids(np.array([[0, 255]], np.uint8)).tolist() == [[7, 255]]


def test_the_most_classes_there_may_be():
    label_map = build_label_map({f"class {k}": k for k in range(254)}, [254, 255])
    ids = np.arange(256, dtype=np.uint8)[None]
    assert label_map.to_labels(ids)[0].tolist() == [*range(254), 255, 255]
    assert len({*label_map.colours, (0, 0, 0)}) == 255


def test_colours_that_were_not_given():
    names = ["road", *(f"thing {k}" for k in range(14)), "car", "mine"]
    label_map = build_label_map(dict(zip(names, range(17), strict=True)), colours={"mine": [1, 2, 3]})
    colours = np.array(label_map.colours)
    assert label_map.colours[0] == SCORED[0].color
    assert label_map.colours[15] == SCORED[13].color
    assert label_map.colours[16] == (1, 2, 3)
    apart = np.abs(colours[:, None] - colours[None]).sum(axis=-1) + 999 * np.eye(17, dtype=int)
    assert apart.min() >= 60
    assert np.abs(colours[1:15]).sum(axis=-1).min() >= 60  # from black
    assert build_label_map(colours={"road": [9, 9, 9]}).colours[:2] == ((9, 9, 9), SCORED[1].color)


def test_settings_as_hydra_hands_them_over():
    config = OmegaConf.create(
        {"classes": {"road": 7, "people": [24, 25]}, "ignored": [0], "colours": {"people": [1, 2, 3]}}
    )
    label_map = build_label_map(config.classes, config.ignored, config.colours)
    plain = build_label_map({"road": 7, "people": (24, 25)}, (0,), {"people": (1, 2, 3)})
    assert label_map == plain
    assert type(label_map.class_ids[1]) is tuple


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"classes": {"a": 7, "b": [8, 7]}}, "data.classes.b=[8, 7]: id 7 is in data.classes.a too"),
        ({"classes": {"a": 7}, "ignored": [0, 7]}, "data.ignored=[0, 7]: id 7 is in data.classes.a too"),
        ({"classes": {"a": 256}}, "data.classes.a=256 is no label id"),
        ({"classes": {"a": [-1]}}, "data.classes.a=[-1] is no label id"),
        ({"classes": {"a": "7"}}, "data.classes.a=7 is no label id"),
        ({"classes": {"a": True}}, "data.classes.a=True is no label id"),
        ({"classes": {"a": 1.0}}, "data.classes.a=1.0 is no label id"),
        ({"classes": {"a": []}}, "data.classes.a=[]: give a text as the name and at least one id"),
        ({"classes": {True: 3}}, "data.classes.True=[3]: give a text as the name"),
        ({"classes": {}}, "data.classes={} does not name 1 to 254 classes"),
        ({"classes": ["a"]}, "data.classes=['a'] does not name 1 to 254 classes"),
        ({"classes": {f"c{k}": k for k in range(255)}}, "does not name 1 to 254 classes"),
        ({"ignored": [300]}, "data.ignored=[300] is no label id"),
        ({"colours": {"road": [1, 2]}}, "data.colours.road=[1, 2]: is no colour; give [red, green, blue]"),
        ({"colours": {"road": [0, 0, 256]}}, "data.colours.road=[0, 0, 256]: is no colour"),
        ({"colours": {"road": "red"}}, "data.colours.road=red: is no colour"),
        ({"colours": {"cloud": [1, 2, 3]}}, "data.colours.cloud=[1, 2, 3]: is no class of data.classes"),
    ],
    ids=str,
)
def test_impossible_settings(settings, words):
    with pytest.raises(ConfigError) as error:
        build_label_map(**settings)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_cityscapes_classes_are_in_the_order_of_their_labels():
    assert list(CITYSCAPES_CLASSES.values()) == sorted(CITYSCAPES_CLASSES.values())
