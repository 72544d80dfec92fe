"""Folders of pictures and masks: every form gives the labels of the same set in Cityscapes' layout."""

import numpy as np
import pytest
import torch
from cityscapes_trees import CLASSES, Streets
from mask_trees import COLOURS, IGNORED, TABLE, MaskSet, coloured, grey, palette
from PIL import Image

from fna_lightning.data import MasksDataModule
from fna_lightning.data.layouts.mask_files import ColourTable, decode_ids, read_colours
from fna_lightning.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    return Streets(tmp_path_factory.mktemp("streets") / "streets")


def labels(dataset):
    """Name of the picture -> labels (H, W), as validation sees them."""
    found = {}
    for index in range(len(dataset)):
        sample = dataset[0, index]
        name = dataset.path(index)
        city = name.parent.name if name.stem.startswith(("0", "1")) else ""
        key = f"{city}_{name.stem}".strip("_").removesuffix("_leftImg8bit").removesuffix("_rgb")
        found[key] = sample.labels
    return found


def expected(streets):
    data = streets.ready(ignored=[0, 4])
    return {
        split: labels(data.for_validation(dataset))
        for split, dataset in (("train", data.train_dataset), ("val", data.val_dataset))
    }


def check_same(data, streets):
    """The same labels of the same pictures, to the last pixel."""
    wanted = expected(streets)
    assert data.class_names == tuple(CLASSES)
    for split, dataset in (("train", data.train_dataset), ("val", data.val_dataset)):
        found = labels(data.for_validation(dataset))
        assert found.keys() == wanted[split].keys()
        for name, own in found.items():
            assert torch.equal(own, wanted[split][name]), name
    seen = torch.cat([own.ravel() for own in wanted["train"].values()])
    assert set(seen.tolist()) == {0, 1, 2, 255}


@pytest.mark.parametrize("write", [grey, palette, coloured])
def test_the_same_labels_to_the_last_pixel(streets, tmp_path, write):
    data = MaskSet(tmp_path / "set", streets, write).ready()
    check_same(data, streets)
    other = streets.ready(ignored=[0, 4])
    for index in range(len(other.train_dataset)):
        a, b = data.train_dataset[3, index], other.train_dataset[3, index]
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.labels, b.labels)
    assert data.totals() == other.totals()


NAMES = {
    "a suffix": ("images/{0}/{1}_{2}.png", "masks/{0}/{1}_{2}_mask.png"),
    "a prefix": ("images/{0}/{1}_{2}.png", "masks/{0}/mask_{1}_{2}.png"),
    "both named": ("images/{0}/{1}_{2}_leftImg8bit.png", "masks/{0}/{1}_{2}_gtFine_labelIds.png"),
    "folders inside": ("images/{0}/{1}/{2}.png", "masks/{0}/{1}/{2}_labelIds.png"),
    "splits outside": ("{0}/images/{1}_{2}.png", "{0}/masks/{1}_{2}-mask.png"),
    "other formats": ("images/{0}/{1}_{2}.png", "masks/{0}/{1}_{2}.tif"),
}


@pytest.mark.parametrize("names", NAMES)
def test_names_that_pair(streets, tmp_path, names):
    check_same(MaskSet(tmp_path / "set", streets, names=NAMES[names]).ready(), streets)


def test_names_that_are_given(streets, tmp_path):
    names = ("images/{0}/{1}_{2}_rgb.png", "images/{0}/{1}_{2}L.png")
    masks = MaskSet(tmp_path / "set", streets, names=names)
    given = {"masks_folder": "images", "image_names": "*_rgb", "mask_names": "*L"}
    check_same(masks.ready(**given), streets)
    with pytest.raises(
        DataError, match=r"holds pictures and masks; set data.mask_names to what the masks are called"
    ):
        masks.ready(masks_folder="images")
    with pytest.raises(ConfigError, match=r"data.mask_names=L: write one \*"):
        masks.ready(**{**given, "mask_names": "L"})


