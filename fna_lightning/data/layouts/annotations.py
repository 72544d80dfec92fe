"""COCO annotation files, read into arrays and checked completely.

Arrays, because a hundred thousand Python objects would be copied into every loader process as soon as
their reference counts are touched.
"""

from __future__ import annotations

import dataclasses
import posixpath
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fna_lightning.data.checking.positions import JsonPositions
from fna_lightning.data.checking.problems import Kind, Problem, Problems, tell
from fna_lightning.data.layouts.boxes import (
    TOLERANCE,
    are_fractions,
    box_faults,
    convention,
    in_order,
    repeated,
)
from fna_lightning.data.layouts.coco_tables import (
    Rows,
    Table,
    is_box,
    is_integer,
    is_label,
    is_mark,
    is_name,
    is_number,
    read_tables,
)

_MANY = 20  # boxes that hardly all lie so by chance


@dataclass(frozen=True)
class CocoAnnotations:
    """The images and boxes of one COCO file; N images in the file's order, M boxes sorted by image."""

    file: Path
    """Where they were read."""
    category_ids: tuple[int, ...]
    """The file's ids, with whatever gaps; label k stands for category_ids[k]. Ascending, as they are read."""
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
    """(M,) float64: the area of the object; of its box, if the file does not say or says what cannot be."""
    crowd: np.ndarray
    """(M,) bool: the box holds a crowd, for scoring only."""
    listed: np.ndarray
    """(L,) UTF-8 bytes: names of all images in the file, those that were left out as well."""

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
            listed=self.listed,
        )

    def renumbered(self, order: Sequence[int], names: Sequence[str]) -> CocoAnnotations:
        """The same with label k for the category that has been label order[k], which is called names[k]."""
        ids = tuple(self.category_ids[label] for label in order)
        labels = np.argsort(np.asarray(order))[self.labels]
        return dataclasses.replace(self, category_ids=ids, category_names=tuple(names), labels=labels)

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


def read_annotations(file: Path, problems: Problems | None = None) -> CocoAnnotations:
    """Read and check a COCO instances file.

    Args:
        file: The JSON file. Images need `id`, `file_name`, `width`, `height`; annotations `id`,
            `image_id`, `category_id`, `bbox`, and may have `area` and `iscrowd`; categories `id`, `name`.
        problems: Takes in what is wrong with single entries: a malformed one, an id twice or unknown, a box of
            no area or outside its image; decides whether that is left out. None stops at the first.

    Raises:
        DataError: The file is missing, is not COCO, has no image or category, or no usable one; a category is
            broken; or an entry is, and may not be left out.
    """
    problems = Problems("raise") if problems is None else problems
    positions = JsonPositions(file)
    images, annotations, categories = (
        Table(file, name, rows, problems, positions) for name, rows in read_tables(file).items()
    )
    category_ids, category_names = _read_categories(categories, _umbrella(categories, annotations))

    image_ids = images.integers("id")
    sizes = np.stack([images.integers(key) for key in ("height", "width")], axis=1)
    names = [name.replace("\\", "/") for name in images.column("file_name", "str", is_name, "?")]
    _check_images(images, image_ids, sizes)

    annotation_ids = annotations.integers("id")
    boxes = annotations.column("bbox", "[left, top, width, height]", is_box, [0, 0, 0, 0])
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    areas = _areas(annotations, boxes)
    crowd = np.array(annotations.column("iscrowd", "0 or 1", is_mark, 0, 0), bool)
    own_images, own_categories = annotations.integers("image_id"), annotations.integers("category_id")
    image_of, image_known = _positions(own_images, image_ids)
    labels, category_known = _positions(own_categories, np.asarray(category_ids, np.int64))
    # Of a category that is broken, only that is said.
    named = category_known | np.isin(
        own_categories, [row["id"] for row in categories.rows if is_integer(row.get("id"))]
    )

    _check_references(annotations, annotation_ids, (own_images, image_known), (own_categories, named))
    annotations.good &= category_known
    measured = image_known & images.good[image_of]
    if are_fractions(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)):
        what = f"most of the {len(boxes)} boxes lie within a single pixel; the first is {boxes[0].tolist()}"
        problems.append(Problem(Kind.FRACTIONS, file, what))
    _check_convention(file, boxes, (sizes[image_of], measured & annotations.good), problems)
    _check_boxes(annotations, boxes, (sizes[image_of], measured), annotation_ids, own_images)
    _check_marks(annotations, np.column_stack([own_images, own_categories, boxes]), annotation_ids)
    good = annotations.good
    _check_twins(images, names, image_of[good], np.column_stack([boxes, labels, crowd])[good])
    for table in (images, annotations):
        if table.rows and not table.good.any() and categories.good.any():
            what = f"none of the {len(table.rows)} {table.name} is usable"
            problems.append(Problem(Kind.SET, file, what, "correct them"))
    problems.settle()

    file_names = np.array([name.encode() for name in names])
    order = np.argsort(image_of, kind="stable")
    everything = CocoAnnotations(
        file=file,
        category_ids=category_ids,
        category_names=category_names,
        image_ids=image_ids,
        file_names=file_names,
        sizes=sizes,
        annotation_ids=annotation_ids[order],
        image_of=image_of[order],
        labels=labels[order],
        boxes=boxes[order],
        areas=areas[order],
        crowd=crowd[order],
        listed=file_names,
    )
    return everything.keep(images.good, annotations.good[order])


