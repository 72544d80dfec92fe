"""Pascal VOC's average precision, which no library used here computes: at IoU 0.5, by 11 points and by area.

As in the development kit, detections of a class are taken by descending score, over all images. Each belongs to
the object of its class and image that it overlaps most. If the overlap is large enough, it is right where it is
the first of its object, wrong where it repeats one, and does not count where the object is difficult. Otherwise it
is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MIN_IOU = 0.5
"""An overlap of this much is enough."""
AP_11 = "VOC_AP_11"
"""Mean of the best precisions at a recall of at least 0, 0.1 ... 1: VOC 2007."""
AP_AREA = "VOC_AP_area"
"""Area under the best precision at a recall of at least r, over r: VOC 2010 and later."""


@dataclass(frozen=True)
class _Boxes:
    """Boxes of many images and categories, as columns."""

    category: np.ndarray
    """(N,) int64: position among the categories."""
    group: np.ndarray
    """(N,) int64: number of the pair of image and category; boxes of one pair can match."""
    boxes: np.ndarray
    """(N, 4) float64: left, top, width, height."""


def voc_scores(
    truth: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
    image_ids: Sequence[int],
    category_ids: Sequence[int],
) -> tuple[dict[str, float], dict[str, dict[int, float]]]:
    """Both average precisions: their mean over categories, and of every category.

    Args:
        truth: annotations of a COCO file; crowds are difficult objects.
        results: entries of a COCO results file; of equal scores, the first goes first.
        image_ids: the images that count.
        category_ids: the categories that count.

    Returns:
        By the figures' names, the means over categories with an object to find, and the values by category id. In
        [0, 1]; -1 where there is nothing to find, as in COCO's figures.
    """
    images = {image: number for number, image in enumerate(image_ids)}
    categories = {category: number for number, category in enumerate(category_ids)}
    truth, results = (
        [row for row in rows if row["image_id"] in images and row["category_id"] in categories]
        for rows in (truth, results)
    )
    objects, found = (_columns(rows, images, categories) for rows in (truth, results))
    difficult = np.array([bool(row["iscrowd"]) for row in truth], dtype=bool)
    ranking = np.argsort([-row["score"] for row in results], kind="stable")
    right, wrong = (rows[ranking] for rows in _judge(ranking, _matches(found, objects), difficult))
    per_category: dict[str, dict[int, float]] = {AP_11: {}, AP_AREA: {}}
    for category, number in categories.items():
        total = int((~difficult & (objects.category == number)).sum())
        rows = (found.category[ranking] == number) & (right | wrong)
        values = _average_precisions(right[rows], total)
        for table, value in zip(per_category.values(), values, strict=True):
            table[category] = value
    return {name: _mean(list(table.values())) for name, table in per_category.items()}, per_category


def _columns(
    rows: Sequence[Mapping[str, Any]], images: Mapping[int, int], categories: Mapping[int, int]
) -> _Boxes:
    category = np.array([categories[row["category_id"]] for row in rows], np.int64)
    image = np.array([images[row["image_id"]] for row in rows], np.int64)
    boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    return _Boxes(category, image * len(categories) + category, boxes)


def _matches(found: _Boxes, objects: _Boxes) -> np.ndarray:
    """(D,) int64: the object of its group that each detection overlaps most; -1 where that is too little."""
    # All pairs in a group, detection after detection: a detection's objects are a range in the objects by group.
    by_group = np.argsort(objects.group, kind="stable")
    start, stop = (np.searchsorted(objects.group[by_group], found.group, side) for side in ("left", "right"))
    counts = stop - start
    first_pair = np.cumsum(counts) - counts
    detection = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(detection)) - first_pair[detection]
    candidate = by_group[start[detection] + within]
    overlap = _iou(found.boxes[detection], objects.boxes[candidate])

    # The sort is stable, so that of equal overlaps the first object stays first.
    best = np.lexsort((-overlap, detection))[first_pair[counts > 0]]
    matches = np.full(len(counts), -1)
    matches[counts > 0] = np.where(overlap[best] >= MIN_IOU, candidate[best], -1)
    return matches


def _iou(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Overlap of N pairs of boxes (N, 4).

    Widths and heights are distances: where corners number pixels, a box has one more pixel than their difference,
    which is how `data=voc` reads them and the development kit counts.
    """
    start = np.maximum(left[:, :2], right[:, :2])
    end = np.minimum(left[:, :2] + left[:, 2:], right[:, :2] + right[:, 2:])
    shared = (end - start).clip(0).prod(axis=1)
    union = left[:, 2:].prod(axis=1) + right[:, 2:].prod(axis=1) - shared
    return shared / np.maximum(union, np.finfo(np.float64).tiny)


def _judge(ranking: np.ndarray, matches: np.ndarray, difficult: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(D,) bool each: detections that are right and that are wrong; neither, where the object is difficult."""
    matched = ranking[matches[ranking] >= 0]
    _, first = np.unique(matches[matched], return_index=True)
    right, wrong = np.zeros(len(matches), dtype=bool), np.ones(len(matches), dtype=bool)
    right[matched[first]] = True
    ignored = matched[difficult[matches[matched]]]
    right[ignored] = wrong[ignored] = False
    return right, wrong & ~right


def _average_precisions(right: np.ndarray, total: int) -> tuple[float, float]:
    """By 11 points and by area.

    Args:
        right: (D,) bool, by descending score: whether the detection is right.
        total: Objects to find.
    """
    if not total:
        return -1.0, -1.0
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    # Recall h/n reaches k/10 where 10h >= kn: in integers, because 0.1 * 3 > 0.3. Beyond the last, precision is 0.
    reached = np.searchsorted(10 * hits, np.arange(11) * total)
    return float(np.append(best, 0.0)[reached].mean()), float(best[right].sum() / total)


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if value >= 0]
    return float(np.mean(defined)) if defined else -1.0
