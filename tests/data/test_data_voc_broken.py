"""Sets in Pascal VOC's layout that are broken: named by file and line, or left out."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voc_trees import ready, xml

from fna_lightning.data import VocDataModule
from fna_lightning.data.check import main
from fna_lightning.data.checking.problems import Kind
from fna_lightning.data.layouts.voc_xml import VocImage, XmlError, parse_annotation
from fna_lightning.errors import ConfigError, DataError

NO_SIZE = """<size>
        <width>64</width>
        <height>48</height>
        <depth>3</depth>
    </size>"""
# What of 000009.xml is replaced by what, the kind of problem, what begins at its line, and words of the message.
BROKEN = [
    ("</object>\n</annotation>", "</object>\n", Kind.ENTRY, None, "is not XML (no element found)"),
    ("<name>car", "<name>car&amp", Kind.ENTRY, "<name>car", "is not XML"),
    ("<depth>", "<depth a=1>", Kind.ENTRY, "<depth", "is not XML (not well-formed (invalid token))"),
    ("<size>", "</size>", Kind.ENTRY, "</size>", "is not XML (mismatched tag)"),
    ("000009.jpg", "000010.jpg", Kind.ENTRY, "<filename", "belongs to '000010.jpg', but is called 000009.xml"),
    ("000009.jpg", "../000009.jpg", Kind.ENTRY, "<filename", "belongs to '../000009.jpg'"),
    (NO_SIZE, "", Kind.NO_SIZE, "<annotation>", "the image has no <size>"),
    ("<width>64", "<width>0", Kind.NO_SIZE, "<size>", "the image has width 0 and height 48"),
    ("<width>64", "<width>64.5", Kind.NO_SIZE, "<size>", "width 64.5"),
    ("<width>64", "<width>nan", Kind.NO_SIZE, "<size>", "width nan"),
    ("<width>64", "<width>wide", Kind.NO_SIZE, "<width>", "the width 'wide', not a number"),
    ("<height>48</height>", "", Kind.NO_SIZE, "<size>", "the image has no <height>"),
    ("<name>car</name>", "", Kind.ENTRY, "<object>", "an object has no <name>"),
    ("<name>car<", "<name> <", Kind.ENTRY, "<object>", "an object has an empty <name>"),
    ("<xmin>11</xmin>", "", Kind.ENTRY, "<bndbox>", "object 'car' has no <xmin>"),
    ("<xmin>11<", "<xmin>left<", Kind.ENTRY, "<xmin>", "object 'car' has the xmin 'left', not a number"),
    ("<difficult>0", "<difficult>2", Kind.ENTRY, "<difficult>", "mark difficult '2', not 0 or 1"),
    ("<name>car", "<name>cart", Kind.NO_CATEGORY, "<object>", "object 'cart' is of none of the 20 classes"),
    ("<xmin>11<", "<xmin>34<", Kind.FLAT, "<object>", "xmin 34, ymin 12, xmax 33, ymax 40 of no area"),
    ("<xmin>11<", "<xmin>60<", Kind.FLAT, "<object>", "of no area"),
    ("<xmax>33<", "<xmax>70<", Kind.OUTSIDE, "<object>", "xmax 70, ymax 40 outside the image of 64x48"),
    ("<ymin>12<", "<ymin>-9<", Kind.OUTSIDE, "<object>", "outside the image"),
    ("<ymax>40<", "<ymax>inf<", Kind.NOT_FINITE, "<object>", "ymax inf with a number that is not finite"),
]


def line_of(text, marker):
    return text[: text.index(marker)].count("\n") + 1


@pytest.mark.parametrize(("old", "new", "kind", "marker", "words"), BROKEN, ids=lambda value: str(value)[:20])
def test_broken_files_stop_or_are_left_out(voc, caplog, old, new, kind, marker, words):
    root, first, _ = voc
    first.add("000011", [("cat", (1, 1, 9, 9), False)])
    first.list("test", ["000009", "000011"])
    first.change("000009", old, new)
    text = first.file("000009").read_text()
    line = line_of(text, marker) if marker else text.count("\n") + 1
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        ready(root)
    message = str(caught.value)
    assert message.startswith(f"{first.file('000009')}:{line}: ")
    assert message.endswith(" or set data.on_error=skip to leave it out")
    assert "\n" not in message
    data = ready(root, on_error="skip")
    whole = kind is Kind.NO_SIZE or words.startswith(("is not XML", "belongs"))
    assert data.left_out == {f"validation: {kind.title}": 1}
    assert data.val_dataset.totals()["images"] == (1 if whole else 2)
    assert data.val_dataset.totals()["boxes"] == (1 if whole else 2)
    assert f"left out 1 item(s), {kind.title}" in caplog.text
    # Ids are those of the lists, whatever is left out.
    assert data.val_dataset[0, len(data.val_dataset) - 1].image_id == 2


BOMB = """<?xml version="1.0"?>
<!DOCTYPE annotation [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">{more}]>
<annotation><filename>&z;</filename></annotation>"""


def test_document_types_are_refused():
    more = "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">'
        for a, b in zip("bcdefghijklmnopqrstuvwxy", "cdefghijklmnopqrstuvwxyz", strict=True)
    )
    external = '<!DOCTYPE annotation SYSTEM "file:///etc/hostname"><annotation/>'
    for content, line in ((BOMB.format(more=more), 2), (external, 1), ("<!DOCTYPE annotation><annotation/>", 1)):
        with pytest.raises(XmlError, match="declares a document type") as caught:
            parse_annotation(content.encode(), "z")
        assert caught.value.line == line


@given(st.data())
def test_whatever_is_in_a_file_it_is_read_or_refused(data):
    good = xml("a", [("dog", (1, 2, 3, 4), False)]).encode()
    start = data.draw(st.integers(0, len(good)))
    content = good[:start] + data.draw(st.binary(max_size=6)) + good[start + data.draw(st.integers(0, 9)) :]
    try:
        image = parse_annotation(content, "a")
    except XmlError as error:
        refused = error.what
    else:
        refused = None
        assert isinstance(image, VocImage)
        assert min(image.size) >= 1
    assert refused is None or (refused and refused.isprintable())


def test_encodings():
    text = xml("ä", [("möwe", (1, 2, 3, 4), True)])
    for encoding in ("utf-8", "utf-16", "iso-8859-1"):
        content = f'<?xml version="1.0" encoding="{encoding}"?>{text}'.encode(encoding)
        image = parse_annotation(content, "ä")
        assert (image.picture, image.objects[0].name) == ("ä.jpg", "möwe")
    for encoding in ("klingon", "rot13"):
        with pytest.raises(XmlError, match="is not XML"):
            parse_annotation(f'<?xml version="1.0" encoding="{encoding}"?><annotation/>'.encode(), "a")


def test_missing_and_other_files(voc):
    root, first, second = voc
    second.file("2008_000003").unlink()
    with pytest.raises(
        DataError, match=r"2008_000003.xml: is missing; restore it or remove it from the image set"
    ):
        ready(root)
    second.file("2008_000003").write_text("<xml/>")
    with pytest.raises(
        DataError, match=r"2008_000003.xml:1: is no VOC annotation: <xml> where <annotation> should be"
    ):
        ready(root)
    assert len(ready(root, on_error="skip").train_dataset) == 3
    (root / "VOC2012" / "JPEGImages" / "2008_000002.png").unlink()
    with pytest.raises(DataError, match=r"none of the 1 images of trainval.txt is usable; set data.train_sets"):
        ready(root, train_sets=["VOC2012/trainval"], on_error="skip")
    first.list("test", ["000009", "", " 000005", "000009"])
    with pytest.raises(DataError, match=r"test.txt:4: 000009 is listed twice; remove one"):
        ready(root, train_sets=["VOC2007/trainval"])


@pytest.mark.parametrize(
    "how", ["no root", "no list", "empty list", "no text", "only broken", "only others", "nothing"]
)
def test_sets_that_cannot_be_used(voc, how):
    root, first, _ = voc
    settings = {"on_error": "skip"}
    list_file = first.root / "ImageSets" / "Main" / "trainval.txt"
    match = "trainval.txt: "
    if how == "no root":
        root, match = root.parent / "none" / "none", "none: no such folder; set data.root"
    elif how == "no list":
        list_file.unlink()
        match += "no such image set; set data.root to .* and data.train_sets"
    elif how == "empty list":
        list_file.write_text("\n \n")
        match += "lists no images; write"
    elif how == "no text":
        list_file.write_bytes(b"\xff\xfe\xff")
        match += "cannot be read .*; restore"
    elif how == "only broken":
        first.list("trainval", ["a", "b"])
        settings |= {"train_sets": ["VOC2007/trainval"]}
        match += "none of the 2 images is usable; correct"
    elif how == "only others":
        settings |= {"classes": ["owl"]}
        match += "none of the 6 objects is usable; .* data.classes"
    else:
        for name in ("000005", "000007"):
            first.add(name, [])
        settings |= {"train_sets": ["VOC2007/trainval"], "classes": None}
        match += "lists no image with objects"
    with pytest.raises(DataError, match=match):
        ready(root, **settings)


def test_impossible_settings(voc):
    for key, value in (("train_sets", []), ("val_sets", "VOC2007/test"), ("classes", ["a", "a"])):
        with pytest.raises(ConfigError, match=rf"data.{key}=.* is no list of different names"):
            VocDataModule(voc[0], **{key: value})


def test_the_command_lists_everything_by_file_and_line(voc, capsys):
    root, first, second = voc
    first.change("000009", "<name>car", "<name>cart")
    first.change("000005", "<difficult>1", "<difficult>maybe")
    first.add("000011", [])
    first.add("000013", [("car", (5, 6, 17, 18), False)])
    first.list("test", ["000009", "000011", "000013"])
    second.file("2008_000002").write_text("<annotation>\n<size>")
    (second.root / "JPEGImages" / "2008_000003.jpg").write_bytes(b"")
    assert main(["data=voc", f"data.root={root}"]) == 1
    output, errors = capsys.readouterr()
    assert errors == ""
    marker = line_of(first.file("000005").read_text(), "<difficult>maybe")
    lines = [line for line in output.splitlines() if line.startswith(str(root))]
    assert [line.removeprefix(f"{root}/VOC")[:42].split(" ")[0] for line in lines] == [
        f"2007/Annotations/000005.xml:{marker}:",
        f"2007/Annotations/000009.xml:{line_of(first.file('000009').read_text(), '<object>')}:",
        "2007/Annotations/000011.xml:",
        "2007/ImageSets/Main/trainval.txt:",  # lists no object of most of VOC's classes
        "2012/Annotations/2008_000002.xml:2:",
        "2012/JPEGImages/2008_000003.jpg:",
    ]
    assert [re.search("error|notice", line)[0] for line in lines] == 2 * ["error"] + 2 * ["notice"] + 2 * ["error"]
    assert "has no object, and stands for background; annotate it if it shows any" in lines[2]
    assert re.search(r"usable +images +2 +3", output)
