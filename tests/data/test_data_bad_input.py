"""Every broken set ends in one line that names file, value and mend."""

import logging
import shutil

import cv2
import numpy as np
import pytest

from fna_lightning.data import CocoDataModule, FolderDataModule
from fna_lightning.errors import DataError


def setup(root, **settings):
    data = CocoDataModule(root, size=[32, 32], batch_size=2, num_workers=0, **settings)
    data.setup("fit")
    return data


def fails(root, match, **settings):
    with pytest.raises(DataError, match=match) as caught:
        setup(root, **settings)
    assert "\n" not in str(caught.value)
    assert any(
        word in str(caught.value) for word in ("set data.", "restore", "correct", "write", "convert", "give")
    )


def test_missing_and_empty_root(tmp_path):
    fails(tmp_path / "nowhere", "nowhere: no such folder; set data.root")
    (tmp_path / "empty").mkdir()
    fails(tmp_path / "empty", "empty: the folder is empty; set data.root")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"{", r"instances_train2017.json:1:2: is not JSON \(.*\); restore"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[]", "is not a COCO file: a list where an object should be"),
        (b"{}", "is not a COCO instances file: 'images' is not a list of objects"),
        (b'{"images": [1], "annotations": [], "categories": []}', "'images' is not a list of objects"),
        (b'{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "has no images"),
    ],
)
def test_not_coco(coco, content, match):
    coco.file().write_bytes(content)
    fails(coco.root, match)


@pytest.mark.parametrize(
    ("table", "key", "value", "match"),
    [
        ("images", "width", None, r"images\[0\].width is missing, not int"),
        ("images", "height", "64", r"images\[0\].height is '64', not int"),
        ("images", "file_name", 3, r"images\[0\].file_name is 3, not str"),
        ("annotations", "bbox", None, r"annotations\[0\].bbox is missing"),
        ("annotations", "bbox", [1, 2, 3], r"annotations\[0\].bbox is \[1, 2, 3\], not \[left"),
        ("annotations", "bbox", [1, 2, 3, "4"], r"annotations\[0\].bbox is \[1, 2, 3, '4'\]"),
        ("annotations", "image_id", 1.5, r"annotations\[0\].image_id is 1.5, not int"),
        ("categories", "name", None, r"categories\[0\].name is missing"),
    ],
)
def test_wrong_types(coco, table, key, value, match):
    content = coco.read()
    content[table][0].pop(key)
    if value is not None:
        content[table][0][key] = value
    coco.write(content)
    fails(coco.root, match)


@pytest.mark.parametrize(
    ("table", "key", "value", "match"),
    [
        ("images", "id", 17, "image id 17 is used twice"),
        ("images", "width", 0, "image 10 has width 0 and height 64"),
        ("annotations", "id", 101, "annotation id 101 is used twice"),
        ("annotations", "image_id", 5, "annotation 100 has image_id 5, which no image has"),
        ("annotations", "category_id", 4, "annotation 100 has category_id 4, which no category has"),
        (
            "annotations",
            "bbox",
            [1, 2, 0, 5],
            r"annotation 100 \(image 17\) has bbox \[1.0, 2.0, 0.0, 5.0\] of no area",
        ),
        ("annotations", "bbox", [9, 9, -4, 5], "of no area"),
        ("annotations", "bbox", [200, 2, 9, 9], r"outside the image of 80x68 \(width x height\)"),
        ("annotations", "bbox", [-30, 2, 9, 9], "outside the image"),
        ("annotations", "bbox", [70, 2, 40, 9], "outside the image"),
        ("annotations", "bbox", [float("nan"), 2, 9, 9], "with a number that is not finite"),
        ("annotations", "bbox", [1, 2, float("inf"), 9], "with a number that is not finite"),
    ],
)
def test_broken_items_stop_or_are_left_out(coco, caplog, table, key, value, match):
    content = coco.read()
    content[table][0][key] = value
    coco.write(content)
    fails(coco.root, match + ".*; .* or set data.on_error=skip to leave it out")
    with caplog.at_level(logging.WARNING):
        data = setup(coco.root, on_error="skip")
    assert "left out 1 item(s)" in caplog.text
    assert len(data.train_dataset) == (5 if table == "images" else 6)
    assert all(data.train_dataset[0, k] is not None for k in range(len(data.train_dataset)))


def test_the_number_of_problems_is_told(coco):
    content = coco.read()
    for row in content["annotations"][:3]:
        row["bbox"] = [0, 0, 0, 0]
    coco.write(content)
    fails(coco.root, r"annotation 100 .* of no area \(and 2 more problems\)")


def test_boxes_may_reach_over_the_edge_by_a_pixel(coco):
    content = coco.read()
    content["annotations"][0]["bbox"] = [-0.5, 0, 81, 68.9]
    coco.write(content)
    sample = setup(coco.root, flip=0.0).train_dataset[0, 1]
    assert sample.boxes.tolist() == [[0, 0, 32, 32]]


@pytest.mark.parametrize("twice", [True, False])
def test_categories(coco, twice):
    content = coco.read()
    content["categories"] = content["categories"][:1] * 2 if twice else []
    coco.write(content)
    fails(coco.root, "category id 90 is used twice" if twice else "has no categories")


