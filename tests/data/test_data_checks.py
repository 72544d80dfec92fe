"""What is noticed of pictures and between the splits, and what training does about it."""

import logging
import shutil

import numpy as np
import pytest

from fna_lightning.data import CocoDataModule, FolderDataModule
from fna_lightning.data.checking.checks import check_images
from fna_lightning.data.checking.leaks import same_contents
from fna_lightning.data.checking.problems import Kind, Problems
from fna_lightning.errors import DataError


class Files:
    """A list of images."""

    def __init__(self, paths):
        self.paths = list(paths)

    def __len__(self):
        return len(self.paths)

    def path(self, index):
        return self.paths[index]


HEADERS = {
    "turned.jpg": Kind.ROTATED,
    "turned.png": Kind.ROTATED,
    "grey.jpg": Kind.GRAYSCALE,
    "grey.png": Kind.GRAYSCALE,
    "grey.bmp": Kind.GRAYSCALE,
    "grey_transparent.png": Kind.GRAYSCALE,
    "cmyk.jpg": Kind.CMYK,
    "deep.png": Kind.DEEP,
    "deep.tif": Kind.DEEP,
    "twelve_bits.jpg": Kind.UNSUPPORTED,
    "empty.jpg": Kind.EMPTY,
    "text.png": Kind.CORRUPT,
    "truncated.jpg": Kind.TRUNCATED,
    "truncated.png": Kind.TRUNCATED,
    "gone.jpg": Kind.MISSING,
}
"""What the headers tell; nothing else is the matter with the pictures that are not here."""
PIXELS = {
    "torn.jpg": Kind.CORRUPT,
    "padded.jpg": Kind.SURPLUS,
    "transparent.png": Kind.TRANSPARENT,
    "transparent.webp": Kind.TRANSPARENT,
    "palette_transparent.png": Kind.TRANSPARENT,
}
"""What only decoding tells."""


@pytest.fixture
def gallery(pictures, tmp_path):
    """All pictures on disk, and one that is not there."""
    for name, content in pictures.items():
        (tmp_path / name).write_bytes(content)
    return Files([tmp_path / "gone.jpg", *sorted(tmp_path.iterdir())])


@pytest.mark.parametrize("mode", ["headers", "all"])
def test_every_kind_of_picture(gallery, mode):
    problems = Problems("list")
    good = check_images(gallery, None, mode, problems)
    expected = {(name, kind) for name, kind in (HEADERS | (PIXELS if mode == "all" else {})).items()}
    if mode == "all":
        expected.add(("grey_transparent.png", Kind.TRANSPARENT))
    assert sorted((p.path.name, p.kind.name) for p in problems) == sorted((n, k.name) for n, k in expected)
    bad = {p.path for p in problems if p.kind.severity == "error"}
    assert [path for path, fine in zip(gallery.paths, good, strict=True) if not fine] == [
        path for path in gallery.paths if path in bad
    ]
    words = {problem.path.name: problem.what for problem in problems}
    assert words["turned.png"].startswith("has the orientation tag 6, which is ignored")
    if mode == "all":
        assert "decoder says: Corrupt JPEG data" in words["torn.jpg"]
        assert "extraneous bytes" in words["padded.jpg"]


def test_complaints_are_told_of_the_right_file(pictures, tmp_path):
    names = ["torn.jpg", "good.jpg", "text.png", "good.jpg", "padded.jpg", "good.jpg", "torn.jpg"] * 12
    for index, name in enumerate(names):
        (tmp_path / f"{index:03d}_{name}").write_bytes(pictures[name])
    problems = Problems("list")
    good = check_images(Files(sorted(tmp_path.iterdir())), None, "all", problems)
    assert good.tolist() == [name in {"good.jpg", "padded.jpg"} for name in names]
    assert [p.path.name[4:] for p in problems] == [name for name in names if name != "good.jpg"]


def test_sizes_of_turned_pictures_are_explained(pictures, tmp_path):
    for name in ("turned.jpg", "good.png"):
        (tmp_path / name).write_bytes(pictures[name])
    problems = Problems("list")
    sizes = np.array([[60, 40], [60, 40]])
    good = check_images(Files([tmp_path / "good.png", tmp_path / "turned.jpg"]), sizes, "headers", problems)
    assert [problem.kind for problem in problems] == [Kind.WRONG_SIZE, Kind.TURNED]
    plain, turned = [problem.what for problem in problems]
    assert plain == "is 60x40 (width x height), but the annotations say 40x60"
    assert turned == f"{plain}: they count it as turned by its orientation tag 6, which is ignored"
    assert not good.any()


def coco_module(coco, **settings):
    data = CocoDataModule(coco.root, size=[32, 32], batch_size=2, num_workers=0, **settings)
    data.setup("fit")
    return data


def replace(coco, index, content, name=None):
    """Put another picture of 60x40 in the place of a training image."""
    annotations = coco.read()
    row = annotations["images"][index]
    row.update(width=60, height=40, file_name=name or row["file_name"])
    annotations["annotations"] = [a for a in annotations["annotations"] if a["image_id"] != row["id"]]
    coco.write(annotations)
    (coco.root / "train2017" / row["file_name"]).write_bytes(content)


