"""VOC sets as tools and hands leave them: read as they are meant, noticed, or one line that names it."""

import shutil

import pytest
from voc_trees import Year

from fna_lightning.data import VocDataModule
from fna_lightning.data.check import examine
from fna_lightning.data.checking.problems import Kind
from fna_lightning.errors import DataError


@pytest.fixture
def year(tmp_path):
    """A single year of three training pictures and one for validation."""
    made = Year(tmp_path / "set")
    for k in range(1, 5):
        made.add(f"00000{k}", [("car", (5 + k, 6, 20, 30), False), ("dog", (1, 1, 40, 44), k == 2)])
    made.list("train", ["000001", "000002", "000003"])
    made.list("val", ["000004"])
    return made


def module(year, **settings):
    given = {"train_sets": ["train"], "val_sets": ["val"], "classes": ["car", "dog"], "size": [48, 64]}
    return VocDataModule(year.root, **{**given, "num_workers": 0, "batch_size": 1, **settings})


def rewritten(year, change):
    for path in (year.root / "Annotations").iterdir():
        content = change(path.read_text())
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def found(year, **settings):
    return [(p.kind, p.what) for p in examine(module(year, **settings)).problems["training"]]


def refusal(year, **settings):
    with pytest.raises(DataError) as caught:
        module(year, **settings).setup("fit")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def listed(year, content):
    (year.root / "ImageSets" / "Main" / "train.txt").write_bytes(content)


