"""The command that reads a whole set: what it lists, how it ends, and that it leaves everything as it is."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fna_lightning.data import (
    DataModule,
    EpochDataset,
    ShapesClassificationDataModule,
    ShapesDetectionDataModule,
    ShapesSegmentationDataModule,
)
from fna_lightning.data.check import examine, main
from fna_lightning.data.checking.checks import check_images
from fna_lightning.data.checking.problems import Kind, Problem, SetError

LINE = re.compile(r"^(?P<path>[^:]+)(:(?P<line>\d+))?(:(?P<column>\d+))?: (?P<severity>error|notice): .+; .+$")


def listed(output):
    """(file name, line, column, severity) of the listed problems, in order, and the lines themselves."""
    found = [match for line in output.splitlines() if (match := LINE.match(line))]
    rows = [
        (Path(m["path"]).name, m["line"] and int(m["line"]), m["column"] and int(m["column"]), m["severity"])
        for m in found
    ]
    return rows, [match[0] for match in found]


def state(root):
    """Everything below a folder: names, times, contents."""
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in root.rglob("*")}


@pytest.fixture
def check(capsys):
    """check(*overrides) -> exit code, standard output, standard error."""

    def run(*overrides):
        capsys.readouterr()
        try:
            code = main(list(overrides))
        except SystemExit as ended:
            code = ended.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def broken(coco, pictures):
    """A set with every kind of problem, and what each line of the listing must say, by file and line."""
    content = coco.read()
    images, annotations = content["images"], content["annotations"]
    picture_names = {
        "a_truncated.jpg": ("error", "is truncated"),
        "b_empty.jpg": ("error", "is empty"),
        "c_text.png": ("error", "is no image"),
        "d_missing.jpg": ("error", "is missing"),
        "e_torn.jpg": ("error", "is broken, the decoder says: Corrupt JPEG data"),
        "f_twelve_bits.jpg": ("error", "12 bits"),
        "g_grey.jpg": ("notice", "is grayscale"),
        "h_cmyk.jpg": ("notice", "is CMYK"),
        "i_deep.png": ("notice", "has 16 bits"),
        "j_turned.jpg": ("notice", "orientation tag 6"),
        "k_turned.png": ("notice", "orientation tag 6"),
        "l_transparent.png": ("notice", "is transparent"),
        "m_padded.jpg": ("notice", "extraneous"),
        "n_good.jpg": ("error", "is 60x40 (width x height), but the annotations say 60x41"),
        "o_turned.jpg": (
            "error",
            "is 60x40 (width x height), but the annotations say 40x60: they count it as turned",
        ),
    }
    for name in picture_names:
        size = {"n": (60, 41), "o": (40, 60)}.get(name[0], (60, 40))
        images.append({"id": 1000 + len(images), "file_name": name, "width": size[0], "height": size[1]})
        if name[2:] in pictures:
            (coco.root / "train2017" / name).write_bytes(pictures[name[2:]])
    images.append({"id": 10, "file_name": "0000.jpg", "width": 48, "height": 64})
    entries = {"image id 10 is used twice": ("images", len(images) - 1)}
    for change, what in (
        ({"bbox": [1, 1, 0, 4]}, "annotation 500 (image 10) has bbox [1.0, 1.0, 0.0, 4.0] of no area"),
        ({"bbox": [90, 1, 5, 4]}, "outside the image of 48x64"),
        ({"category_id": 4}, "annotation 502 has category_id 4, which no category has"),
        ({"image_id": 4}, "annotation 503 has image_id 4, which no image has"),
        ({"id": 100}, "annotation id 100 is used twice"),
        ({"bbox": [1, 2]}, "is [1, 2], not [left, top, width, height]"),
        ({"bbox": [1, float("nan"), 2, 2]}, "not finite"),
    ):
        row = {"id": 500 + len(entries) - 1, "image_id": 10, "category_id": 3, "bbox": [1, 1, 9, 9]}
        annotations.append(row | change)
        entries[what] = ("annotations", len(annotations) - 1)
    coco.file().write_text(json.dumps(content, indent=1))
    (coco.root / "val2017" / "0000.jpg").write_bytes((coco.root / "train2017" / "0002.jpg").read_bytes())
    validation, twin = coco.read("val2017"), images[2]
    validation["images"][0].update(width=twin["width"], height=twin["height"])
    coco.write(validation, "val2017")
    return coco, picture_names, entries


def test_everything_is_listed(broken, check):
    coco, picture_names, entries = broken
    before = state(coco.root)
    code, output, errors = check("data=coco", f"data.root={coco.root}")
    assert code == 1
    assert errors == ""
    assert state(coco.root) == before
    rows, lines = listed(output)

    text = coco.file().read_text()
    content = json.loads(text)
    by_file = {name: [row[3] for row in rows if row[0] == name] for name in picture_names}
    assert by_file == {name: [severity] for name, (severity, _) in picture_names.items()}
    for name, (_, words) in picture_names.items():
        assert [line for line in lines if f"{name}: " in line and words in line], (name, words)
    found = {line: row for line, row in zip(lines, rows, strict=True) if row[0] == coco.file().name}
    assert len(found) == len(entries)
    for words, (table, index) in entries.items():
        (row,) = [row for line, row in found.items() if words in line]
        # One entry a line and every key on its own: entries begin where only blanks stand before them.
        start = text.split("\n")[row[1] - 1 :]
        assert start[0] == "  {"
        assert json.dumps(json.JSONDecoder().raw_decode("\n".join(start).strip())[0]) == json.dumps(
            content[table][index]
        )
        assert row[2:] == (None, "error")
    (leak,) = [line for line in lines if "copy of a training picture" in line]
    assert leak.startswith(f"{coco.root / 'val2017' / '0000.jpg'}: error: ")
    assert str(coco.root / "train2017" / "0002.jpg") in leak
    assert len(rows) == len(picture_names) + len(entries) + 1
    paths = [line.split(":")[0] for line in lines]
    assert paths == sorted(paths)
    assert re.search(r"usable +images +13 +3", output)
    assert re.search(r"error +truncated pictures +1 +0", output)
    assert "17 error(s), 7 notice(s)" in output


def test_columns_in_files_of_one_line(coco, check):
    content = coco.read()
    for row in content["annotations"][1:4]:
        row["category_id"] = 77
    coco.write(content)
    text = coco.file().read_text()
    code, output, _ = check("data=coco", f"data.root={coco.root}")
    rows, _ = listed(output)
    assert code == 1
    assert [row[1:3] for row in rows] == [(1, text.index(f'{{"id": {k}') + 1) for k in (101, 102, 103)]


def test_good_sets(coco, folders, tmp_path, check):
    detection = ShapesDetectionDataModule(tmp_path / "detection", 12, 4)
    segmentation = ShapesSegmentationDataModule(tmp_path / "segmentation", 12, 4)
    classification = ShapesClassificationDataModule(tmp_path / "classification", 12, 4)
    segmentation.prepare_data()
    detection.prepare_data()
    classification.prepare_data()
    for name, root, counts in (
        ("coco", coco.root, ("6", "3")),
        ("imagenet", folders, ("12", "6")),
        ("shapes_detection", detection.root, ("12", "4")),
        ("shapes_segmentation", segmentation.root, ("12", "4")),
        ("shapes_classification", classification.root, ("12", "4")),
    ):
        before = state(root)
        settings = ["data.num_train=12", "data.num_val=4"] if name.startswith("shapes") else []
        code, output, errors = check(f"data={name}", f"data.root={root}", *settings)
        assert (code, errors) == (0, "")
        assert "nothing is broken, 0 notice(s)" in output
        assert re.search(rf"usable +images +{counts[0]} +{counts[1]}\b", output)
        assert state(root) == before
    assert re.search(r"usable +images without boxes +2 +1", check("data=coco", f"data.root={coco.root}")[1])


def test_notices_alone_break_nothing(folders, pictures, check):
    (folders / "val" / "ant" / "0.jpg").write_bytes(pictures["grey.jpg"])
    code, output, _ = check("data=imagenet", f"data.root={folders}")
    assert code == 0
    assert "nothing is broken, 1 notice(s)" in output


def test_a_split_that_cannot_be_read_does_not_hide_the_other(coco, check):
    coco.file().write_text('{"images": [,]}')
    (coco.root / "val2017" / "0001.png").unlink()
    code, output, _ = check("data=coco", f"data.root={coco.root}")
    assert code == 1
    rows, lines = listed(output)
    assert rows == [(coco.file().name, 1, 13, "error"), ("0001.png", None, None, "error")]
    assert "is not JSON" in lines[0]
    assert re.search(r"usable +images +0 +2", output)


def test_a_split_that_can_be_read_but_not_be_used(coco, check):
    coco.write({**coco.read(), "annotations": []})
    _, output, _ = check("data=coco", f"data.root={coco.root}")
    assert re.search(r"error +parts that cannot be used +1 +0\b", output)


def test_splits_that_do_not_fit(coco, folders, check):
    content = coco.read("val2017")
    content["categories"][0]["name"] = "brooms"
    coco.write(content, "val2017")
    _, output, _ = check("data=coco", f"data.root={coco.root}")
    words = "have other classes: only training has 'brush', only validation has 'brooms'; give both the same"
    assert re.search(f"instances_val2017.json: error: .* {words}", output)
    assert re.search(r"error +classes that differ between the sets +0 +1\b", output)
    for picture in (folders / "train" / "bee").iterdir():
        picture.unlink()
    (folders / "val" / "cat" / "0.jpg").write_bytes(b"")
    code, output, _ = check("data=imagenet", f"data.root={folders}")
    assert code == 1
    assert [row[0] for row in listed(output)[0]] == ["bee", "0.jpg"]


WRONG = [
    ([], "You must specify 'data'"),
    (
        ["data=cco"],
        "Could not find 'data/cco' Available options in 'data': bccd bccd_voc camvid cifar10 city",
    ),
    (["data=coco"], "data.root is not set: give data.root=<value>"),
    (["data=coco", "data.rot=x"], "unknown key data.rot"),
    (["data=coco", "data.root=[1"], "data.root=[1: cannot be read"),
    (["data=cityscapes", 'data.classes={"Kühe": 1}'], 'the name "Kühe" can only stand in a file: write'),
    (["data=coco", "data.root=nowhere"], "nowhere: no such folder; set data.root to where the data set lies"),
    (["data=coco", "data.root=x", "data.batch_size=many"], "a setting of data is of the wrong type"),
    (["data=coco", "data.root=x", "data.size=[1]"], "data.size=[1] is not a height and a width"),
    (["data=coco", "data.root=x", "data._target_=pathlib.Path"], "pathlib.Path: settings may only name"),
    (["--root", "x"], "unrecognized arguments: --root"),
]


@pytest.mark.parametrize(("overrides", "words"), WRONG, ids=lambda value: " ".join(value)[:40])
def test_wrong_command_lines_end_in_one_line(check, overrides, words):
    code, output, errors = check(*overrides)
    assert code == 2
    assert output == ""
    assert errors.startswith("error: ")
    assert words in errors
    assert errors.count("\n") == 1


def test_an_interruption_ends_in_one_line(coco, check, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fna_lightning.data.check.same_contents", interrupted)
    code, output, errors = check("data=coco", f"data.root={coco.root}")
    assert (code, output) == (130, "")
    assert errors.count("\n") == 1


def test_help_names_sets_problems_and_exit_codes(check):
    code, output, _ = check("--help")
    assert code == 0
    for words in (
        "data=<name>",
        "bccd_voc, camvid, cifar10, cityscapes, coco, imagenet",
        "path[:line[:column]]",
        "exit codes:",
    ):
        assert words in " ".join(output.split())
    assert [kind.title for kind in Kind if kind.title not in output] == []


def test_as_a_command(coco):
    (coco.root / "train2017" / "0002.jpg").write_bytes(b"")
    result = subprocess.run(
        [sys.executable, "-m", "fna_lightning.data.check", "data=coco", f"data.root={coco.root}"],
        capture_output=True,
        text=True,
        cwd=coco.root,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert (result.returncode, result.stderr) == (1, "")
    assert listed(result.stdout)[0] == [("0002.jpg", None, None, "error")]
    assert sorted(path.name for path in coco.root.iterdir()) == ["annotations", "train2017", "val2017"]


def test_a_folder_with_an_equals_sign(check):
    code, _, error = check("data=coco", "data.root=runs/lr=0.1 (a)")
    assert code == 2
    assert error.startswith("error: runs/lr=0.1 (a): no such folder")


class Listed(EpochDataset):
    """The images named in a text file, one a line: a format that the command has never seen."""

    class_names = ("thing",)

    def __init__(self, file):
        super().__init__(lambda image: image, 0)
        self.source = file
        self.names = file.read_text().split()

    def __len__(self):
        return len(self.names)

    def path(self, index):
        return self.source.parent / self.names[index]

    def load(self, index, seed):
        raise NotImplementedError

    collate = renumber = part = truth = load


class ListedModule(DataModule):
    """Two such sets."""

    def __init__(self, root):
        super().__init__()
        self.root = root

    def build(self, name, problems):
        file = self.root / name
        if not file.exists():
            raise SetError(Problem(Kind.SET, file, "no such list", "write it"))
        dataset = Listed(file)
        check_images(dataset, None, "all", problems)
        return dataset

    def build_train(self, problems):
        return self.build("train.txt", problems)

    def build_val(self, problems):
        return self.build("val.txt", problems)

    def eval_transform(self):
        raise NotImplementedError


def test_other_formats_need_nothing_but_a_data_module(tmp_path, pictures):
    for name in ("good.jpg", "torn.jpg", "grey.png"):
        (tmp_path / name).write_bytes(pictures[name])
    (tmp_path / "train.txt").write_text("good.jpg torn.jpg")
    (tmp_path / "val.txt").write_text("grey.png good.jpg")
    found = examine(ListedModule(tmp_path))
    assert {split: [p.kind for p in problems] for split, problems in found.problems.items()} == {
        "training": [Kind.CORRUPT],
        "validation": [Kind.GRAYSCALE, Kind.LEAK],
    }
    assert "is in the training set too" in found.problems["validation"][1].what
    assert (found.count("error"), found.count("notice")) == (2, 1)
    (tmp_path / "val.txt").unlink()
    found = examine(ListedModule(tmp_path))
    assert [problem.what for problem in found.problems["validation"]] == ["no such list"]
    assert found.totals == {"training": {"images": 2}, "validation": {}}
