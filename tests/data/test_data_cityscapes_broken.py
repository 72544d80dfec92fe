"""What can be wrong with label files, and what training and the check make of it."""

import io
import logging
import shutil

import cv2
import numpy as np
import pytest
from cityscapes_trees import Streets, write
from PIL import Image

from fna_lightning.data.check import examine, main
from fna_lightning.data.checking.images import read_labels
from fna_lightning.data.checking.problems import Kind
from fna_lightning.errors import DataError

PAIR = ("train", "aachen/00")


@pytest.fixture
def streets(tmp_path):
    return Streets(tmp_path / "streets")


def found(streets, split="training", **settings):
    """[(kind, file name, words)] of a split, and what is usable of it."""
    seen = examine(streets.module(**{"check_images": "headers", **settings}))
    return [(p.kind, p.path.name, f"{p.what}; {p.advice}") for p in seen.problems[split]], seen.totals[split]


def colour(stored):
    return cv2.imencode(".png", np.dstack([stored] * 3))[1].tobytes()


def deep(stored):
    return cv2.imencode(".png", stored.astype(np.uint16))[1].tobytes()


def pillows(mode):
    """The same in one of Pillow's modes."""

    def content(stored):
        file = io.BytesIO()
        picture = Image.fromarray(stored)
        if mode == "P":
            picture.putpalette([value for k in range(256) for value in (k, 255 - k, 0)])
        picture.convert(mode).save(file, "PNG")
        return file.getvalue()

    return content


def png(stored):
    return cv2.imencode(".png", stored)[1].tobytes()


def saved(kind, mode="L", **settings):
    """The same by Pillow in another format."""

    def content(stored):
        file = io.BytesIO()
        Image.fromarray(stored).convert(mode).save(file, kind, **settings)
        return file.getvalue()

    return content


def inverted_palette(stored):
    """A BMP whose grey palette begins with white."""
    content = bytearray(saved("BMP")(stored))
    content[54 : 54 + 1024] = bytes(value for k in range(256) for value in (255 - k,) * 3 + (0,))
    return bytes(content)


def pages(stored):
    return saved("TIFF", save_all=True, append_images=[Image.fromarray(stored)])(stored)


def with_a_changed_byte(stored):
    content = bytearray(png(np.random.default_rng(0).integers(7, 9, stored.shape, np.uint8)))
    content[len(content) // 2] ^= 0x55
    return bytes(content)


BROKEN = {
    "colour": (colour, Kind.NO_INDICES, "has colours or a palette, where label files are grayscale of 8 bits"),
    "palette": (pillows("P"), Kind.NO_INDICES, "has colours or a palette"),
    "16 bits": (deep, Kind.NO_INDICES, "has 16-bit pixels, where"),
    "1 bit": (pillows("1"), Kind.NO_INDICES, "has 1-bit pixels, where"),
    "transparent": (pillows("LA"), Kind.NO_INDICES, "has transparency, where label files are"),
    "1-bit TIFF": (saved("TIFF", "1"), Kind.NO_INDICES, "has 1-bit pixels, where"),
    "1-bit BMP": (saved("BMP", "1"), Kind.NO_INDICES, "has 1-bit pixels, where"),
    "BMP with a palette": (inverted_palette, Kind.NO_INDICES, "has colours or a palette, where"),
    "TIFF with transparency": (saved("TIFF", "LA"), Kind.NO_INDICES, "has transparency, where"),
    "TIFF of two pages": (pages, Kind.NO_INDICES, "has 2 frames, where"),
    "lossless WebP, which has no gray": (
        saved("WEBP", lossless=True),
        Kind.NO_INDICES,
        "has colours or a palette",
    ),
    "JPEG": (saved("JPEG", quality=100), Kind.LOSSY, "is in a lossy format, which changes ids, and masks need"),
    "JPEG of colours": (saved("JPEG", "RGB"), Kind.LOSSY, "masks need a lossless format; save it anew"),
    "WebP": (saved("WEBP", quality=100), Kind.LOSSY, "is in a lossy format"),
    "TIFF packed as JPEG": (saved("TIFF", compression="jpeg"), Kind.LOSSY, "is in a lossy format"),
    "JPEG 2000": (saved("JPEG2000", irreversible=True), Kind.LOSSY, "is in a lossy format"),
    "truncated": (lambda stored: png(stored)[:-20], Kind.TRUNCATED, "is truncated: the PNG has no end"),
    "corrupt": (with_a_changed_byte, Kind.CORRUPT, "is broken ("),
    "empty": (lambda _: b"", Kind.EMPTY, "is empty"),
    "text": (lambda _: b"<html>", Kind.CORRUPT, "is no image or is broken (6 bytes)"),
    "size": (lambda stored: png(stored[:-1]), Kind.LABEL_SIZE, "is 64x39 (width x height), but its picture 64x40"),
    "ids": (lambda stored: png(stored + 60), Kind.LABEL_ID, "has label ids 60, 64, 67, 83, 84, 85, of no class"),
    "void": (lambda stored: png(stored * 0), Kind.NO_OBJECT, "has no pixel of any class"),
}


LOSSLESS = {
    "BMP": saved("BMP"),
    "TIFF": saved("TIFF"),
    "TIFF packed by LZW": saved("TIFF", compression="tiff_lzw"),
    "TIFF packed by deflate": saved("TIFF", compression="tiff_adobe_deflate"),
    "JPEG 2000": saved("JPEG2000"),
    "PGM": saved("PPM"),
}


@pytest.mark.parametrize("case", LOSSLESS)
def test_formats_that_keep_ids(streets, case):
    stored = streets.ids(*PAIR)
    content = LOSSLESS[case](stored)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), stored)
    streets.label(*PAIR).write_bytes(content)
    assert found(streets)[0] == []
    np.testing.assert_array_equal(read_labels(streets.label(*PAIR)), stored)