HARMLESS = {
    "line ends": lambda year: (
        rewritten(year, lambda text: text.replace("\n", "\r\n")),
        listed(year, b"000001\r\n000002\r\n\r\n000003"),
    ),
    "marks": lambda year: (
        rewritten(year, lambda text: b"\xef\xbb\xbf" + text.encode()),
        listed(year, b"\xef\xbb\xbf000001\n000002\n000003\n"),
    ),
    "another encoding": lambda year: rewritten(
        year, lambda text: ('<?xml version="1.0" encoding="ISO-8859-1"?>' + text).encode("latin-1")
    ),
    "segmented": lambda year: rewritten(
        year, lambda text: text.replace("<size>", "<segmented>1</segmented><owner/><size>")
    ),
    "polygons": lambda year: rewritten(
        year, lambda text: text.replace("</bndbox>", "</bndbox><polygon><x1>1</x1></polygon>")
    ),
    "spaces around names": lambda year: rewritten(year, lambda text: text.replace("<name>car", "<name> car ")),
    "hidden files": lambda year: [
        (year.root / folder / name).write_bytes(b"")
        for folder in ("JPEGImages", "Annotations")
        for name in (".DS_Store", "Thumbs.db", "._000001.jpg")
    ],
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_is_read_as_it_is_meant(year, case):
    HARMLESS[case](year)
    data = module(year)
    data.setup("fit")
    assert len(data.train_dataset.annotations.boxes) == 6
    assert found(year) == []


def test_corners_that_count_from_0(year):
    rewritten(year, lambda text: text.replace("<xmin>1</xmin>", "<xmin>0</xmin>"))
    what = "3 object(s) have a corner at 0, the first from here on, though corners count from 1"
    assert found(year) == [(Kind.BORDER, what)]
    assert found(year, one_based=False) == []


def test_objects_that_come_twice(year):
    def twice(text):
        start, end = text.index("<object>"), text.index("</object>") + len("</object>")
        return text[:end] + text[start:end] + text[end:]

    rewritten(year, twice)
    assert [kind for kind, _ in found(year)] == [Kind.REPEATED_BOX] * 3
    assert found(year)[0][1] == "object 'car' has the box xmin 6, ymin 6, xmax 20, ymax 30 of one before"


WITHOUT = "write its name, without the ending, into the list"
LISTS = {
    b"000001  1\n000002 -1\n000003  0\n": (
        "train.txt: is the list of a class, with 1, -1 or",
        "give the list of",
    ),
    b"000001.jpg\n": ("000001.jpg.xml: is missing", f"there is 000001.xml: {WITHOUT}"),
    b"000001.xml\n": ("000001.xml.xml: is missing", f"there is 000001.xml: {WITHOUT}"),
    b"/home/me/000002.jpg\n": ("/home/me/000002.jpg.xml: is missing", f"there is 000002.xml: {WITHOUT}"),
    b"JPEGImages/000001\n": ("000001.xml: is missing", f"there is 000001.xml: {WITHOUT}"),
    "000001\n".encode("utf-16"): (
        "train.txt: cannot be read (byte 0 is no text",
        "restore the file or save it in UTF-8",
    ),
    b"# mine\n000001\n": ("# mine.xml: is missing", "restore it or remove it from the image set"),
}


@pytest.mark.parametrize("content", LISTS)
def test_lists_of_other_kinds(year, content):
    listed(year, content)
    what, mend = LISTS[content]
    line = refusal(year)
    assert what in line
    assert f"; {mend}" in line
    if not content.startswith(b"#"):
        examine(module(year))  # which names files for what cannot be read


def test_lists_that_are_not_there(year, tmp_path):
    shutil.copytree(year.root, tmp_path / "other")  # another set, and no place for this one's lists
    (year.root / "ImageSets" / "Main" / "train.txt").rename(year.root / "ImageSets" / "Main" / "trainval.txt")
    line = refusal(year)
    assert "train.txt: no such image set; set data.root to the folder that holds those of the years" in line
    assert line.endswith("and data.train_sets; there are trainval.txt, val.txt")
    shutil.rmtree(year.root / "ImageSets")
    assert refusal(year).endswith("and data.train_sets")


def put(*pairs):
    """A change that puts one text in place of another, for each pair."""

    def change(text):
        for old, new in pairs:
            text = text.replace(old, new)
        return text

    return change


TO_JPG = ": is missing", "there is 000001.jpg: write its name as it is"
ODD = {
    "folders in names": (put(("<filename>", "<filename>C:\\")), "says it belongs to", "write 000001.jpg alone"),
    "another name": (put(("<filename>", "<filename>x")), "says it belongs to", "give both the same name"),
    "capital ending": (put((".jpg", ".JPG")), *TO_JPG),
    "another ending": (put((".jpg", ".png")), *TO_JPG),
    "no size": (put((">64<", ">0<"), (">48<", ">0<")), "the image has width 0 and height 0", "correct it"),
    "sizes the other way round": (
        put(("<width>64", "<width>48"), ("<height>48", "<height>64")),
        "is 64x48 (width x height), but the annotations say 48x64",
        "restore it or correct the annotations",
    ),
    "another class": (
        put(("<name>car", "<name>Car")),
        "object 'Car' is of none of the 2 classes",
        "correct it or",
    ),
    "difficult in words": (
        put(("<difficult>0", "<difficult>Unspecified")),
        "has the mark difficult 'Unspecified', not 0 or 1",
        "correct it",
    ),
    "commas": (put(("<xmax>20<", "<xmax>20,5<")), "has the xmax '20,5', not a number", "correct it"),
    "rotated boxes": (put(("bndbox>", "robndbox>")), "object 'car' has no <bndbox>", "correct it"),
    "CVAT's own": (
        put(("annotation>", "annotations>")),
        "is no VOC annotation: <annotations> where <annotation> should be",
        "convert it",
    ),
    "an encoding of several bytes": (
        put(("<annotation>\n    <folder>VOC</folder>", '<?xml version="1.0" encoding="GBK"?><annotation>')),
        "is not XML (multi-byte encodings are not supported)",
        "save it in UTF-8",
    ),
    "nothing": (len, "is not XML (syntax error)", "restore the file"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_annotations_are_one_line(year, case):
    change, what, mend = ODD[case]
    rewritten(year, lambda text: str(change(text)))
    line = refusal(year)
    assert what in line
    assert f"; {mend}" in line


def test_of_files_that_cannot_be_read_only_that_is_said(year):
    rewritten(year, lambda text: text.replace("<name>car", "<name>d\u00f6g").encode("latin-1"))
    kinds = [kind for kind, _ in found(year, classes=None)]
    assert kinds == [Kind.ENTRY] * 3 + [Kind.SET]
    assert found(year, classes=None)[-1][1] == "none of the 3 images is usable"
