"""Sets without a validation part: what is set aside is a function of (seed, names), the same in every layout."""

import json
import logging
import shutil
import unicodedata

import numpy as np
import pytest
from cityscapes_trees import Streets
from hypothesis import given
from hypothesis import strategies as st
from mask_trees import MaskSet
from voc_trees import Year
from yolo_trees import YoloSet

from fna_lightning.data import CocoDataModule, FolderDataModule, VocDataModule
from fna_lightning.data.check import examine
from fna_lightning.data.checking.problems import Kind
from fna_lightning.data.sampling import split_by_name, within_common_folder
from fna_lightning.errors import ConfigError

NAMES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), unique=True, max_size=30
)
SHARES = st.floats(0.01, 0.99)
PINNED = [0, 4, 5, 8, 11, 12]


@given(NAMES, SHARES, st.integers(0, 9), st.randoms(use_true_random=False))
def test_the_order_of_names_does_not_matter(names, share, seed, random):
    first, rest = split_by_name(names, share, seed)
    assert sorted(first + rest) == list(range(len(names)))
    assert first == sorted(first)
    assert rest == sorted(rest)
    mixed = random.sample(names, len(names))
    again, _ = split_by_name(mixed, share, seed)
    assert {mixed[index] for index in again} == {names[index] for index in first}
    assert len(names) < 2 or (first and rest)


@given(NAMES.filter(lambda names: len(names) > 20), st.integers(0, 9))
def test_a_name_keeps_its_side_whatever_others_there_are(names, seed):
    """But where a side would be empty."""
    whole = set(split_by_name(names, 0.5, seed)[0])
    half = set(split_by_name(names[:10], 0.5, seed)[0])
    if 0 < len(whole & set(range(10))) < 10:
        assert half == whole & set(range(10))
    less = set(split_by_name(names, 0.3, seed)[0])
    assert less <= whole or len(less) == 1


def test_the_share():
    names = [f"{number:05d}.jpg" for number in range(10000)]
    for share in (0.1, 0.2, 0.5):
        first, _ = split_by_name(names, share, 0)
        assert len(first) == pytest.approx(share * 10000, rel=0.06)
    one, other = (set(split_by_name(names, 0.2, seed)[0]) for seed in (0, 1))
    assert len(one & other) == pytest.approx(400, rel=0.2)
    assert split_by_name(names, 1, 0) == (list(range(10000)), [])
    assert split_by_name(["a"], 0.5, 0)[0] in ([], [0])
    assert split_by_name([], 0.5, 0) == ([], [])


def test_the_split_stays_what_it_is():
    """It is written down here, as runs that are there go by it."""
    names = [f"BloodImage_{number:05d}.jpg" for number in range(20)]
    assert split_by_name(names, 0.2, 0)[0] == PINNED
    composed = [unicodedata.normalize("NFC", f"Straße é {name}") for name in names]
    decomposed = [unicodedata.normalize("NFD", name) for name in composed]
    assert composed != decomposed
    assert split_by_name(composed, 0.4, 3) == split_by_name(decomposed, 0.4, 3)


def test_names_say_nothing_of_where_a_set_lies():
    assert within_common_folder(["images/train/a.jpg", "images/train/b/a.jpg"]) == ["a.jpg", "b/a.jpg"]
    assert within_common_folder(["/x/y/a.jpg", "/x/z/b.jpg"]) == ["y/a.jpg", "z/b.jpg"]
    assert within_common_folder(["a.jpg", "b/a.jpg"]) == ["a.jpg", "b/a.jpg"]
    assert within_common_folder([]) == []


@pytest.fixture(scope="module")
def layouts(tmp_path_factory):
    """The same 24 pictures in the layouts of COCO, VOC and YOLO."""
    root = tmp_path_factory.mktemp("layouts")
    year, yolo = Year(root / "voc"), YoloSet(root / "yolo", "all/images", "all/labels")
    for folder in ("images", "labels"):
        shutil.rmtree(yolo.root / "all" / folder)
    images, rows = [], []
    for number in range(24):
        name = f"{number:03d}"
        year.add(name, [("cell", (1, 1, 32, 24), False)] if number % 5 else [])
        yolo.add("all", name, "0 0.25 0.25 0.5 0.5" if number % 5 else "", (48, 64))
        (yolo.root / "all" / "images" / f"{name}.png").unlink()
        shutil.copy(year.root / "JPEGImages" / f"{name}.jpg", yolo.root / "all" / "images")
        images.append({"id": 50 - number, "file_name": f"all/images/{name}.jpg", "height": 48, "width": 64})
        if number % 5:
            rows.append({"id": number, "image_id": 50 - number, "category_id": 1, "bbox": [0, 0, 32, 24]})
    year.list("all", [f"{number:03d}" for number in reversed(range(24))])
    yolo.describe(train="all/images", names=["cell"])
    categories = [{"id": 1, "name": "cell"}]
    (yolo.root / "all.json").write_text(
        json.dumps({"images": images[::-1], "annotations": rows, "categories": categories})
    )
    settings = {"size": [48, 64], "batch_size": 2, "num_workers": 0}
    return {
        "coco": lambda **own: CocoDataModule(yolo.root, "all.json", None, ".", **settings, **own),
        "voc": lambda **own: VocDataModule(year.root, ["all"], None, ["cell"], **settings, **own),
        "yolo": lambda **own: yolo.module(**{**settings, **own}),
    }


def parts(data):
    return [
        sorted(dataset.path(k).name for k in range(len(dataset)))
        for dataset in (data.train_dataset, data.val_dataset)
    ]


