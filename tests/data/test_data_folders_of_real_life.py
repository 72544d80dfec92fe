"""What systems, tools and hands leave in folders of pictures: left out, noticed, or one line that names it."""

import logging
import os
import shutil
from pathlib import Path

import pytest
from cityscapes_trees import Streets
from PIL import Image

from fna_lightning.data import CocoDataModule, FolderDataModule
from fna_lightning.data.check import examine, main
from fna_lightning.data.checking.problems import Kind
from fna_lightning.errors import DataError


def module(root, **settings):
    return FolderDataModule(root, **{"size": 32, "num_workers": 0, "batch_size": 2, **settings})


def found(data):
    """What the check says of the training set: (kind, line)."""
    return [(p.kind, f"{p.path.name}: {p.what}; {p.advice}") for p in examine(data).problems["training"]]


def refusal(data):
    with pytest.raises(DataError) as caught:
        data.setup("fit")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "train/__MACOSX/ant/._0.jpg",
        "train/ant/__MACOSX/0.jpg",
        "train/ant/._0.jpg",
        "train/ant/.ipynb_checkpoints/0-checkpoint.jpg",
        "train/ant/@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg",
        "train/ant/Thumbs.db",
        "train/.DS_Store",
        "train/ant/desktop.ini",
    ],
)
def test_what_systems_leave_is_no_picture(folders, name, caplog):
    (folders / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folders / "train" / "ant" / "0.jpg", folders / name)
    with caplog.at_level(logging.WARNING):
        data = module(folders)
        data.setup("fit")
    assert len(data.train_dataset) == 12
    assert data.class_names == ("ant", "bee", "cat")
    assert caplog.records == []
    assert found(module(folders)) == []


def test_links_that_lead_back_are_not_followed(folders, tmp_path):
    (folders / "train" / "ant" / "loop").symlink_to(folders / "train" / "ant")
    (folders / "train" / "bee" / "up").symlink_to(folders / "train")
    shutil.move(folders / "train" / "cat", tmp_path / "elsewhere")
    (folders / "train" / "cat").symlink_to(tmp_path / "elsewhere")
    data = module(folders, check_images="none")
    data.setup("fit")
    assert [int((data.train_dataset.labels == label).sum()) for label in (0, 2)] == [4, 4]
    streets = Streets(tmp_path / "streets")
    (streets.root / "leftImg8bit" / "train" / "loop").symlink_to(streets.root / "leftImg8bit" / "train")
    assert found(streets.module()) == []


def test_names_that_are_no_text(folders, capfd):
    for split in ("train", "val"):
        (folders / split / "ant").rename(folders / split / "\udcff")
    (folders / "train" / "\udcff" / "broken \udcfe.jpg").write_bytes(b"x")
    assert r"\udcff/broken \udcfe.jpg: is no image" in refusal(module(folders))
    (folders / "train" / "bee" / "a\nb.jpg").write_bytes(b"x")
    data = module(folders, on_error="skip")
    data.setup("fit")
    assert len(data.train_dataset) == 12
    assert main(["data=imagenet", f"data.root={folders}"]) == 1
    lines = [line for line in capfd.readouterr().out.splitlines() if ": error: " in line]
    assert [line.split("/train/")[1].split(": ")[0] for line in lines] == [
        r"bee/a\nb.jpg",
        r"\udcff/broken \udcfe.jpg",
    ]


def test_names_that_look_alike(folders):
    (folders / "train" / "ant").rename(folders / "train" / "\u00e4")
    (folders / "val" / "ant").rename(folders / "val" / "a\u0308")
    assert "only training has 'ä', only validation has 'a\\u0308'" in refusal(module(folders))


def test_a_home_that_the_shell_left_as_it_is():
    home = Path("~/sets/mine").expanduser()
    mend = f"write {home}: within a word, shells leave ~ as it is"
    assert refusal(module("~/sets/mine")) == f"~/sets/mine: no such folder; {mend}"


