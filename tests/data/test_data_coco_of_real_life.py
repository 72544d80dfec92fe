"""COCO files as tools and hands leave them: read as they are meant, noticed, or one line that names it."""

import json

import pytest

from fna_lightning.data import CocoDataModule
from fna_lightning.data.check import examine
from fna_lightning.data.checking.problems import Kind
from fna_lightning.errors import DataError


def module(root, **settings):
    return CocoDataModule(root, **{"size": [32, 32], "num_workers": 0, "batch_size": 2, **settings})


def changed(coco, change, split="train2017"):
    content = coco.read(split)
    content = change(content) or content
    coco.write(content, split)


def each(change, table="annotations"):
    def apply(content):
        for row in content[table]:
            change(row)

    return apply


def kinds(coco):
    return [problem.kind for problem in examine(module(coco.root)).problems["training"]]


def refusal(data):
    with pytest.raises(DataError) as caught:
        data.setup("fit")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace(", ", ",\r\n").encode(),
    ],
    ids=["mark", "UTF-16", "line ends"],
)
def test_encodings_that_json_may_have(coco, change):
    coco.file().write_bytes(change(coco.file().read_text()))
    data = module(coco.root)
    data.setup("fit")
    assert len(data.train_dataset.annotations.boxes) == 6


def test_other_encodings(coco):
    changed(coco, lambda content: content["categories"][0].update(name="Straße"))
    text = json.dumps(coco.read(), ensure_ascii=False)
    coco.file().write_bytes(text.encode("latin-1"))
    assert "is no text in UTF-8: invalid" in refusal(module(coco.root))
    coco.file().write_bytes(b" \r\n")
    assert "is empty, not JSON; restore the file" in refusal(module(coco.root))


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_list_that_comes_twice(coco, key, encoding):
    text = json.dumps(coco.read())
    coco.file().write_bytes(f'{text[:-1]}, "{key}": []}}'.encode(encoding))
    line = refusal(module(coco.root))
    assert line.endswith(
        f"instances_train2017.json: has '{key}' 2 times, of which only the last would be read; "
        "merge them into one list or remove the others"
    )
    assert refusal(module(coco.root, on_error="skip")) == line


def test_words_of_lists_elsewhere_are_none(coco):
    before = module(coco.root)
    before.setup("fit")
    changed(coco, each(lambda row: row.update(images=1, info={"annotations": 2}), "categories"))
    changed(coco, lambda content: content.update(info={"images": "annotations", "categories": 3}))
    data = module(coco.root)
    data.setup("fit")
    assert data.fingerprints() == before.fingerprints()


FOREIGN = {
    "a file of labelme for a single picture": {"version": "5.0", "shapes": [], "imagePath": "a.jpg"},
    "a project of VIA": {"_via_settings": {}, "_via_img_metadata": {}},
    "annotations of VIA": {"a.jpg12": {"filename": "a.jpg", "size": 12, "regions": []}},
    "an export of Label Studio": [{"id": 1, "data": {"image": "a.jpg"}, "annotations": []}],
    "an export of CreateML": [{"image": "a.jpg", "annotations": []}],
    "an export of Datumaro": {"info": {}, "categories": {}, "items": []},
    "a list of results of a detector": [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], "score": 0.5}],
    "a list of annotations alone": [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}],
    "COCO's captions": {"images": [{}], "annotations": [{"image_id": 1, "caption": "a"}]},
    "COCO's panoptic segmentation": {"images": [{}], "annotations": [{"image_id": 1, "segments_info": []}]},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_other_tools_are_named(coco, name):
    coco.write(FOREIGN[name])
    line = refusal(module(coco.root))
    assert f"is {name}, not a COCO instances file; export or convert it as COCO, with boxes" in line


def test_what_there_is_in_place_of_the_annotations(coco):
    coco.file().rename(coco.file().with_name("instances_default.json"))
    line = refusal(module(coco.root))
    assert line.endswith(
        "no such annotation file; set data.root and data.*_annotations; there are instances_default.json, "
        "instances_val2017.json"
    )


def corners(row):
    left, top, width, height = row["bbox"]
    row["bbox"] = [left + 20, top + 20, left + 20 + width, top + 20 + height]


def centres(row):
    left, top, width, height = row["bbox"]
    row["bbox"] = [left + 22 + width / 2, top + 22 + height / 2, width + 15, height + 15]


@pytest.mark.parametrize(
    ("change", "words"), [(corners, "corners: left, top, right, bottom"), (centres, "centre, width and height")]
)
def test_boxes_of_another_convention(coco, change, words):
    changed(coco, each(change))
    for settings in ({}, {"on_error": "skip"}):
        line = refusal(module(coco.root, **settings))
        assert f"the 6 boxes are {words}: as left, top, width, height many would leave their image; the" in line
        assert line.endswith("write them as left, top, width, height")


