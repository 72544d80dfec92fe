"""What is wrong with YOLO's label files and descriptions: all in the check's list, one line in training."""

import re
import shutil

import pytest
from yolo_trees import YoloSet, content

from fna_lightning.data.check import main
from fna_lightning.errors import DataError


@pytest.fixture
def yolo(tmp_path):
    return YoloSet(tmp_path / "cells")


def refusal(data):
    with pytest.raises(DataError) as caught:
        data.setup("fit")
    assert "\n" not in str(caught.value)
    return str(caught.value)


LINES = {
    "0 0.5 0.5 0.25": "error: has 4 columns, not class, x, y, w and h, nor a class and the corners of a polygon;",
    "0 0.5 0.5 0.25 0.25 0.99": "error: has 6 columns, ",
    "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4": "error: has 8 columns",
    "cell 0.5 0.5 0.25 0.25": "error: is 'cell 0.5 0.5 0.25 0.25', which are not numbers alone;",
    "0,0.5,0.5,0.25,0.25": "error: has 1 columns",
    "2 0.5 0.5 0.25 0.25": "error: has the class 2, which has no name; correct it, or name",
    "-1 0.5 0.5 0.25 0.25": "error: has the class -1",
    "0.5 0.5 0.5 0.25 0.25": "error: has the class 0.5",
    "0 0.5 1.5 0.25 0.25": "error: has y=1.5, outside 0 to 1; give shares of the picture's width and height",
    "0 64 32 20 20": "error: has x=64, outside 0 to 1",
    "0 0.5 0.5 -0.25 0.25": "error: has w=-0.25, outside 0 to 1",
    "0 0.5 0.5 nan 0.25": "error: has w=nan, outside 0 to 1",
    "0 0.1 0.1 0.2 0.2 0.3 1.3": "error: has y3=1.3, outside 0 to 1",
    "0 0.5 0.5 0 0.25": "error: has the box [64, 24, 0, 16] (left, top, width, height) of no area;",
    "0 0.9 0.5 0.4 0.25": "error: has the box [89.6, 24, 51.2, 16] (left, top, width, height) outside",
    "0 0.75 0.5 0.5 0.25": "notice: has the box [64, 24, 64, 16] (left, top, width, height) of a line before",
}  # fmt: skip


def test_every_line_is_listed_with_its_number(yolo, capsys):
    texts = ["0 0.75 0.5 0.5 0.25", "", *LINES]
    yolo.label("train", "train2").write_text("\n".join(texts))
    capsys.readouterr()
    assert main(["data=yolo", f"data.root={yolo.root}"]) == 1
    output = capsys.readouterr().out
    for number, text in enumerate(texts[2:], start=3):
        start = f"{yolo.label('train', 'train2')}:{number}: {LINES[text]}"
        assert sum(line.startswith(start) for line in output.splitlines()) == 1, (start, output)
    assert f"{len(LINES) - 1} error(s), 1 notice(s)" in output


@pytest.mark.parametrize("text", [text for text, words in LINES.items() if words.startswith("error")])
def test_training_stops_or_leaves_the_line_out(yolo, text):
    yolo.label("train", "train2").write_text(f"0 0.75 0.5 0.5 0.25\n{text}")
    line = refusal(yolo.module())
    assert line.startswith(f"{yolo.label('train', 'train2')}:2: {LINES[text].removeprefix('error: ')[:20]}")
    assert line.endswith("or set data.on_error=skip to leave it out")
    data = yolo.ready(on_error="skip")
    assert content(data)["train"]["train2.png"] == [("cell", (64, 24, 64, 16))]
    assert sum(data.left_out.values()) == 1


DESCRIPTIONS = {
    "train: images/train\nval: images/val\n": ": has no 'names'; write the classes into it: names: [cat, dog]",
    "names: []\ntrain: images/train\n": ":1: has no 'names'",
    "train: images/train\nnames: {0: cell, b: dot}": ":2: names: 'b' is no number of a class; number them",
    "train: images/train\nnames: [cell, no]": ":2: names: class 1 is False, no text; write it in quotes",
    "train: images/train\nnames: [cell, cell]": ":2: names: 'cell' is twice; give every class its own name",
    "names: [cell, dot]\nnc: 3\ntrain: images/train": ":2: nc is 3, but there are 2 names; correct one of the two",
    "kpt_shape: [17, 3]\nnames: [cell, dot]\ntrain: images/train": ":1: is of a set with key points (kpt_shape)",
    "names: [cell, dot]\n": ": train is None; give a folder of pictures, a list of some, or a .txt of pictures",
    "names: [cell, dot]\ntrain: 3\n": ":2: train is 3; give a folder",
    "names: [cell, dot]\ntrain: treno\n": ":2: train: no such folder or file: treno; correct 'train'; there are",
    "names: [cell, dot]\ntrain: images/train\nval: valid": ":3: val: no such folder or file: valid; correct 'va",
    "names: [cell, dot\ntrain: images/train": ":2:6: is not YAML (",
    "a text": ": describes no set; write train, val and names into it",
    "path: 3\nnames: [cell, dot]\ntrain: images/train": ":1: path is 3; give a folder, or remove it",
}  # fmt: skip


