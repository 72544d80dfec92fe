"""Annotation files of other tools, which people take for COCO's: what they are, by the keys that they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BY_KEYS = {
    "a file of labelme for a single picture": ("shapes", "imagePath"),
    "a project of VIA": ("_via_img_metadata",),
    "an export of Datumaro": ("items", "categories"),
    "a project of VoTT": ("assets", "tags"),
    "an export of FiftyOne": ("samples",),
    "an annotation of Supervisely for a single picture": ("objects", "size"),
}
_BY_KEYS_OF_ROWS = {
    "a list of results of a detector": ("bbox", "score"),
    "an export of Label Studio": ("data", "annotations"),
    "an export of CreateML": ("image", "annotations"),
    "an export of Labelbox": ("data_row", "projects"),
    "a list of annotations alone": ("image_id", "bbox"),
}
_BY_KEYS_OF_VALUES = {"annotations of VIA": ("filename", "regions")}
_BY_KEYS_OF_ANNOTATIONS = {
    "COCO's panoptic segmentation": ("segments_info",),
    "COCO's captions": ("caption",),
}


def foreign_format(content: Any) -> str | None:
    """What the content of a JSON file is, in words, if it is one of other tools' or tasks'; None else."""
    if isinstance(content, list):
        return _first(_BY_KEYS_OF_ROWS, content)
    if not isinstance(content, Mapping):
        return None
    found = next((words for words, keys in _BY_KEYS.items() if set(keys) <= content.keys()), None)
    if found is None and "images" not in content:
        found = _first(_BY_KEYS_OF_VALUES, [*content.values()])
    annotations = content.get("annotations")
    return found or (_first(_BY_KEYS_OF_ANNOTATIONS, annotations) if isinstance(annotations, list) else None)


def _first(formats: Mapping[str, tuple[str, ...]], rows: list[Any]) -> str | None:
    """The format whose keys the first row has."""
    row = rows[0] if rows and isinstance(rows[0], Mapping) else {}
    return next((words for words, keys in formats.items() if set(keys) <= row.keys()), None)
