"""COCO annotation files, read into arrays and checked completely.

Arrays, because a hundred thousand Python objects would be copied into every loader process as soon as
their reference counts are touched.
"""

from __future__ import annotations

import dataclasses
import json
import re
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from fna_lightning.data.checking.positions import JsonPositions
from fna_lightning.data.checking.problems import Kind, Position, Problem, Problems, SetError
from fna_lightning.data.layouts.boxes import Mask, box_faults

Rows = list[dict[str, Any]]

_NO_ID = -(2**63)  # stands for what is no integer of 64 bits
_NOT_IN_NAMES = re.compile("[\0\ud800-\udfff]")  # no file system has these


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
        _Table(file, name, rows, problems, positions) for name, rows in _read_tables(file).items()
    )
    category_ids, category_names = _read_categories(categories)

    image_ids = images.integers("id")
    sizes = np.stack([images.integers(key) for key in ("height", "width")], axis=1)
    names = images.column("file_name", "str", _is_name, "?")
    _check_images(images, image_ids, sizes)

    annotation_ids = annotations.integers("id")
    boxes = annotations.column("bbox", "[left, top, width, height]", _is_box, [0, 0, 0, 0])
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    areas = np.array(annotations.column("area", "int or float", _is_number, 0.0, np.nan), np.float64)
    crowd = annotations.integers("iscrowd", 0).astype(bool)
    own_images, own_categories = annotations.integers("image_id"), annotations.integers("category_id")
    image_of, image_known = _positions(own_images, image_ids)
    labels, category_known = _positions(own_categories, np.asarray(category_ids, np.int64))

    _check_references(annotations, annotation_ids, (own_images, image_known), (own_categories, category_known))
    measured = image_known & images.good[image_of]
    _check_boxes(annotations, boxes, (sizes[image_of], measured), annotation_ids, own_images)
    for table in (images, annotations):
        if table.rows and not table.good.any():
            what = f"none of the {len(table.rows)} {table.name} is usable"
            problems.append(Problem(Kind.SET, file, what, "correct them"))
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
        crowd=crowd[order],
    )
    return everything.keep(images.good, annotations.good[order])


class _Table:
    """One list of a COCO file.

    Args:
        file: The file.
        name: The list's key.
        rows: Its entries.
        problems: Takes in what is wrong with them.
        positions: Finds them in the file.
    """

    def __init__(self, file: Path, name: str, rows: Rows, problems: Problems, positions: JsonPositions) -> None:
        self._file = file
        self.name = name
        self.rows = rows
        self.good = np.ones(len(rows), dtype=bool)
        """(len(rows),) bool: entries of which nothing wrong is known."""
        self._readable = np.ones(len(rows), dtype=bool)
        self._problems = problems
        self._position = positions.of(name)

    def note(self, kind: Kind, bad: Mask, describe: Callable[[int], str]) -> None:
        """Note the entries where `bad` (len(rows),) bool holds, but malformed ones: they stand for nothing.

        `describe` puts one of them into words.
        """
        self._problems.add(kind, bad & self._readable, self._file, describe, self._position)
        self.good &= ~bad

    def column(
        self, key: str, expected: str, fits: Callable[[Any], bool], filler: Any, default: Any = None
    ) -> list[Any]:
        """`key` of every entry.

        Args:
            key: The key.
            expected: What `fits` accepts, in words.
            fits: Whether a value can be used.
            filler: Stands in for values that cannot, whose entries are noted as malformed.
            default: Of entries without the key; None if they need it.
        """
        values = [row.get(key, default) for row in self.rows]
        bad = np.array([not fits(value) for value in values], dtype=bool)
        kind = Kind.CATEGORY if self.name == "categories" else Kind.ENTRY

        def describe(index: int) -> str:
            found = reprlib.repr(self.rows[index][key]) if key in self.rows[index] else "missing"
            return f"{self.name}[{index}].{key} is {found}, not {expected}"

        self._problems.add(kind, bad, self._file, describe, self._position)
        self._readable &= ~bad
        self.good &= ~bad
        for index in np.flatnonzero(bad):
            values[index] = filler
        return values

    def integers(self, key: str, default: int | None = None) -> np.ndarray:
        """`key` of every entry: (len(rows),) int64."""
        return np.array(self.column(key, "int", _is_integer, _NO_ID, default), np.int64)


def _read_tables(file: Path) -> dict[str, Rows]:
    """The lists of images, annotations and categories of a COCO file."""

    def refuse(what: str, mend: str, position: Position | None = None) -> NoReturn:
        raise SetError(Problem(Kind.SET, file, what, mend, lambda: position))

    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        refuse("no such annotation file", "set data.root and data.*_annotations")
    except OSError as error:
        refuse(f"cannot be read ({error.strerror})", "restore the file")
    except json.JSONDecodeError as error:
        refuse(f"is not JSON ({error.msg})", "restore the file", Position(error.lineno, error.colno))
    except (ValueError, RecursionError) as error:  # not text at all, or brackets without end
        refuse(f"is not JSON ({error})", "restore the file")
    if not isinstance(content, dict):
        refuse(f"is not a COCO file: a {type(content).__name__} where an object should be", "convert it")
    tables = {}
    for key in ("images", "annotations", "categories"):
        rows = content.get(key)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            refuse(f"is not a COCO instances file: '{key}' is not a list of objects", "convert it")
        if not rows and key != "annotations":
            refuse(f"has no {key}", "write them into the file")
        tables[key] = rows
    return tables


def _is_integer(value: Any) -> bool:
    return type(value) is int and -(2**63) < value < 2**63


def _is_number(value: Any) -> bool:
    return type(value) is float or _is_integer(value)


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_name(value: Any) -> bool:
    return _is_text(value) and bool(value) and not _NOT_IN_NAMES.search(value)


def _is_box(value: Any) -> bool:
    return type(value) is list and len(value) == 4 and all(map(_is_number, value))


def _read_categories(table: _Table) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Ids, ascending, and names of the categories; none of them can be left out."""
    ids = table.integers("id")
    names = table.column("name", "str", _is_text, "")
    table.note(Kind.CATEGORY, _repeated(ids), lambda i: f"category id {ids[i]} is used twice")
    pairs = sorted((int(ids[i]), names[i]) for i in np.flatnonzero(table.good))
    return tuple(i for i, _ in pairs), tuple(name for _, name in pairs)


def _check_images(table: _Table, ids: np.ndarray, sizes: np.ndarray) -> None:
    """Require an id of its own and a size of every image."""
    empty = (sizes < 1).any(axis=1)
    table.note(Kind.REPEATED, _repeated(ids), lambda i: f"image id {ids[i]} is used twice")
    table.note(Kind.NO_SIZE, empty, lambda i: f"image {ids[i]} has width {sizes[i, 1]} and height {sizes[i, 0]}")


def _check_references(
    table: _Table,
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


def _check_boxes(
    table: _Table,
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
