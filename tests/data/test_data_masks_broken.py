"""What is wrong with pictures and masks: everything in the check's list, by file, and one line in training."""

import re
import shutil

import numpy as np
import pytest
from cityscapes_trees import Streets
from mask_trees import MaskSet, blocks, coloured, grey, palette
from PIL import Image

from fna_lightning.data.check import examine
from fna_lightning.data.checking.problems import Kind
from fna_lightning.errors import DataError


@pytest.fixture
def masks(tmp_path):
    """Makes one from the way its masks are written."""
    streets = Streets(tmp_path / "streets")
    return lambda write: MaskSet(tmp_path / write.__name__, streets, write)


def refusal(data):
    with pytest.raises(DataError) as caught:
        data.setup("fit")
    line = str(caught.value)
    assert re.fullmatch(r"[^\n]+: [^\n]+; [^\n]+", line)
    return line


def listed(own, **settings):
    problems = examine(own.module(**settings)).problems["training"]
    return [(problem.kind, problem.path.relative_to(own.root).as_posix(), problem.what) for problem in problems]


def test_pictures_and_masks_that_do_not_pair(masks):
    own = masks(grey)
    shutil.copy(own.root / "images/train/ulm_01.png", own.root / "images/train/ulm_09.png")
    (own.root / "images/train/aachen_02.png").rename(own.root / "images/train/aachen_08.png")
    assert listed(own) == [
        (Kind.NO_LABELS, "images/train/aachen_08.png", f"has no mask aachen_08.* in {own.root / 'masks/train'}"),
        (Kind.NO_LABELS, "images/train/ulm_09.png", f"has no mask ulm_09.* in {own.root / 'masks/train'}"),
        (Kind.NO_PICTURE, "masks/train/aachen_02.png", f"has no picture in {own.root / 'images/train'}"),
    ]
    line = refusal(own.module())
    assert "aachen_08.png: has no mask" in line
    assert "(and 1 more problem); restore it or remove the picture" in line
    assert len(own.ready(on_error="skip").train_dataset) == 5


def test_nothing_that_pairs(masks):
    own = masks(grey)
    for number, path in enumerate(sorted((own.root / "masks/train").iterdir())):
        path.rename(path.with_name(f"{'abcdef'[number]}.png"))
    what = f"{own.root / 'images/train'}: no picture has a mask in {own.root / 'masks/train'}"
    mend = "give both the same name, or set data.image_names and data.mask_names, such as *_mask"
    seen = "there are pictures as aachen_00.png and masks as a.png"
    assert refusal(own.module()) == f"{what}; {mend}; {seen}"


def test_several_of_one_name(masks):
    own = masks(grey)
    shutil.copy(own.root / "masks/train/ulm_01.png", own.root / "masks/train/ulm_01.bmp.tif")
    (own.root / "masks/train/ulm_01.bmp.tif").rename(own.root / "masks/train/ulm_01.tif")
    Image.open(own.root / "images/train/ulm_03.png").save(own.root / "images/train/ulm_03.jpg")
    assert listed(own) == [
        (Kind.NO_LABELS, "images/train/ulm_03.png", "shares its mask with ulm_03.jpg"),
        (Kind.NO_PICTURE, "masks/train/ulm_01.tif", "is a second mask of ulm_01.png"),
    ]


@pytest.mark.parametrize(("folder", "word", "key"), [("images", "picture", "images"), ("masks", "mask", "masks")])
def test_folders_without_pictures(masks, folder, word, key):
    own = masks(grey)
    place = own.root / folder / "train"
    for path in place.iterdir():
        path.rename(path.with_suffix(".npy"))
    line = refusal(own.module())
    assert line.startswith(
        f"{place}: there is no {word} in the folder or below; set data.{key}_folder; endings that"
    )
    shutil.rmtree(place)
    place.mkdir()
    assert refusal(own.module(train_split="train")).startswith(
        f"{place}: the folder is empty; set data.train_split"
    )
    shutil.rmtree(own.root)
    assert refusal(own.module()).startswith(
        f"{own.root}: no such folder; set data.root to where the data set lies"
    )


def test_colours_that_the_table_lacks(masks):
    own = masks(coloured)
    path = own.root / "masks/train/ulm_01.png"
    picture = np.array(Image.open(path))
    picture[3, 4] = (9, 8, 7)
    Image.fromarray(picture).save(path)
    what = "has the colour (9, 8, 7), which the table does not have"
    assert listed(own) == [(Kind.LABEL_COLOUR, "masks/train/ulm_01.png", what)]
    assert f"{path}: {what}; correct it or add the colours to data.colours or data.ignored" in refusal(
        own.module()
    )
    assert len(own.ready(on_error="skip").train_dataset) == 5
    data = own.ready(check_images="none")
    with pytest.raises(DataError, match=re.escape(f"{path}: {what}; correct it")):
        [data.train_dataset[0, index] for index in range(6)]
    picture[:, :, 0] = np.arange(picture.shape[1])
    Image.fromarray(picture).save(path)
    assert re.match(r"has the colours \(0, \d+, \d+\), .* and \d+ more, which the table", listed(own)[0][2])


def test_ids_that_no_class_has(masks):
    for write in (grey, palette):
        own = masks(write)
        ids = blocks((42, 64))
        ids[0, 0] = 77
        own.change("masks/train/ulm_01.png", ids)
        what = "has label id 77, of no class and not in data.ignored"
        assert listed(own) == [(Kind.LABEL_ID, "masks/train/ulm_01.png", what)]


@pytest.mark.parametrize("write", [grey, palette, coloured])
def test_masks_of_another_size(masks, write):
    own = masks(write)
    own.change("masks/train/ulm_01.png", blocks((42, 63)))
    what = "is 63x42 (width x height), but its picture 64x42: ulm_01.png"
    assert listed(own) == [(Kind.LABEL_SIZE, "masks/train/ulm_01.png", what)]
    assert f"ulm_01.png: {what}; restore the two" in refusal(own.module())


def test_masks_of_another_kind(masks):
    own, colours = masks(grey), masks(coloured)
    shutil.copy(colours.root / "masks/train/ulm_01.png", own.root / "masks/train/ulm_01.png")
    ((kind, _, what),) = listed(own)
    assert kind is Kind.NO_INDICES
    assert what == "has colours, which are read by data.colours and not by data.classes"
    for set_, ending in ((own, ".jpg"), (colours, ".jpg")):
        path = set_.root / "masks/train/ulm_01.png"
        Image.open(colours.root / "masks/train/ulm_03.png").convert("RGB").save(path.with_suffix(ending))
        path.unlink()
        assert [row[0] for row in listed(set_)] == [Kind.LOSSY]
    deep = Image.fromarray(np.zeros((42, 64), np.uint16))
    deep.save(colours.root / "masks/train/ulm_01.png")
    (colours.root / "masks/train/ulm_01.jpg").unlink()
    assert listed(colours)[0][2] == "has 16 bits per channel, where masks are one picture of 8 bits per channel"


@pytest.mark.parametrize("write", [grey, palette, coloured])
def test_masks_that_end_early(masks, write):
    own = masks(write)
    path = own.root / "masks/train/ulm_01.png"
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    assert [row[0] for row in listed(own)] == [Kind.TRUNCATED]
    data = content.index(b"IDAT")
    path.write_bytes(content[: data + 8] + bytes(6) + content[data + 14 :])
    assert [row[0] for row in listed(own)] == [Kind.CORRUPT]