def test_other_names_of_folders(streets, tmp_path):
    masks = MaskSet(tmp_path / "set", streets, names=("rgb/{0}_set/{1}_{2}.png", "gt/{0}_set/{1}_{2}.png"))
    with pytest.raises(
        DataError, match=r"images: no such folder; set data.images_folder to .*; there are gt, rgb"
    ):
        masks.ready()
    named = {"images_folder": "rgb", "masks_folder": "gt", "train_split": "train_set"}
    check_same(masks.ready(**named, val_split="val_set"), streets)
    with pytest.raises(
        DataError, match=r"rgb/test: no such folder; set data.val_split to .*; there are train_set, v"
    ):
        masks.ready(**named, val_split="test")


@pytest.mark.parametrize("form", ["stems", "names", "paths"])
def test_lists(streets, tmp_path, form):
    masks = MaskSet(tmp_path / "set", streets, names=("images/{1}_{2}.png", "masks/{1}_{2}_mask.png"))
    for split, known in expected(streets).items():
        texts = {"stems": "{}", "names": "{}.png", "paths": "set/images/{}.png"}
        lines = [texts[form].format(name) for name in sorted(known)]
        (masks.root / f"{split}.txt").write_text("\r\n".join(lines) + "\n\n")
    check_same(masks.ready(train_list="train.txt", val_list="val.txt"), streets)
    # All others are trained on; what no list names needs no mask.
    check_same(masks.ready(val_list="val.txt"), streets)
    (masks.root / "masks" / "bonn_00_mask.png").unlink()
    assert len(masks.ready(train_list="train.txt").train_dataset) > 1
    with pytest.raises(DataError, match=r"bonn_00.png: has no mask bonn_00_mask.\* in .*masks"):
        masks.ready(train_list="train.txt", val_list="val.txt")
    (masks.root / "train.txt").write_text("\naachen_00\nnowhere_01\n")
    with pytest.raises(DataError, match=r"train.txt:3: names nowhere_01, which is no picture in .*images"):
        masks.ready(train_list="train.txt")
    with pytest.raises(DataError, match=r"nothing.txt: cannot be read"):
        masks.ready(train_list="nothing.txt")
    (masks.root / "train.txt").write_text("\n")
    with pytest.raises(DataError, match=r"train.txt: lists no pictures"):
        masks.ready(train_list="train.txt")
    with pytest.raises(ConfigError, match=r"take the place of data.train_split"):
        masks.module(train_list="train.txt", val_split="val")


TABLES = {
    "labelmap.txt": "# label:color_rgb:parts:actions\n{rows}\n",
    "class_dict.csv": "name,r,g,b\n{rows}\n",
}


