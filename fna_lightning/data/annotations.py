"""COCO annotation files, read into arrays and checked completely.

Arrays, because a hundred thousand Python objects would be copied into every loader process as soon as
their reference counts are touched.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fna_lightning.data.checks import Problems
from fna_lightning.errors import DataError

Rows = list[dict[str, Any]]

TOLERANCE = 1.0
"""Pixels by which a box may reach over the image's edge; real sets round outwards. It is cut off."""
SMALLEST = 0.01
"""A side of fewer pixels counts as none: it would vanish in single precision."""


@dataclass(frozen=True)
class CocoAnnotations:
    """The images and boxes of one COCO file; N images in the file's order, M boxes sorted by image."""

    file: Path
    """Where they were read."""
    category_ids: tuple[int, ...]
    """The file's ids, ascending, with whatever gaps; label k stands for category_ids[k]."""
    category_names: tuple[str, ...]
    """Names in the same order."""
    image_ids: np.ndarray
    """(N,) int64."""
    file_names: np.ndarray
    """(N,) UTF-8 bytes."""
    sizes: np.ndarray
    """(N, 2) int64: height and width."""
    annotation_ids: np.ndarray
    """(M,) int64."""
    image_of: np.ndarray
    """(M,) int64: the position of the box's image in [0, N), ascending."""
    labels: np.ndarray
    """(M,) int64 in [0, number of categories)."""
    boxes: np.ndarray
    """(M, 4) float64: left, top, width, height, as in the file."""
    areas: np.ndarray
    """(M,) float64: the area of the object; of its box, if the file does not say."""
    crowd: np.ndarray
    """(M,) bool: the box holds a crowd, for scoring only."""

    def __len__(self) -> int:
        return len(self.image_ids)

    def boxes_of(self, index: int) -> slice:
        """The range in the arrays of M that belongs to image `index`."""
        return slice(*np.searchsorted(self.image_of, [index, index + 1]).tolist())

    def keep(self, images: np.ndarray, boxes: np.ndarray | None = None) -> CocoAnnotations:
        """The part with the images where `images` (N,) holds, and their boxes where `boxes` (M,) holds."""
        kept = images[self.image_of] if boxes is None else images[self.image_of] & boxes
        positions = np.cumsum(images) - 1
        return CocoAnnotations(
            file=self.file,
            category_ids=self.category_ids,
            category_names=self.category_names,
            image_ids=self.image_ids[images],
            file_names=self.file_names[images],
            sizes=self.sizes[images],
            annotation_ids=self.annotation_ids[kept],
            image_of=positions[self.image_of[kept]],
            labels=self.labels[kept],
            boxes=self.boxes[kept],
            areas=self.areas[kept],
            crowd=self.crowd[kept],
        )

    def as_coco(self) -> dict[str, Rows]:
        """The content of a COCO file with what is held here, for the scoring libraries."""
        ids = np.asarray(self.category_ids)
        names = (name.decode() for name in self.file_names)
        return {
            "images": [
                {"id": image_id, "file_name": name, "height": height, "width": width}
                for image_id, name, (height, width) in zip(
                    self.image_ids.tolist(), names, self.sizes.tolist(), strict=True
                )
            ],
            "annotations": [
                {"id": i, "image_id": image, "category_id": category, "bbox": box, "area": area, "iscrowd": crowd}
                for i, image, category, box, area, crowd in zip(
                    self.annotation_ids.tolist(),
                    self.image_ids[self.image_of].tolist(),
                    ids[self.labels].tolist(),
                    self.boxes.tolist(),
                    self.areas.tolist(),
                    self.crowd.astype(int).tolist(),
                    strict=True,
                )
            ],
            "categories": [
                {"id": category, "name": name}
                for category, name in zip(self.category_ids, self.category_names, strict=True)
            ],
        }