def test_training_is_warned_once_for_each_kind(coco, pictures, caplog):
    for index in (0, 2, 3):
        replace(coco, index, pictures["grey.jpg"])
    replace(coco, 4, pictures["cmyk.jpg"])
    replace(coco, 5, pictures["turned.jpg"])
    with caplog.at_level(logging.WARNING):
        data = coco_module(coco)
    train = coco.root / "train2017"
    assert [record.getMessage() for record in caplog.records] == [
        f"training set: copies of a picture in one split (2); the first: {train / '0002.jpg'}: has the same bytes "
        f"as {train / '0000.jpg'}, annotated alike",
        f"training set: classes that training never meets (1); the first: {coco.file()}: no image has a box of "
        "car, brush",
        f"training set: pictures with an orientation tag (1); the first: {train / '0005.jpg'}: has the "
        "orientation tag 6, which is ignored: pixels are read as stored",
        f"training set: grayscale pictures (3); the first: {train / '0000.jpg'}: is grayscale, and read as three "
        "equal channels",
        f"training set: CMYK pictures (1); the first: {train / '0004.jpg'}: is CMYK, and converted to RGB without "
        "its colour profile",
    ]
    assert len(data.train_dataset) == 6
    assert data.left_out == {}


def test_what_is_left_out_is_counted_and_the_same_every_time(coco, pictures):
    replace(coco, 0, pictures["truncated.jpg"])
    replace(coco, 3, pictures["truncated.jpg"])
    (coco.root / "val2017" / "0002.jpg").unlink()
    content = coco.read()
    content["annotations"][0]["bbox"] = [1, 1, 0, 5]
    del content["annotations"][1]["bbox"]
    coco.write(content)
    first, second = coco_module(coco, on_error="skip"), coco_module(coco, on_error="skip")
    assert (
        first.left_out
        == second.left_out
        == {
            "training: boxes of no area": 1,
            "training: malformed entries": 1,
            "training: truncated pictures": 2,
            "validation: missing pictures": 1,
        }
    )
    assert first.train_dataset.annotations.image_ids.tolist() == [17, 24, 38, 45]
    np.testing.assert_equal(vars(first.train_dataset.annotations), vars(second.train_dataset.annotations))
    with pytest.raises(
        DataError, match=r"annotations\[1\].bbox is missing.*\(and 1 more problem\); .*on_error=skip"
    ):
        coco_module(coco)


def test_a_set_without_a_usable_entry_is_refused_whatever_may_be_left_out(coco):
    content = coco.read()
    for row in content["annotations"]:
        del row["bbox"]
    coco.write(content)
    with pytest.raises(DataError, match=r"json: none of the 6 annotations is usable; correct them$"):
        coco_module(coco, on_error="skip")


@pytest.mark.parametrize(
    ("table", "key", "value", "match"),
    [
        ("images", "id", 2**70, r"images\[0\].id is 1180591620717411303424, not int"),
        ("images", "file_name", "a\0b", r"images\[0\].file_name is 'a\\x00b', not str"),
        ("images", "file_name", "\ud800", r"images\[0\].file_name is '\\ud800', not str"),
        ("annotations", "bbox", [1, 2, 3, 10**400], r"annotations\[0\].bbox is \[1, 2, 3, 1"),
        ("annotations", "area", 10**400, r"annotations\[0\].area is 10+\.\.\.0+, not int or float"),
        ("categories", "id", None, r"categories\[0\].id is None, not int \(and 2 more.*\); correct it$"),
    ],
)
def test_values_that_no_array_and_no_file_system_takes(coco, table, key, value, match):
    content = coco.read()
    content[table][0][key] = value
    coco.write(content)
    with pytest.raises(DataError, match=match):
        coco_module(coco)


def test_errors_name_line_and_column(coco):
    content = coco.read()
    content["annotations"][2]["category_id"] = 5
    coco.write(content)
    text = coco.file().read_text()
    column = text.index('{"id": 102') + 1
    with pytest.raises(DataError, match=rf"train2017.json:1:{column}: annotation 102 has category_id 5"):
        coco_module(coco)


def test_leaks_are_told_when_training(folders, caplog):
    shutil.copy(folders / "train" / "ant" / "0.jpg", folders / "val" / "ant" / "copy.jpg")
    (folders / "val" / "bee" / "linked.jpg").symlink_to(folders / "train" / "cat" / "1.jpg")
    data = FolderDataModule(folders, size=32, num_workers=0)
    data.setup()
    train, val = folders / "train", folders / "val"
    assert len(caplog.messages) == 1
    assert "2 validation picture(s) are trained on; the first: " in caplog.text
    assert sorted(same_contents(data.train_dataset, data.val_dataset)) == [
        (train / "ant" / "0.jpg", val / "ant" / "copy.jpg"),
        (train / "cat" / "1.jpg", val / "bee" / "linked.jpg"),
    ]


def test_linked_folders_are_one(folders):
    (folders / "other").symlink_to(folders / "train")
    paths = sorted((folders / "train").rglob("*.jpg"))
    others = [folders / "other" / path.relative_to(folders / "train") for path in paths]
    assert list(same_contents(Files(paths), Files(others))) == list(zip(paths, others, strict=True))


def test_contents_that_differ_in_one_byte_are_not_the_same(tmp_path):
    rng = np.random.default_rng(0)
    contents = [rng.bytes(5000) for _ in range(3)]
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        for index, content in enumerate(contents):
            changed = bytearray(content)
            changed[700] ^= 1 if split == "val" and index == 1 else 0
            (tmp_path / split / str(index)).write_bytes(changed)
    train, val = (Files(sorted((tmp_path / split).iterdir())) for split in ("train", "val"))
    assert [path.name for _, path in same_contents(train, val)] == ["0", "2"]