@pytest.mark.parametrize("name", ["valid", "Val", "validation"])
def test_splits_of_another_name(folders, tmp_path, name):
    other = tmp_path / "other"  # which is another set, and no place for this one's
    shutil.copytree(folders, other)
    (folders / "val").rename(folders / name)
    there = ", ".join(sorted([name, "train"]))
    mend = f"set data.val_folder to where the data set lies; there are {there}"
    assert refusal(module(folders)) == f"{folders}/val: no such folder; {mend}"


def test_streets_of_another_split(tmp_path):
    for name in ("one", "two"):
        streets = Streets(tmp_path / name)
    (streets.root / "leftImg8bit" / "val").rename(streets.root / "leftImg8bit" / "valid")
    assert refusal(streets.module()).endswith(
        "set data.val_split to where the data set lies; there are train, valid"
    )


OTHERS = {
    "page": (
        b"\n<!DOCTYPE html><html>403",
        "is broken (25 bytes): in its place is a web page; restore it",
    ),
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid",
        "in its place is a pointer of Git LFS",
    ),
    "drawing": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "it is a drawing in SVG; restore it"),
    "phone": (b"\0\0\0\x18ftypheic" + bytes(100), "is a HEIC picture, which is not decoded; convert it to RGB"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_stands_in_place_of_a_picture(folders, case):
    content, words = OTHERS[case]
    (folders / "train" / "ant" / "0.jpg").write_bytes(content)
    line = refusal(module(folders))
    assert line.startswith(f"{folders}/train/ant/0.jpg: is ")
    assert words in line


def test_pipes_are_not_waited_for(folders):
    os.mkfifo(folders / "train" / "ant" / "pipe.jpg")
    assert "pipe.jpg: is no file, but a folder, pipe or device" in refusal(module(folders))


def test_endings_say_nothing_of_content(folders):
    for kind in ("PNG", "WEBP", "BMP", "GIF", "TIFF"):
        Image.new("RGB", (40, 40), (len(kind), 9, ord(kind[0]))).save(
            folders / "train" / "ant" / f"{kind}.jpg", kind
        )
    data = module(folders)
    data.setup("fit")
    assert len(data.train_dataset) == 17


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF"])
@pytest.mark.parametrize("name", ["photo.jpg_large", "photo.webp2", "photo", "photo.v2.CR2"])
def test_pictures_of_an_ending_that_is_not_known_are_counted(folders, caplog, kind, name):
    Image.new("RGB", (40, 40), (1, 9, 200)).save(folders / "train" / "ant" / name, kind)
    (folders / "train" / "cat" / "deeper").mkdir()
    for text in ("notes", "labels.npy", "numbers.bin", "readme.text"):
        (folders / "train" / "cat" / "deeper" / text).write_bytes(b"BMI and P6 of all RIFFs, GIFted")
    os.mkfifo(folders / "train" / "cat" / "pipe")
    (folders / "train" / "cat" / "broken").symlink_to("/nowhere")
    words = (
        f"train: 1 picture(s) are in neither split, and not used: ant/{name}; put them into the folder of a class"
    )
    assert [(k, line.split(", with")[0]) for k, line in found(module(folders))] == [(Kind.UNUSED, words)]
    with caplog.at_level(logging.WARNING):
        module(folders).setup("fit")
    assert "folders with pictures that no split lists (1)" in caplog.text


def test_listed_pictures_may_have_any_ending(coco):
    content = coco.read()
    folder = coco.root / "train2017"
    (folder / "0000.jpg").rename(folder / "0000.jpg_large")
    shutil.copy(folder / "0002.jpg", folder / "photo.jpg_large")
    content["images"][0]["file_name"] = "0000.jpg_large"
    coco.write(content)
    what = (
        "train2017: 1 picture(s) are in neither split, and not used: photo.jpg_large; list them if they are meant"
    )
    assert [line for _, line in found(CocoDataModule(coco.root, size=[32, 32]))] == [f"{what} to be used"]


def test_what_is_not_used_can_be_used_as_its_layout_has_it(coco, folders, tmp_path):
    streets = Streets(tmp_path / "streets")
    streets.add("train_extra", "ulm/00", (40, 64), seed=50)
    shutil.copy(streets.picture("train", "ulm/01"), streets.root / "leftImg8bit" / "val" / "ulm.jpg")
    shutil.copytree(coco.root / "val2017", coco.root / "test2017")
    shutil.copytree(folders / "val", folders / "test")
    meant = "if it is meant to be used"
    for data, wanted in (
        (
            streets.module(),
            {
                "val": "let their names end in data.image_suffix=_leftImg8bit.png, and give them label files, "
                "if they are meant to be used",
                "train_extra": f"give it by data.train_split or data.val_split {meant}",
            },
        ),
        (
            CocoDataModule(coco.root, size=[32, 32]),
            {"test2017": f"give it by data.train_images or data.val_images, with its annotations, {meant}"},
        ),
        (module(folders), {"test": f"give it by data.train_folder or data.val_folder {meant}"}),
    ):
        unused = [p for p in examine(data).problems["training"] if p.kind is Kind.UNUSED]
        assert {p.path.name: p.advice for p in unused} == wanted


NAMES = {
    "train2017/0000.jpg": "0000.jpg",
    "train2017\\0000.jpg": "0000.jpg",
    "C:\\sets\\mine\\0000.jpg": "0000.jpg",
    "http://images.cocodataset.org/train2017/0000.jpg": "0000.jpg",
    "0000.JPG": "0000.jpg",
    "0000.jpg ": "0000.jpg",
    "0000": "0000.jpg",
    "0000.png": "0000.jpg",
    "bild a\u0308.jpg": "bild \u00e4.jpg",
}


@pytest.mark.parametrize("name", NAMES)
def test_pictures_under_another_name(coco, name):
    content = coco.read()
    content["images"][0]["file_name"] = name
    coco.write(content)
    folder = coco.root / "train2017"
    if NAMES[name] != "0000.jpg":
        (folder / "0000.jpg").rename(folder / NAMES[name])
    line = refusal(CocoDataModule(coco.root, size=[32, 32], num_workers=0))
    assert f": is missing; there is {NAMES[name]}: write its name as it is or set data.on_error=skip" in line


def test_a_picture_that_is_nowhere(coco):
    (coco.root / "train2017" / "0000.jpg").unlink()
    (coco.root / "train2017" / "0003.jpg").unlink()
    (coco.root / "train2017" / "0003.jpg").symlink_to("/nowhere")
    kinds = found(CocoDataModule(coco.root, size=[32, 32], num_workers=0))
    assert kinds == [(Kind.MISSING, f"000{k}.jpg: is missing; restore it or remove its entry") for k in (0, 3)]


def test_train_ids_under_the_classes_of_label_ids(tmp_path):
    streets = Streets(tmp_path / "streets")
    for k in range(6):
        streets.add("train", f"{('aachen', 'ulm')[k % 2]}/{k:02d}", (40, 64), seed=k, ids=(0, 1, 10, 11, 13, 255))
    what = "no label file has an id over 18, as if they held trainIds, where data.classes names labelIds"
    assert what in [p.what for p in examine(streets.module(classes=None)).problems["training"]]
    assert [kind for kind, _ in found(streets.module(classes={"road": 0, "rest": [1, 10, 11, 13]}))] == []
    for path in [*(streets.root / "gtFine").rglob("*.png")]:
        path.rename(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    line = refusal(streets.module(classes=None, label_suffix="_gtFine_labelTrainIds.png"))
    assert "hold trainIds, but data.classes names labelIds; set data.label_suffix=_gtFine_labelIds.png" in line


def test_pictures_that_are_their_own_label_files(tmp_path):
    streets = Streets(tmp_path / "streets")
    line = refusal(streets.module(images_folder="gtFine", image_suffix="_gtFine_labelIds.png"))
    assert line.endswith(
        "gtFine/train: pictures and label files are the same files; set data.labels_folder or data.label_suffix "
        "to those of the masks"
    )
    line = refusal(streets.module(label_suffix=".png"))
    assert "no picture has a label file in" in line
    assert line.endswith(f"or the suffixes of the two; there is no {streets.root}/gtFine/train/aachen/00.png")