@pytest.mark.parametrize("file", TABLES)
def test_tables_of_colours_in_files(streets, tmp_path, file):
    masks = MaskSet(tmp_path / "set", streets, coloured)
    form = "{0}:{1},{2},{3}::" if file == "labelmap.txt" else "{0}, {1}, {2}, {3}"
    names = {7: "road", 24: "adult", 25: "child", 23: "sky"}
    rows = [form.format(name, *COLOURS[label_id]) for label_id, name in names.items()]
    (masks.root / file).write_text(TABLES[file].format(rows="\n".join(rows)))
    data = masks.ready(colours=file)
    assert data.class_names == ("road", "adult", "child", "sky")
    assert data.label_map.colours[1] == COLOURS[24]
    both = masks.ready(colours={name: [COLOURS[label_id]] for label_id, name in names.items()})
    for index in range(len(data.val_dataset)):
        assert torch.equal(data.val_dataset[0, index].labels, both.val_dataset[0, index].labels)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("road:128,64,128::\nsky 1 2 3\n", r":2: 'sky 1 2 3' is not name,red,green,blue; correct the line"),
        ("road:128,64,128\n\nsky:1,2,300\n", r":3: 'sky:1,2,300' is not name,red,green,blue"),
        ("road:128,64,128\nroad:1,2,3\n", r":2: 'road:1,2,3' is twice"),
        ("# nothing\n", r": has no colours; write name,red,green,blue in each line"),
    ],
)
def test_broken_tables_of_colours(tmp_path, text, words):
    file = tmp_path / "labelmap.txt"
    file.write_text(text)
    with pytest.raises(DataError, match=words):
        read_colours(file)
    with pytest.raises(DataError, match=r"nothing.txt: cannot be read"):
        read_colours(tmp_path / "nothing.txt")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "data.classes and data.colours are empty: name the classes by their ids"),
        ({"colours": {"road": [1, 2]}}, r"data.colours.road=\[1, 2\]: is no colour; give \[red, green, blue\]"),
        ({"colours": {"road": [1, 2, 256]}}, "is no colour"),
        ({"colours": {"road": "red"}}, "data.colours.road=red: is no colour"),
        ({"colours": {"a": [1, 2, 3], "b": [1, 2, 3]}}, r"the colour \[1, 2, 3\] is in data.colours.a too"),
        (
            {"colours": {"a": [1, 2, 3]}, "ignored": [[1, 2, 3]]},
            "data.ignored: the colour .* is in data.colours.a",
        ),
        ({"colours": {"a": [1, 2, 3]}, "ignored": [0]}, "data.ignored=0: is no colour"),
        ({"colours": {"a": [[n // 16, n % 16, 0] for n in range(255)]}}, "has 255 colours, where 1 to 254"),
        ({"classes": {"a": 1, "b": 1}}, "id 1 is in data.classes.a too"),
    ],
)
def test_wrong_settings(tmp_path, settings, words):
    with pytest.raises(ConfigError, match=words):
        MasksDataModule(tmp_path, **settings)


def test_255_is_ignored_unless_a_class_has_it(tmp_path):
    assert MasksDataModule(tmp_path, classes={"ground": 0, "cell": [1, 2]}).label_map.ignored == (255,)
    assert MasksDataModule(tmp_path, classes={"ground": 0, "cell": 255}).label_map.ignored == ()
    assert MasksDataModule(tmp_path, classes={"ground": 0}, ignored=[3]).label_map.ignored == (3,)


def saved(picture, tmp_path, name="mask.png", **settings):
    picture.save(tmp_path / name, **settings)
    return (tmp_path / name).read_bytes()


def test_palettes_of_few_bits_give_their_indices(tmp_path):
    ids = np.arange(48, dtype=np.uint8).reshape(6, 8) % 3
    picture = Image.fromarray(ids, "P")
    picture.putpalette([9, 9, 9, 0, 0, 0, 200, 10, 30])
    for bits in (2, 4, 8):
        content = saved(picture, tmp_path, bits=bits)
        np.testing.assert_array_equal(decode_ids(content), ids)
        table = ColourTable(((200, 10, 30), (9, 9, 9), (0, 0, 0)))
        np.testing.assert_array_equal(table.decode(content), np.array([1, 2, 0], np.uint8)[ids])
    np.testing.assert_array_equal(decode_ids(saved(picture, tmp_path, "mask.gif")), ids)
    np.testing.assert_array_equal(decode_ids(saved(picture, tmp_path, "mask.bmp")), ids)


def test_colours_whatever_lies_over_them(tmp_path):
    """Grey counts as three equal colours, and transparency shows what is stored below."""
    table = ColourTable(((255, 255, 255), (0, 0, 0)))
    ids = (np.arange(48).reshape(6, 8) % 2).astype(np.uint8)
    grey_levels = np.array([255, 0], np.uint8)[ids]
    layered = np.dstack([np.repeat(grey_levels[..., None], 3, axis=2), ids * 255])
    for picture in (grey_levels, np.repeat(grey_levels[..., None], 3, axis=2), layered):
        np.testing.assert_array_equal(table.decode(saved(Image.fromarray(picture), tmp_path)), ids)


def test_predictions_are_written_in_ids_and_colours(streets, tmp_path):
    data = MaskSet(tmp_path / "set", streets, coloured).ready()
    label_map = data.label_files.label_map
    stored = np.array([[0, 1, 2, 255]], np.uint8)
    assert label_map.coloured(stored).tolist() == [
        [list(TABLE["road"][0]), list(TABLE["person"][0]), list(TABLE["sky"][0]), [0, 0, 0]]
    ]
    assert label_map.to_labels(label_map.to_ids(stored)).tolist() == stored.tolist()
    assert len(IGNORED) == len(label_map.ignored)