def test_sets_that_differ_in_classes(coco):
    content = coco.read("val2017")
    content["categories"][1]["name"] = "cart"
    coco.write(content, "val2017")
    fails(coco.root, "have other classes: only training has 'car', only validation has 'cart'; give both the same")
    content["categories"][1] = {"id": 2, "name": "car"}
    for row in content["annotations"]:
        row["category_id"] = 2 if row["category_id"] == 3 else row["category_id"]
    coco.write(content, "val2017")
    fails(coco.root, "category 'car' has the id 2, but 3 in the training set; give both the same")


def test_sets_whose_classes_are_in_another_order(coco):
    content = coco.read("val2017")
    ids = {3: 8, 8: 3, 90: 90}
    for row in content["categories"]:
        row["id"] = ids[row["id"]]
    coco.write(content, "val2017")
    fails(coco.root, "same classes in another order: class 1 is 'car' in training, but 'truck' in validation")


def damage(file, how):
    content = file.read_bytes()
    if how == "missing":
        file.unlink()
    elif how == "truncated":
        file.write_bytes(content[: len(content) * 2 // 3])
    elif how == "header":
        file.write_bytes(content[:30])
    elif how == "zeros":  # a download that reserved its space and stopped
        file.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "text":
        file.write_bytes(b"<html>not found</html>")
    elif how == "size":
        cv2.imwrite(str(file), np.zeros((10, 12, 3), np.uint8))


@pytest.mark.parametrize("name", ["0000.jpg", "0001.png"])
@pytest.mark.parametrize(
    ("how", "match"),
    [
        ("missing", "is missing"),
        ("truncated", "is truncated"),
        ("header", "is truncated"),
        ("zeros", "is truncated"),
        ("empty", "is empty"),
        ("text", "is no image"),
        ("size", r"is 12x10 \(width x height\), but the annotations say"),
    ],
)
def test_broken_images_stop_or_are_left_out(coco, caplog, name, how, match):
    damage(coco.root / "train2017" / name, how)
    fails(coco.root, f"{name}: {match}.*; .* or set data.on_error=skip to leave it out")
    data = setup(coco.root, on_error="skip")
    assert "left out 1 item(s)" in caplog.text
    assert len(data.train_dataset) == 5
    assert len(data.train_dataset.annotations.boxes) == (6 if name == "0000.jpg" else 5)


def test_full_check_finds_broken_pixels(coco):
    file = coco.root / "train2017" / "0001.png"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    setup(coco.root)  # headers are whole
    fails(coco.root, "0001.png: is (broken|no image)", check_images="all")


def test_more_behind_the_end_of_an_image_is_no_fault(coco):
    for name in ("0000.jpg", "0001.png"):
        with (coco.root / "train2017" / name).open("ab") as file:
            file.write(b"appended by a camera")
    setup(coco.root)


def test_image_folder_missing_or_useless(coco):
    shutil.rmtree(coco.root / "val2017")
    fails(coco.root, "val2017: no such folder; set data.val_images")
    (coco.root / "val2017").mkdir()
    (coco.root / "val2017" / "other.txt").write_text("")
    fails(coco.root, "none of the 3 images of instances_val2017.json is usable", on_error="skip")


def test_checks_can_be_left_out(coco):
    (coco.root / "train2017" / "0000.jpg").unlink()
    data = setup(coco.root, check_images="none")
    with pytest.raises(DataError, match=r"0000.jpg: cannot be read \(No such file or directory\); restore"):
        data.train_dataset[0, 0]


def test_unreadable_image_while_training(coco):
    data = setup(coco.root)
    (coco.root / "train2017" / "0000.jpg").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"0000.jpg: cannot be decoded, 4 bytes"):
        data.train_dataset[0, 0]


def folder_setup(root, **settings):
    data = FolderDataModule(root, size=32, batch_size=2, num_workers=0, **settings)
    data.setup("fit")
    return data


@pytest.mark.parametrize("how", ["missing root", "empty split", "no classes", "empty class", "other classes"])
def test_broken_folders(folders, how):
    if how == "missing root":
        shutil.rmtree(folders)
        match = "no such folder; set data.root"
    elif how == "empty split":
        shutil.rmtree(folders / "train")
        (folders / "train").mkdir()
        match = "train: the folder is empty; set data.train_folder"
    elif how == "no classes":
        shutil.rmtree(folders / "val")
        (folders / "val").mkdir()
        (folders / "val" / "a.jpg").write_bytes(b"")
        match = "val: has no class folders"
    elif how == "empty class":
        shutil.rmtree(folders / "train" / "bee")
        (folders / "train" / "bee").mkdir()
        match = "bee: the class has no image"
    else:
        (folders / "val" / "ant").rename(folders / "val" / "ape")
        match = "other classes: only training has 'ant', only validation has 'ape'; give both the same"
    with pytest.raises(DataError, match=match):
        folder_setup(folders)


def test_broken_image_in_a_folder(folders, caplog):
    damage(folders / "train" / "bee" / "1.jpg", "truncated")
    with pytest.raises(DataError, match=r"bee/1.jpg: is truncated.*set data.on_error=skip"):
        folder_setup(folders)
    assert len(folder_setup(folders, on_error="skip").train_dataset) == 11
    assert "left out 1 item(s)" in caplog.text
