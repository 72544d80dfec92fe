"""Sets as Roboflow, CVAT, Label Studio and others export them in COCO's format, without a setting but the root."""

import json
import logging
import shutil

import pytest

from fna_lightning.data import CocoDataModule
from fna_lightning.data.check import main
from fna_lightning.errors import DataError


@pytest.fixture
def export(coco, tmp_path):
    """Writes the set as another: annotation file and folder of pictures of both splits, None for none."""

    def write(train, val, change=lambda content, _: content):
        root = tmp_path / "export"
        for split, place in (("train2017", train), ("val2017", val)):
            if place is not None:
                file, pictures = (root / part for part in place)
                shutil.copytree(coco.root / split, pictures, dirs_exist_ok=True)
                file.parent.mkdir(parents=True, exist_ok=True)
                content = coco.read(split)
                content["images"] = [{**row, "id": k} for k, row in enumerate(content["images"])]
                numbers = {10 + 7 * k: k for k in range(10)}
                labels = {3: 1, 8: 2, 90: 3}
                content["categories"] = [{**row, "id": labels[row["id"]]} for row in content["categories"]]
                for k, row in enumerate(content["annotations"]):
                    row.update(id=k, image_id=numbers[row["image_id"]], category_id=labels[row["category_id"]])
                file.write_text(json.dumps(change(content, split)))
        return root

    return write


def ready(root, **settings):
    data = CocoDataModule(root, **{"size": [32, 32], "num_workers": 0, "batch_size": 2, **settings})
    data.setup("fit")
    return data


def truth(dataset):
    return {dataset.path(index).name: dataset.truth(index) for index in range(len(dataset))}


@pytest.fixture
def expected(coco):
    data = ready(coco.root)
    return truth(data.train_dataset), truth(data.val_dataset)


def under_all(content, _):
    """Roboflow's category over all others, which has no box."""
    for row in content["categories"]:
        row["supercategory"] = "things"
    content["categories"].insert(0, {"id": 0, "name": "things", "supercategory": "none"})
    return content


def test_roboflow(export, expected, coco, caplog):
    caplog.set_level(logging.INFO)
    places = (("train/_annotations.coco.json", "train"), ("valid/_annotations.coco.json", "valid"))
    root = export(*places, under_all)
    shutil.copytree(root / "valid", root / "test")
    data = ready(root)
    assert data.class_names == ("car", "truck", "brush")
    assert data.category_ids == [1, 2, 3]
    assert (truth(data.train_dataset), truth(data.val_dataset)) == expected
    assert (
        f"{root}: training on {root}/train/_annotations.coco.json, validation on {root}/valid/_anno" in caplog.text
    )
    assert f"{root}/train/_annotations.coco.json: its pictures are taken from {root}/train" in caplog.text
    assert "category 0 (things) is over all others, has no box, and is no class" in caplog.text
    assert "3 picture(s) are in neither split, and not used" in caplog.text  # those of test
    assert not (coco.root / "train").exists()


def test_a_category_over_all_others_that_has_boxes_is_a_class(export):
    def change(content, split):
        under_all(content, split)["annotations"][0]["category_id"] = 0
        return content

    places = (("train/_annotations.coco.json", "train"), ("valid/_annotations.coco.json", "valid"))
    assert ready(export(*places, change)).class_names == ("things", "car", "truck", "brush")


@pytest.mark.parametrize("parent", ["none", "vehicle"])
def test_usual_supercategories_change_nothing(export, parent):
    def change(content, _):
        for row in content["categories"]:
            row["supercategory"] = row["name"] if parent == "none" else parent
        return content

    places = (("train/_annotations.coco.json", "train"), ("valid/_annotations.coco.json", "valid"))
    assert ready(export(*places, change)).class_names == ("car", "truck", "brush")


FORMS = {
    "CVAT": ("annotations/instances_Train.json", "images/Train", "annotations/instances_Val.json", "images/Val"),
    "one folder": ("annotations/instances_train.json", "images", "annotations/instances_val.json", "images"),
    "in the root": ("train.json", "train", "val.json", "val"),
    "beside": ("train_annotations.json", ".", "valid_annotations.json", "."),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_two_files(export, expected, form):
    train, train_images, val, val_images = FORMS[form]

    def renamed(content, split):  # one folder holds both
        for row in content["images"]:
            row["file_name"] = f"{split}/{row['file_name']}"
        return content

    shared = train_images == val_images
    places = [(train, f"{train_images}/train2017" if shared else train_images)]
    places += [(val, f"{val_images}/val2017" if shared else val_images)]
    data = ready(export(*places, renamed if shared else lambda content, _: content))
    assert (truth(data.train_dataset), truth(data.val_dataset)) == expected


WHOLE = {
    "CVAT": ("annotations/instances_default.json", "images", "{}"),
    "Datumaro": ("annotations/instances_default.json", "images/default", "{}"),
    "Label Studio": ("result.json", "images", "images/{}"),
    "Label Studio on Windows": ("result.json", "images", "images\\{}"),
    "Roboflow": ("_annotations.coco.json", ".", "{}"),
    "folders in names": ("annotations.json", "shots/day", "shots/day/{}"),
}


@pytest.mark.parametrize("form", WHOLE)
def test_one_file(export, expected, form, caplog, capsys):
    caplog.set_level(logging.INFO)
    file, pictures, name = WHOLE[form]

    def renamed(content, _):
        for row in content["images"]:
            row["file_name"] = name.format(row["file_name"])
        return content

    root = export((file, pictures), None, renamed)
    data = ready(root, batch_size=1)
    assert truth(data.train_dataset) | truth(data.val_dataset) == expected[0]
    assert len(data.val_dataset) >= 1
    assert f"{root}: training on {root / file}, validation on a share of it" in caplog.text
    assert f"has no validation part: {len(data.val_dataset)} of its 6 pictures are set aside" in caplog.text
    capsys.readouterr()
    assert main(["data=coco", f"data.root={root}"]) == 0
    output, errors = capsys.readouterr()
    assert f"training on {root / file}" in errors
    assert "nothing is broken" in output


def test_what_cannot_be_told_is_not_guessed(export, coco):
    root = export(("a.json", "images"), ("b.json", "images"))
    with pytest.raises(
        DataError, match=r"which of a.json, b.json is for training, and .*; set data.train_annotations"
    ):
        ready(root)
    # Settings that were given count as they stand, and so does a part of COCO's own layout.
    with pytest.raises(DataError, match=r"annotations/mine.json: no such annotation file"):
        ready(root, train_annotations="annotations/mine.json")
    (coco.root / "train.json").write_text(coco.file().read_text())
    coco.file().unlink()
    with pytest.raises(DataError, match=r"instances_train2017.json: no such annotation file"):
        ready(coco.root)


def test_pictures_of_an_export_that_are_not_there(export):
    root = export(("result.json", "images"), None)
    shutil.rmtree(root / "images")
    with pytest.raises(DataError, match=r"export/0000.jpg: is missing \(and \d+ more problems\)"):
        ready(root)
