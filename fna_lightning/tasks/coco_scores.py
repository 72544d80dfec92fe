"""COCO's figures by either library, from plain dictionaries."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fna_lightning.errors import DataError

Backend = Literal["faster_coco_eval", "pycocotools"]

FIGURES = (
    "mAP",
    "mAP_50",
    "mAP_75",
    "mAP_small",
    "mAP_medium",
    "mAP_large",
    "mAR_1",
    "mAR_10",
    "mAR_100",
    "mAR_small",
    "mAR_medium",
    "mAR_large",
)
"""The twelve figures, in the order in which both libraries give them."""


def read_annotations(source: Path | Mapping[str, Any]) -> dict[str, Any]:
    """Read a COCO annotation file, or what one holds, for box scoring.

    What is often missing in data sets made by hand is filled in: `iscrowd` with 0, `area` with the box's.
    Annotations are numbered anew from 1, because both libraries take a match with annotation 0 for none.
    Outlines are left out.

    Raises:
        DataError: the file is missing or is no such file.
    """
    try:
        content = json.loads(source.read_text()) if isinstance(source, Path) else source
        annotations = [
            {
                "id": number,
                "image_id": entry["image_id"],
                "category_id": entry["category_id"],
                "bbox": entry["bbox"],
                "area": entry.get("area", entry["bbox"][2] * entry["bbox"][3]),
                "iscrowd": entry.get("iscrowd", 0),
            }
            for number, entry in enumerate(content["annotations"], start=1)
        ]
        images = [{key: entry.get(key) for key in ("id", "height", "width")} for entry in content["images"]]
        categories = [{"id": entry["id"], "name": entry.get("name")} for entry in content["categories"]]
    except OSError as error:
        raise DataError(f"{source}: cannot read the annotations: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        name = source if isinstance(source, Path) else "the ground truth"
        raise DataError(f"{name}: no COCO annotation file ({type(error).__name__}: {error})") from error
    return {"images": images, "annotations": annotations, "categories": categories}


def score(
    truth: dict[str, Any],
    results: Iterable[dict[str, Any]],
    image_ids: Sequence[int],
    category_ids: Sequence[int],
    backend: Backend,
) -> tuple[dict[str, float], dict[int, float]]:
    """COCO's figures for boxes.

    Args:
        truth: annotations, as `read_annotations` gives them.
        results: entries of a COCO results file; may be empty.
        image_ids: the images that count.
        category_ids: the categories that count.
        backend: "faster_coco_eval" or "pycocotools".

    Returns:
        The twelve figures by the names in `FIGURES`, and mAP by category id. In [0, 1]; -1 where there is no
        annotation to find, as COCO writes it (NaN would not survive JSON).
    """
    # Ids of a data set can be larger than the numbers that the libraries count in: they see places in order.
    images = {image: place for place, image in enumerate(sorted(entry["id"] for entry in truth["images"]), 1)}
    categories = {category: place for place, category in enumerate(sorted(category_ids), 1)}
    known = {**truth, "images": [{**entry, "id": images[entry["id"]]} for entry in truth["images"]]}
    known["annotations"] = _placed(truth["annotations"], images, categories)
    # Both libraries tell about their progress; what a run prints is decided elsewhere.
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = _evaluator(known, _placed(results, images, categories), backend)
        evaluator.params.imgIds = sorted(images[image] for image in image_ids)
        evaluator.params.catIds = sorted(categories.values())
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    figures = {name: float(value) for name, value in zip(FIGURES, evaluator.stats[:12], strict=True)}

    # (thresholds, recalls, categories, areas, limits): all areas, at most 100 detections.
    precision = np.asarray(evaluator.eval["precision"])[:, :, :, 0, -1]
    per_category = {}
    for position, category in enumerate(sorted(category_ids)):
        defined = precision[:, :, position][precision[:, :, position] > -1]
        per_category[int(category)] = float(defined.mean()) if defined.size else -1.0
    return figures, per_category


def _placed(
    entries: Iterable[dict[str, Any]], images: Mapping[int, int], categories: Mapping[int, int]
) -> list[dict[str, Any]]:
    """Entries with places for ids; those of images or categories that do not count are left out."""
    return [
        {**entry, "image_id": images[entry["image_id"]], "category_id": categories[entry["category_id"]]}
        for entry in entries
        if entry["image_id"] in images and entry["category_id"] in categories
    ]


def _evaluator(truth: dict[str, Any], results: Iterable[dict[str, Any]], backend: Backend) -> Any:
    """Either library's evaluator; `loadRes` would refuse an empty list and draw an outline per box."""
    if backend == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval

    found = [
        {**result, "id": number, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
        for number, result in enumerate(results, start=1)
    ]
    indexed: list[Any] = []
    for content in (truth, {**truth, "annotations": found}):
        api: Any = COCO()
        api.dataset = content
        api.createIndex()
        indexed.append(api)
    return COCOeval(*indexed, iouType="bbox")