def _umbrella(table: Table, annotations: Table) -> Any:
    """The id of the category that Roboflow puts over all others: it has no box, and is no class; None else."""
    used = [row.get("category_id") for row in annotations.rows]
    for row in table.rows:
        others = [other.get("supercategory") for other in table.rows if other is not row]
        name = row.get("name")
        over_all = bool(others) and all(other == name for other in others) and row.get("supercategory") != name
        if over_all and row.get("id") not in used:
            tell(
                "%s: category %s (%s) is over all others, has no box, and is no class",
                table.file,
                row.get("id"),
                name,
            )
            return row.get("id")
    return None


def _read_categories(table: Table, left: Any) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Ids, ascending, and names of the categories but `left`; no other can be left out."""
    ids = table.integers("id")
    names = table.column("name", "a text", is_label, "")
    table.note(Kind.CATEGORY, _repeated(ids), lambda i: f"category id {ids[i]} is used twice")
    known = np.flatnonzero(table.good & (ids != left) if left is not None else table.good)
    numbers = [int(ids[i]) for i in sorted(known, key=ids.__getitem__)]
    named = dict(zip(ids.tolist(), names, strict=True))
    seen = Counter(named[number] for number in numbers)
    same = np.array([seen[name] > 1 for name in names], dtype=bool)
    table.note(Kind.SAME_NAME, same, lambda i: f"category {ids[i]} is one of {seen[names[i]]} named {names[i]!r}")
    return tuple(numbers), tuple(
        f"{named[number]} ({number})" if seen[named[number]] > 1 else named[number] for number in numbers
    )


def _check_images(table: Table, ids: np.ndarray, sizes: np.ndarray) -> None:
    """Require an id of its own and a size of every image."""
    empty = (sizes < 1).any(axis=1)
    table.note(Kind.REPEATED, _repeated(ids), lambda i: f"image id {ids[i]} is used twice")
    table.note(Kind.NO_SIZE, empty, lambda i: f"image {ids[i]} has width {sizes[i, 1]} and height {sizes[i, 0]}")


def _areas(table: Table, boxes: np.ndarray) -> np.ndarray:
    """(M,) float64: areas of objects; that of their box where none is given, or one that cannot be."""
    given = np.array(table.column("area", "int or float", is_number, 0.0, np.nan), np.float64)
    missing = np.array([row.get("area") is None for row in table.rows], dtype=bool)
    of_boxes, most = boxes[:, 2:].prod(axis=1), (boxes[:, 2:] + 2 * TOLERANCE).prod(axis=1)
    usable = (given > 0) & (given <= most)
    table.note(
        Kind.AREA,
        ~usable & ~missing & (boxes[:, 2:] > 0).all(axis=1),
        lambda i: f"annotations[{i}].area is {given[i]:g}, and taken as that of its box: {of_boxes[i]:g}",
    )
    return np.where(usable, given, of_boxes)


def _check_twins(table: Table, names: list[str], image_of: np.ndarray, objects: np.ndarray) -> None:
    """Note images of one file; where their `objects` (M, 6) float64 differ, the later one is wrong."""
    paths = [posixpath.normpath(name) for name in names]
    counts = Counter(paths[i] for i in np.flatnonzero(table.good))
    if len(counts) == np.count_nonzero(table.good):
        return
    order = np.argsort(image_of, kind="stable")
    rows_of = np.split(order, np.searchsorted(image_of[order], np.arange(1, len(paths))))
    first: dict[str, int] = {}
    same, other = np.zeros((2, len(paths)), dtype=bool)
    for i in np.flatnonzero(table.good).tolist():
        if (twin := first.setdefault(paths[i], i)) != i:
            ours, theirs = (sorted(map(tuple, objects[rows_of[k]].tolist())) for k in (i, twin))
            (same if ours == theirs else other)[i] = True
    for kind, bad, boxes in ((Kind.TWO_TRUTHS, other, "other"), (Kind.TWICE, same, "the same")):
        table.note(
            kind,
            bad,
            lambda i, boxes=boxes: f"images[{i}] is {names[i]} as images[{first[paths[i]]}], with {boxes} boxes",
        )


def _check_references(
    table: Table,
    ids: np.ndarray,
    images: tuple[np.ndarray, np.ndarray],
    categories: tuple[np.ndarray, np.ndarray],
) -> None:
    """Require of annotations an id of their own and, of the pairs (id, whether it exists), two that exist."""
    for kind, name, (own, known) in (
        (Kind.NO_IMAGE, "image", images),
        (Kind.NO_CATEGORY, "category", categories),
    ):
        table.note(
            kind,
            ~known,
            lambda i, name=name, own=own: f"annotation {ids[i]} has {name}_id {own[i]}, which no {name} has",
        )
    table.note(Kind.REPEATED, _repeated(ids), lambda i: f"annotation id {ids[i]} is used twice")


def _check_convention(
    file: Path, boxes: np.ndarray, sizes: tuple[np.ndarray, np.ndarray], problems: Problems
) -> None:
    """Note boxes (M, 4) that are written in another way, or may be; sizes are as for `_check_boxes`."""
    known = sizes[1] & np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    boxes, size = boxes[known], sizes[0][known]
    if other := convention(boxes, size):
        what = f"the {len(boxes)} boxes are {other}: as left, top, width, height many would leave their image"
        problems.append(Problem(Kind.CONVENTION, file, f"{what}; the first is {boxes[0].tolist()}"))
    elif len(boxes) >= _MANY and in_order(boxes):
        what = f"of all {len(boxes)} boxes the last two numbers exceed the first two, as those of corners do"
        problems.append(Problem(Kind.CORNERS, file, what))


def _check_marks(table: Table, objects: np.ndarray, ids: np.ndarray) -> None:
    """Note objects that come twice, (M, 6) of image, category and box, and such as are marked to be ignored."""
    table.note(
        Kind.REPEATED_BOX,
        repeated(objects) & table.good,
        lambda i: f"annotation {ids[i]} has image, category and box of one before",
    )
    ignored = sum(bool(row.get("ignore")) and not row.get("iscrowd") for row in table.rows)
    if ignored:
        table.note_all(Kind.IGNORE, f"{ignored} annotation(s) are marked as ignore, and learnt and scored as any")


def _check_boxes(
    table: Table,
    boxes: np.ndarray,
    sizes: tuple[np.ndarray, np.ndarray],
    ids: np.ndarray,
    image_ids: np.ndarray,
) -> None:
    """Require boxes of finite numbers, with an area, inside their image of height and width `sizes[0]`.

    The last is asked only where `sizes[1]` says that this is known.
    """
    size, known = sizes

    def describe(fault: str) -> Callable[[int], str]:
        return lambda i: (
            f"annotation {ids[i]} (image {image_ids[i]}) has bbox {boxes[i].tolist()} {fault}"
            + (f" of {size[i, 1]}x{size[i, 0]} (width x height)" if "image" in fault else "")
        )

    for kind, bad, fault in box_faults(boxes, size):
        table.note(kind, bad & known if kind is Kind.OUTSIDE else bad, describe(fault))


def _repeated(ids: np.ndarray) -> np.ndarray:
    """(N,) bool: ids that came before."""
    repeated = np.ones(len(ids), dtype=bool)
    repeated[np.unique(ids, return_index=True)[1]] = False
    return repeated


def _positions(values: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each value first comes in `among` (0 if nowhere), and whether it does."""
    if not len(among):
        return np.zeros(len(values), np.int64), np.zeros(len(values), dtype=bool)
    distinct, first = np.unique(among, return_index=True)
    place = np.minimum(np.searchsorted(distinct, values), len(distinct) - 1)
    known = distinct[place] == values
    return np.where(known, first[place], 0), known