def test_every_layout_sets_the_same_aside(layouts):
    for settings in ({}, {"val_share": 0.5, "val_seed": 3, "random_seed": 7}):
        found = []
        for make in layouts.values():
            data = make(**settings)
            data.setup("fit")
            found.append(parts(data))
            names = [f"{number:03d}.jpg" for number in range(24)]
            scored, _ = split_by_name(names, settings.get("val_share", 0.2), settings.get("val_seed", 0))
            assert found[-1][1] == [names[index] for index in scored]
            assert found[-1] == [sorted(data.split_names[split]) for split in ("training", "validation")]
        assert found[0] == found[1] == found[2]
        assert sorted(found[0][0] + found[0][1]) == names


def test_evaluation_alone_sees_the_same_part(layouts):
    for make in layouts.values():
        trained, evaluated = make(), make()
        trained.setup("fit")
        evaluated.setup("validate")
        assert evaluated.train_dataset is None
        assert evaluated.val_dataset.fingerprint() == trained.fingerprints()["validation"]
        assert evaluated.val_dataset[0, 0].image.equal(trained.val_dataset[0, 0].image)
        evaluated.setup("fit")
        assert parts(evaluated) == parts(trained)


def test_all_of_a_set_can_be_scored_but_not_trained_on(layouts):
    data = layouts["yolo"](val_share=1)
    data.setup("validate")
    assert len(data.val_dataset) == 24
    with pytest.raises(ConfigError, match=r"data.val_share=1 leaves no picture to train on; lower it"):
        layouts["yolo"](val_share=1).setup("fit")
    for share in (0, -0.5, 1.5):
        with pytest.raises(ConfigError, match=r"must be above 0 and at most 1"):
            layouts["yolo"](val_share=share)


def test_what_is_left_out_moves_no_other_picture(layouts, tmp_path):
    data = layouts["voc"]()
    data.setup("fit")
    root = shutil.copytree(data.root, tmp_path / "copy")
    (root / "JPEGImages" / "003.jpg").write_bytes(b"")
    other = VocDataModule(
        root, ["all"], None, ["cell"], size=[48, 64], batch_size=2, num_workers=0, on_error="skip"
    )
    other.setup("fit")
    assert parts(other) == [[name for name in part if name != "003.jpg"] for part in parts(data)]
    assert other.left_out == {"whole: empty pictures": 1}


def test_difficult_objects_stay_marked_where_they_are_scored(tmp_path):
    year = Year(tmp_path / "voc")
    for number in range(12):
        year.add(f"{number:03d}", [("cell", (1, 1, 32, 24), False), ("cell", (9, 9, 40, 40), True)])
    year.list("all", [f"{number:03d}" for number in range(12)])
    data = VocDataModule(
        year.root, ["all"], None, ["cell"], difficult=True, size=[48, 64], num_workers=0, batch_size=1
    )
    data.setup("fit")
    assert len(data.train_dataset[0, 0].boxes) == 2
    assert len(data.val_dataset[0, 0].boxes) == 1
    assert sum(row["iscrowd"] for row in data.ground_truth()["annotations"]) == len(data.val_dataset)


def test_masks_and_streets_and_folders(tmp_path, folders, caplog):
    caplog.set_level(logging.INFO)
    streets = Streets(tmp_path / "streets")
    masks = MaskSet(tmp_path / "masks", streets, names=("images/{1}_{2}.png", "masks/{1}_{2}.png"))
    own = masks.ready()
    assert parts(own)[0] + parts(own)[1] != []
    assert len(own.train_dataset) + len(own.val_dataset) == 9
    # Validation sees its part as ever: in the size of the files, without augmentation.
    sample = own.val_dataset[0, 0]
    np.testing.assert_array_equal(sample.image, own.val_dataset[5, 0].image)
    assert sample.labels.shape == sample.image.shape[1:]
    assert own.train_dataset[0, 0].labels.shape == (32, 48)
    of_streets = streets.ready(val_split=None, val_share=0.5)
    assert len(of_streets.train_dataset) + len(of_streets.val_dataset) == 6
    of_folders = FolderDataModule(folders, val_folder=None, size=32, batch_size=2, num_workers=0, val_share=0.3)
    of_folders.setup("fit")
    assert of_folders.class_names == ("ant", "bee", "cat")
    assert len(of_folders.train_dataset) + len(of_folders.val_dataset) == 12
    assert caplog.text.count("has no validation part: ") == 3
    assert (
        f"{folders / 'train'}: has no validation part: {len(of_folders.val_dataset)} of its 12 pictures"
        in caplog.text
    )


def test_the_check_lists_all_of_the_set_once(layouts, tmp_path):
    data = layouts["voc"]()
    root = shutil.copytree(data.root, tmp_path / "copy")
    data.setup("fit")
    trained, scored = parts(data)[0][0], parts(data)[1][0]
    shutil.copy(root / "JPEGImages" / trained, root / "JPEGImages" / scored)
    (root / "JPEGImages" / parts(data)[1][1]).unlink()
    found = examine(VocDataModule(root, ["all"], None, ["cell"], size=[48, 64], num_workers=0))
    assert list(found.problems) == ["whole"]
    kinds = [problem.kind for problem in found.problems["whole"] if problem.kind is not Kind.NO_OBJECT]
    assert {Kind.LEAK, Kind.MISSING} < set(kinds)
    assert len(kinds) == 3  # the third is the copy
    assert list(found.totals) == ["whole", "training", "validation"]
    assert [own["images"] for own in found.totals.values()] == [23, len(parts(data)[0]), len(parts(data)[1]) - 1]