def test_boxes_that_may_be_corners(coco):
    def more(content):
        rows = content["annotations"]
        content["annotations"] = [
            {**row, "id": 100 * n + k, "bbox": [k + n, 2, 10.5 + n + k, 9], "area": 90}
            for n in range(4)
            for k, row in enumerate(rows)
        ]

    changed(coco, more)
    assert kinds(coco) == [Kind.CORNERS]
    changed(coco, lambda content: content["annotations"][7].update(bbox=[10, 2, 9, 9]))
    assert kinds(coco) == []


def test_single_boxes_beyond_their_image_are_no_convention(coco):
    changed(coco, lambda content: content["annotations"][0].update(bbox=[10, 10, 500, 20]))
    assert kinds(coco) == [Kind.OUTSIDE]
    changed(coco, lambda content: content["annotations"][0].update(bbox=[20, 20, -5, -5]))
    assert kinds(coco) == [Kind.FLAT]


def test_boxes_annotated_twice(coco):
    def twice(content):
        content["annotations"] += [{**row, "id": 900 + row["id"]} for row in content["annotations"][1:3]]
        content["annotations"].append({**content["annotations"][0], "id": 999, "category_id": 90})

    changed(coco, twice)
    found = examine(module(coco.root)).problems["training"]
    assert [(problem.kind, problem.what) for problem in found] == [
        (Kind.REPEATED_BOX, f"annotation {number} has image, category and box of one before")
        for number in (1001, 1002)
    ]


def test_objects_marked_as_ignore(coco):
    changed(
        coco, lambda content: [row.update(ignore=k % 2) for k, row in enumerate(content["annotations"])] and None
    )
    (problem,) = examine(module(coco.root)).problems["training"]
    assert problem.kind is Kind.IGNORE
    assert problem.what == "3 annotation(s) are marked as ignore, and learnt and scored as any"


@pytest.mark.parametrize("mark", [2, -1, "0", 0.5])
def test_marks_of_crowds_are_yes_or_no(coco, mark):
    changed(coco, lambda content: content["annotations"][0].update(iscrowd=mark))
    assert f"annotations[0].iscrowd is {mark!r}, not 0 or 1; correct it" in refusal(module(coco.root))


@pytest.mark.parametrize("name", [None, "", "  ", 90])
def test_categories_without_a_name_are_all_that_is_said(coco, name):
    changed(coco, each(lambda row: row.update(name=name), "categories"))
    found = examine(module(coco.root)).problems["training"]
    assert {problem.kind for problem in found} == {Kind.CATEGORY}
    assert [problem.what for problem in found] == [
        f"categories[{k}].name is {name!r}, not a text" for k in range(3)
    ]


def test_what_follows_from_a_broken_table_is_not_said(coco):
    changed(coco, each(lambda row: row.pop("bbox")))
    found = [problem.what for problem in examine(module(coco.root)).problems["training"]]
    assert found == [
        *(f"annotations[{k}].bbox is missing, not [left, top, width, height]" for k in range(6)),
        "none of the 6 annotations is usable",
    ]


ODD = {
    "ids as texts": (each(lambda row: row.update(id=str(row["id"])), "images"), "images[0].id is '10', not int"),
    "ids with a point": (
        each(lambda row: row.update(id=float(row["id"])), "images"),
        "images[0].id is 10.0, not int",
    ),
    "sizes as texts": (each(lambda row: row.update(width="48"), "images"), "images[0].width is '48', not int"),
    "sizes the other way round": (
        each(lambda row: row.update(width=row["height"], height=row["width"]), "images"),
        "0000.jpg: is 48x64 (width x height), but the annotations say 64x48",
    ),
    "boxes as texts": (
        each(lambda row: row.update(bbox=[str(x) for x in row["bbox"]])),
        "annotations[0].bbox is ['3.25', '4', '20.5', '17'], not [left, top, width, height]",
    ),
    "polygons alone": (
        each(lambda row: row.update(bbox=[], segmentation=[[1, 1, 20, 1, 20, 20]])),
        "annotations[0].bbox is [], not [left, top, width, height]",
    ),
    "key points alone": (
        each(lambda row: row.update(bbox=[0, 0, 0, 0], keypoints=[1, 2, 2] * 17)),
        "has bbox [0.0, 0.0, 0.0, 0.0] of no area",
    ),
    "one id for all": (each(lambda row: row.update(id=1)), "annotation id 1 is used twice (and 4 more problems)"),
    "categories by id": (lambda c: c.update(categories={"3": "car"}), "'categories' is not a list of objects"),
    "a list of lines": (lambda c: [c, c], "a list where an object should be"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_entries_are_one_line(coco, case):
    change, words = ODD[case]
    changed(coco, change)
    assert words in refusal(module(coco.root))


def test_a_category_of_number_0_is_one_as_any(coco):
    for split in ("train2017", "val2017"):
        changed(coco, lambda content: content["categories"].insert(0, {"id": 0, "name": "cells"}), split)
        changed(coco, lambda content: content["annotations"][0].update(category_id=0), split)
    data = module(coco.root)
    data.setup("fit")
    assert data.class_names == ("cells", "car", "truck", "brush")
    assert 0 in data.train_dataset.annotations.labels