@pytest.mark.parametrize("case", BROKEN)
def test_every_kind_of_label_file(streets, case):
    make, kind, words = BROKEN[case]
    streets.label(*PAIR).write_bytes(make(streets.ids(*PAIR)))
    problems, totals = found(streets)
    assert [problem[:2] for problem in problems] == [(kind, "00_gtFine_labelIds.png")]
    assert words in problems[0][2]
    usable = 5 if kind.severity == "error" else 6
    assert totals["images"] == usable
    if kind is Kind.NO_INDICES:
        assert problems[0][2].endswith("; save indices as 8-bit grayscale")


@pytest.mark.parametrize("case", [name for name, row in BROKEN.items() if row[1].severity == "error"])
def test_training_stops_or_does_without(streets, case, caplog):
    make, kind, _ = BROKEN[case]
    path = streets.label(*PAIR)
    path.write_bytes(make(streets.ids(*PAIR)))
    with pytest.raises(DataError) as error:
        streets.ready()
    assert str(error.value).startswith(f"{path}: ")
    assert str(error.value).endswith("or set data.on_error=skip to leave it out")
    with caplog.at_level(logging.WARNING):
        data = streets.ready(on_error="skip")
    assert len(data.train_dataset) == 5
    assert data.left_out == {f"training: {kind.title}": 1}
    assert sum("aachen/00" in record.getMessage() for record in caplog.records) == 1
    assert not any("aachen/00" in file for batch in data.train_dataloader() for file in batch.files)


@pytest.mark.parametrize("case", [name for name, row in BROKEN.items() if row[1].severity == "error"])
def test_unchecked_files_stop_where_they_are_met(streets, case):
    make, _, _ = BROKEN[case]
    path = streets.label(*PAIR)
    path.write_bytes(make(streets.ids(*PAIR)))
    data = streets.ready(check_images="none")
    assert data.train_dataset.totals() == {"images": 6}
    with pytest.raises(DataError) as error:
        data.train_dataset[0, 0]
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert "; " in str(error.value)


def test_pictures_and_label_files_without_each_other(streets):
    streets.label(*PAIR).unlink()
    streets.picture("train", "ulm/01").unlink()
    problems, totals = found(streets)
    assert [problem[:2] for problem in problems] == [
        (Kind.NO_LABELS, "00_leftImg8bit.png"),
        (Kind.NO_PICTURE, "01_gtFine_labelIds.png"),
    ]
    assert f"has no label file {streets.label(*PAIR)}; restore it or remove the picture" in problems[0][2]
    assert totals["images"] == 4
    with pytest.raises(DataError, match=r"00_leftImg8bit.png: has no label file .*aachen/00_gtFine"):
        streets.ready(check_images="none")
    assert len(streets.ready(on_error="skip").train_dataset) == 4