@pytest.mark.parametrize("text", DESCRIPTIONS)
def test_broken_descriptions(yolo, text, capsys):
    (yolo.root / "data.yaml").write_text(text)
    line = refusal(yolo.module())
    assert line.startswith(f"{yolo.root / 'data.yaml'}{DESCRIPTIONS[text]}")
    capsys.readouterr()
    code = main(["data=yolo", f"data.root={yolo.root}"])
    output, errors = capsys.readouterr()
    assert code in (1, 2)
    assert DESCRIPTIONS[text] in (output + errors).replace("error: ", "")


def test_no_description(yolo):
    (yolo.root / "data.yaml").rename(yolo.root / "cells.yaml")
    line = refusal(yolo.module())
    assert line.endswith("data.yaml: no such file; set data.root and data.description; there are cells.yaml")
    assert len(yolo.ready(description="cells.yaml").train_dataset) == 3
    yolo.root = yolo.root / "nowhere"
    assert "no such folder; set data.root" in refusal(yolo.module())


def test_folders_and_lists_without_pictures(yolo):
    for path in (yolo.root / "images" / "val").iterdir():
        path.rename(path.with_suffix(".raw"))
    line = refusal(yolo.module())
    what = "there is no picture in the folder or below; correct 'val' in data.yaml"
    assert line == f"{yolo.root / 'images' / 'val'}: {what}"
    shutil.rmtree(yolo.root / "images" / "val")
    (yolo.root / "images" / "val").mkdir()
    assert "the folder is empty" in refusal(yolo.module())
    (yolo.root / "val.txt").write_text("\n")
    yolo.describe(train="images/train", val="val.txt", names=["cell", "dot"])
    assert refusal(yolo.module()).endswith("val.txt: lists no pictures; write their paths into it, one a line")
    (yolo.root / "val.txt").write_text("images/val/val0.jpg\n")
    assert re.search(r"images/val/val0\.jpg: is missing", refusal(yolo.module()))


def test_pictures_of_which_none_has_labels(yolo):
    shutil.rmtree(yolo.root / "labels" / "train")
    line = refusal(yolo.module())
    assert f"no picture has a label file: there is no {yolo.label('train', 'train0')}; put them beside" in line


def test_label_files_without_a_picture(yolo, capsys):
    (yolo.root / "images" / "train" / "train1.png").unlink()
    yolo.label("train", "classes").write_text("cell\ndot\n")
    capsys.readouterr()
    assert main(["data=yolo", f"data.root={yolo.root}"]) == 0
    output = capsys.readouterr().out
    what = f"1 label file(s) have no picture in {yolo.root / 'images' / 'train'}: train1.txt; restore the picture"
    assert f"{yolo.root / 'labels' / 'train'}: notice: {what}" in output


def test_broken_pictures_and_label_files(yolo, capsys):
    picture = yolo.root / "images" / "train" / "train0.png"
    picture.write_bytes(picture.read_bytes()[:-30])
    yolo.label("train", "train1").write_bytes(b"0 0.5 \xff\xfe")
    capsys.readouterr()
    assert main(["data=yolo", f"data.root={yolo.root}"]) == 1
    output = capsys.readouterr().out
    assert f"{picture}: error: is truncated" in output
    assert f"{yolo.label('train', 'train1')}: error: cannot be read (" in output
    assert "2 error(s)" in output
    data = yolo.ready(on_error="skip")
    assert list(content(data)["train"]) == ["train2.png"]


def test_a_picture_that_comes_twice(yolo, capsys):
    yolo.describe(train=["images/train", "images/train"], val="images/val", names=["cell", "dot"])
    capsys.readouterr()
    assert main(["data=yolo", f"data.root={yolo.root}"]) == 0
    assert (
        "data.yaml: notice: 3 picture(s) come twice in a split, which takes each once" in capsys.readouterr().out
    )


def test_a_split_without_any_object(yolo):
    for path in (yolo.root / "labels" / "train").iterdir():
        path.write_text("")
    line = refusal(yolo.module())
    assert line.startswith(f"{yolo.root / 'data.yaml'}: no image has a box to learn from; annotate")