def read_annotations(file: Path, on_error: str = "raise") -> CocoAnnotations:
    """Read and check a COCO instances file.

    Args:
        file: The JSON file. Images need `id`, `file_name`, `width`, `height`; annotations `id`,
            `image_id`, `category_id`, `bbox`, and may have `area` and `iscrowd`; categories `id`, `name`.
        on_error: What to do about single broken images and boxes: `raise`, or `skip` them with a warning.

    Raises:
        DataError: The file is missing, is not COCO, has no image or category; or a single image or box
            is broken (an id twice or unknown, a box of no area or outside its image) and `on_error` is
            `raise`.
    """
    images, annotations, categories = _tables(file)
    category_ids, category_names = _read_categories(file, categories)
    problems = Problems(file, on_error)

    image_ids = _integers(file, "images", images, "id")
    sizes = np.stack([_integers(file, "images", images, key) for key in ("height", "width")], axis=1)
    names = _column(file, "images", images, "file_name", (str,))
    good_images = _check_images(image_ids, sizes, problems)

    annotation_ids = _integers(file, "annotations", annotations, "id")
    boxes = _read_boxes(file, annotations)
    areas = np.array(_column(file, "annotations", annotations, "area", (int, float), np.nan), np.float64)
    own_images = _integers(file, "annotations", annotations, "image_id")
    own_categories = _integers(file, "annotations", annotations, "category_id")
    image_of, image_known = _positions(own_images, image_ids)
    labels, category_known = _positions(own_categories, np.asarray(category_ids))

    good = _check_references(annotation_ids, (own_images, image_known), (own_categories, category_known), problems)
    good &= _check_boxes(boxes, sizes[image_of], image_known, annotation_ids, own_images, problems)
    problems.settle()

    order = np.argsort(image_of, kind="stable")
    everything = CocoAnnotations(
        file=file,
        category_ids=category_ids,
        category_names=category_names,
        image_ids=image_ids,
        file_names=np.array([name.encode() for name in names]),
        sizes=sizes,
        annotation_ids=annotation_ids[order],
        image_of=image_of[order],
        labels=labels[order],
        boxes=boxes[order],
        areas=np.where(np.isnan(areas), boxes[:, 2] * boxes[:, 3], areas)[order],
        crowd=_integers(file, "annotations", annotations, "iscrowd", 0).astype(bool)[order],
    )
    return everything.keep(good_images, good[order])


def _tables(file: Path) -> tuple[Rows, Rows, Rows]:
    """The three lists of a COCO file."""
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{file}: no such annotation file; set data.root and data.*_annotations") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); restore the file") from error
    except ValueError as error:  # not JSON, or not text at all
        raise DataError(f"{file}: is not JSON ({error}); restore the file") from None
    if not isinstance(content, dict):
        raise DataError(
            f"{file}: is not a COCO file: a {type(content).__name__} where an object should be; convert it"
        )
    images, annotations, categories = (
        _table(file, content, key) for key in ("images", "annotations", "categories")
    )
    if not images or not categories:
        raise DataError(f"{file}: has no {'categories' if images else 'images'}; write them into the file")
    return images, annotations, categories


def _table(file: Path, content: dict[str, Any], key: str) -> Rows:
    rows = content.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{file}: is not a COCO instances file: '{key}' is not a list of objects; convert it")
    return rows


def _column(
    file: Path, table: str, rows: Rows, key: str, kinds: tuple[type, ...], default: Any = None
) -> list[Any]:
    """`key` of every row; a missing one is an error unless there is a default."""
    values = [row.get(key, default) for row in rows]
    for index, value in enumerate(values):
        if type(value) not in kinds:
            found = f"{value!r:.40}" if key in rows[index] else "missing"
            raise DataError(
                f"{file}: is not a COCO instances file: {table}[{index}].{key} is {found}, "
                f"not {' or '.join(kind.__name__ for kind in kinds)}; correct it"
            )
    return values


def _integers(file: Path, table: str, rows: Rows, key: str, default: int | None = None) -> np.ndarray:
    return np.array(_column(file, table, rows, key, (int,), default), np.int64)