def test_pictures_are_checked_as_everywhere(streets):
    streets.picture(*PAIR).write_bytes(b"")
    write(streets.picture("train", "ulm/01"), np.zeros((42, 64), np.uint8))
    write(streets.picture("train", "aachen/02"), np.zeros((44, 64, 3), np.uint16))
    problems, totals = found(streets)
    assert [problem[0] for problem in problems] == [Kind.EMPTY, Kind.DEEP, Kind.GRAYSCALE]
    assert totals["images"] == 5


def test_classes_that_no_label_shows_are_one_warning(streets, caplog):
    classes = {"road": 7, "person": 24, "wall": 12, "sky": 23, "bus": [28, 29]}
    with caplog.at_level(logging.WARNING):
        streets.ready(classes=classes)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("training set: classes that training never meets (1)")
    assert message.endswith("no label file has a pixel of wall, bus")
    caplog.clear()
    streets.ready(classes=classes, check_images="none")
    assert not caplog.records


def test_classes_of_left_out_pictures_do_not_count(streets):
    for k in range(6):
        streets.add(
            "train", f"{('aachen', 'ulm')[k % 2]}/{k:02d}", (40, 64), ids=(7, 23) if k else (7, 23, 24), seed=k
        )
    streets.picture(*PAIR).write_bytes(b"")
    problems, totals = found(streets)
    assert [problem[0] for problem in problems] == [Kind.EMPTY, Kind.UNSEEN_CLASS]
    assert "has a pixel of person; " in problems[1][2]
    assert totals["classes that occur"] == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"images_folder": "images"}, "images: no such folder; set data.images_folder to where the data set lies"),
        ({"labels_folder": "masks"}, "masks: no such folder; set data.labels_folder"),
        ({"train_split": "training"}, "leftImg8bit/training: no such folder; set data.train_split"),
        ({"image_suffix": ".jpg"}, "leftImg8bit/train: no file ends in .jpg, neither in the folder nor below"),
        ({"label_suffix": "_ids.png"}, "gtFine/train: no file ends in _ids.png, .*; set data.label_suffix"),
    ],
)
def test_sets_that_are_not_there(streets, settings, words):
    for on_error in ("raise", "skip"):
        with pytest.raises(DataError, match=words) as error:
            streets.ready(on_error=on_error, **settings)
        assert "\n" not in str(error.value)


def test_nothing_usable(streets):
    none = "gtFine/train: none of the 6 label files is usable; mend"
    for on_error, words in (("raise", "and 6 more problems"), ("skip", none)):
        with pytest.raises(DataError, match=words):
            streets.ready(on_error=on_error, classes={"none": 99}, ignored=[])
    for path in (streets.root / "leftImg8bit" / "train" / "ulm").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"gtFine/train: none of the 6 pictures with their label files is usable"):
        streets.ready(on_error="skip", classes={"none": 99}, ignored=[])
    for path in (streets.root / "leftImg8bit" / "train" / "aachen").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"leftImg8bit/train: none of the 6 pictures is usable; mend"):
        streets.ready(on_error="skip", classes={"none": 99}, ignored=[])
    shutil.rmtree(streets.root / "gtFine" / "train")
    for k in range(2):
        write(streets.label("train", f"paris/{k}"), np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match=r"no picture has a label file in .*gtFine/train; set data.images_folder"):
        streets.ready(on_error="skip")


def test_the_command_lists_everything(streets, capfd):
    for name, case in (("aachen/00", "corrupt"), ("ulm/01", "ids"), ("aachen/02", "palette")):
        path = streets.label("train", name)
        path.write_bytes(BROKEN[case][0](streets.ids("train", name)))
    streets.label("val", "bonn/00").unlink()
    overrides = ["data=cityscapes", f"data.root={streets.root}", "data.classes={road: 7, the sky: [23]}"]
    code = main(overrides)
    output, errors = capfd.readouterr()
    assert (code, errors) == (1, "")
    lines = [line for line in output.splitlines() if "; " in line]
    assert [line.split(": ")[0].split("/")[-1] for line in lines] == [
        "00_gtFine_labelIds.png",
        "02_gtFine_labelIds.png",
        "01_gtFine_labelIds.png",
        "00_leftImg8bit.png",
    ]
    assert "4 error(s), 0 notice(s)" in output
    assert main([*overrides[:2], "data.classes=[road]"]) == 2
    assert "does not name 1 to 254 classes" in capfd.readouterr().err