def _read_categories(file: Path, rows: Rows) -> tuple[tuple[int, ...], tuple[str, ...]]:
    ids = _integers(file, "categories", rows, "id").tolist()
    names = _column(file, "categories", rows, "name", (str,))
    if len(set(ids)) < len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise DataError(f"{file}: category id {twice} is used twice; give every category its own")
    pairs = sorted(zip(ids, names, strict=True))
    return tuple(i for i, _ in pairs), tuple(name for _, name in pairs)


def _read_boxes(file: Path, rows: Rows) -> np.ndarray:
    boxes = _column(file, "annotations", rows, "bbox", (list,))
    for index, box in enumerate(boxes):
        if len(box) != 4 or not all(type(value) in (int, float) for value in box):
            raise DataError(
                f"{file}: is not a COCO instances file: annotations[{index}].bbox is {box!r:.60}, "
                "not [left, top, width, height]; correct it"
            )
    return np.array(boxes, np.float64).reshape(-1, 4)


def _check_images(ids: np.ndarray, sizes: np.ndarray, problems: Problems) -> np.ndarray:
    """(N,) bool: images with an id of their own and a size."""
    repeated, empty = _repeated(ids), (sizes < 1).any(axis=1)
    problems.add(repeated, lambda i: f"image id {ids[i]} is used twice")
    problems.add(empty, lambda i: f"image {ids[i]} has width {sizes[i, 1]} and height {sizes[i, 0]}")
    return ~(repeated | empty)


def _check_references(
    ids: np.ndarray,
    images: tuple[np.ndarray, np.ndarray],
    categories: tuple[np.ndarray, np.ndarray],
    problems: Problems,
) -> np.ndarray:
    """(M,) bool: annotations with an id of their own and, of the pairs (id, whether it exists), two that exist."""
    good = np.ones(len(ids), dtype=bool)
    for name, (own, known) in (("image", images), ("category", categories)):
        problems.add(
            ~known,
            lambda i, name=name, own=own: f"annotation {ids[i]} has {name}_id {own[i]}, which no {name} has",
        )
        good &= known
    repeated = _repeated(ids)
    problems.add(repeated, lambda i: f"annotation id {ids[i]} is used twice")
    return good & ~repeated


def _check_boxes(
    boxes: np.ndarray,
    sizes: np.ndarray,
    known: np.ndarray,
    ids: np.ndarray,
    image_ids: np.ndarray,
    problems: Problems,
) -> np.ndarray:
    """(M,) bool: boxes of finite numbers, with an area, inside their image of height and width `sizes`."""

    def describe(fault: str) -> Any:
        return lambda i: (
            f"annotation {ids[i]} (image {image_ids[i]}) has bbox {boxes[i].tolist()} {fault}"
            + (f" of {sizes[i, 1]}x{sizes[i, 0]} (width x height)" if "image" in fault else "")
        )

    start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    finite = np.isfinite(boxes).all(axis=1)
    flat = finite & (boxes[:, 2:] < SMALLEST).any(axis=1)
    edge = sizes[:, ::-1]
    inside = np.minimum(end, edge) - np.maximum(start, 0)
    outside = (start < -TOLERANCE) | (end > edge + TOLERANCE) | (inside < SMALLEST)
    outside = finite & ~flat & known & outside.any(axis=1)
    problems.add(~finite, describe("with a number that is not finite"))
    problems.add(flat, describe("of no area"))
    problems.add(outside, describe("outside the image"))
    return finite & ~flat & ~outside


def _repeated(ids: np.ndarray) -> np.ndarray:
    """(N,) bool: ids that came before."""
    repeated = np.ones(len(ids), dtype=bool)
    repeated[np.unique(ids, return_index=True)[1]] = False
    return repeated


def _positions(values: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each value first comes in `among` (0 if nowhere), and whether it does."""
    distinct, first = np.unique(among, return_index=True)
    place = np.minimum(np.searchsorted(distinct, values), len(distinct) - 1)
    known = distinct[place] == values
    return np.where(known, first[place], 0), known
