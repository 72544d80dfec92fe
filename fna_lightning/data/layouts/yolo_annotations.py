"""Label files of YOLO, read into the arrays of COCO's annotations and checked completely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import repeat
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fna_lightning.data.checking.checks import THREADS
from fna_lightning.data.checking.folders import near
from fna_lightning.data.checking.headers import ImageError
from fna_lightning.data.checking.images import EXTENSIONS, read_header
from fna_lightning.data.checking.problems import Kind, Position, Problem, Problems, SetError
from fna_lightning.data.layouts.annotations import CocoAnnotations
from fna_lightning.data.layouts.boxes import box_faults, repeated
from fna_lightning.data.layouts.yolo_text import YoloLabels, YoloObject, parse_labels

_CHUNK = 64  # files
_SHOWN = 3  # of many


class _File(NamedTuple):
    """What a picture and its label file say, or what is the matter with them."""

    size: tuple[int, int] | ImageError
    """Height and width."""
    labels: YoloLabels | str | None
    """None where there is no label file; a text where it cannot be read."""


class _Found(NamedTuple):
    """All objects of all pictures."""

    objects: list[YoloObject]
    """M of them."""
    files: list[Path]
    """Where each stands."""
    boxes: np.ndarray
    """(M, 4) float64: left, top, width, height in pixels."""


def label_file(picture: Path, root: Path) -> Path:
    """Where the labels of a picture are: its last folder `images` within the set is `labels`, else beside it."""
    inside = picture.relative_to(root).parts if picture.is_relative_to(root) else picture.parts
    folders = list(inside[:-1])
    if "images" in folders:
        place = len(folders) - 1 - folders[::-1].index("images")
        folders[place] = "labels"
    return root.joinpath(*folders, picture.stem + ".txt")


def read_yolo(
    root: Path, source: Path, pictures: Sequence[Path], classes: Mapping[int, str], problems: Problems
) -> CocoAnnotations:
    """Read and check the label files of some pictures.

    Args:
        root: Folder of the set; file names will be relative to it.
        source: Where the set is described.
        pictures: Their files; images are in this order, with ids counted from 1.
        classes: Number -> name of every class, ascending. The numbers are the category ids.
        problems: Takes in what is wrong with pictures, label files and lines, and decides whether it is left out.

    Returns:
        The images and boxes, in pixels.

    Raises:
        DataError: Nothing is usable, or something is broken and may not be left out.
    """
    pictures = _distinct(source, pictures, problems)
    files = [label_file(picture, root) for picture in pictures]
    with ThreadPool(THREADS) as pool:
        read = pool.starmap(_read, zip(pictures, files, repeat(frozenset(classes))), _CHUNK)
    readable = np.array([_note_file(*row, problems) for row in zip(pictures, files, read, strict=True)], bool)
    if all(item.labels is None for item in read):
        what = f"no picture has a label file: there is no {files[0]}"
        raise SetError(
            Problem(Kind.SET, source, what, "put them beside the pictures, or into labels beside images")
        )
    _note_lone_labels(pictures, files, problems)
    rows = [
        (index, item)
        for index, file in enumerate(read)
        if readable[index] and isinstance(file.labels, YoloLabels)
        for item in file.labels.objects
    ]
    sizes = np.array([(0, 0) if isinstance(file.size, ImageError) else file.size for file in read], np.int64)
    image_of = np.array([index for index, _ in rows], np.int64)
    labels = np.searchsorted(list(classes), [item.category for _, item in rows])
    boxes = np.array([item.box for _, item in rows], np.float64).reshape(-1, 4)
    boxes *= np.tile(sizes[image_of][:, ::-1], 2)
    found = _Found([item for _, item in rows], [files[index] for index in image_of], boxes)
    good = _check_boxes(found, np.column_stack([image_of, labels, boxes]), sizes[image_of], problems)
    _note_polygons(found, problems)
    for number, usable, of_what in ((len(pictures), readable, "pictures"), (len(rows), good, "objects")):
        if number and not usable.any():
            problems.append(Problem(Kind.SET, source, f"none of the {number} {of_what} is usable", "correct them"))
    problems.settle()
    names = [picture.relative_to(root) if picture.is_relative_to(root) else picture for picture in pictures]
    file_names = np.array([name.as_posix().encode(errors="replace") for name in names])
    everything = CocoAnnotations(
        file=source,
        category_ids=tuple(classes),
        category_names=tuple(classes.values()),
        image_ids=np.arange(1, len(pictures) + 1),
        file_names=file_names,
        sizes=sizes,
        annotation_ids=np.arange(1, len(rows) + 1),
        image_of=image_of,
        labels=labels.astype(np.int64),
        boxes=boxes,
        areas=boxes[:, 2] * boxes[:, 3],
        crowd=np.zeros(len(rows), dtype=bool),
        listed=file_names,
    )
    return everything.keep(readable, good)


def _read(picture: Path, file: Path, categories: frozenset[int]) -> _File:
    try:
        size: tuple[int, int] | ImageError = read_header(picture).size
    except ImageError as error:
        size = error
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return _File(size, None)
    except (OSError, UnicodeDecodeError) as error:
        return _File(size, f"cannot be read ({error})")
    return _File(size, parse_labels(text, categories))


def _distinct(source: Path, pictures: Sequence[Path], problems: Problems) -> list[Path]:
    """Each picture once; others are noted."""
    seen = dict.fromkeys(pictures)
    if len(seen) < len(pictures):
        what = f"{len(pictures) - len(seen)} picture(s) come twice in a split, which takes each once"
        problems.append(Problem(Kind.TWICE, source, what))
    return list(seen)


def _note_file(picture: Path, file: Path, item: _File, problems: Problems) -> bool:
    """Note what is wrong with a picture and the lines of its label file; returns whether it can be used."""
    if isinstance(item.size, ImageError):
        found = near(picture) if item.size.kind is Kind.MISSING else None
        mend = f"there is {found}: write its name as it is" if found else ""
        problems.append(Problem(item.size.kind, picture, str(item.size), mend))
    if isinstance(item.labels, str):
        problems.append(Problem(Kind.NO_ANNOTATION, file, item.labels, "restore it"))
    elif item.labels is None:
        problems.append(Problem(Kind.NO_OBJECT, picture, f"has no label file {file}, and stands for background"))
    else:
        for fault in item.labels.faults:
            place = partial(Position, fault.line, None)
            problems.append(Problem(fault.kind, file, fault.what, fault.mend, place))
        if not item.labels.objects and not item.labels.faults:
            problems.append(Problem(Kind.NO_OBJECT, file, "has no object, and stands for background"))
    return not isinstance(item.size, ImageError) and not isinstance(item.labels, str)


def _note_lone_labels(pictures: Sequence[Path], files: Sequence[Path], problems: Problems) -> None:
    """Note the label files that no picture in their folder has, of whatever split; a line a folder."""
    folders = {file.parent: picture.parent for picture, file in zip(pictures, files, strict=True)}
    for labels, images in folders.items():
        if labels == images or not labels.is_dir() or not images.is_dir():
            continue
        known = {path.stem for path in images.iterdir() if path.suffix.lower() in EXTENSIONS}
        alone = sorted(path.name for path in labels.glob("*.txt") if path.stem not in known | {"classes"})
        if alone:
            names = ", ".join(alone[:_SHOWN]) + (", ..." if len(alone) > _SHOWN else "")
            what = f"{len(alone)} label file(s) have no picture in {images}: {names}"
            problems.append(Problem(Kind.NO_PICTURE, labels, what))


def _note_polygons(found: _Found, problems: Problems) -> None:
    """Note, all in one line, objects that are polygons."""
    polygons = [place for place, item in enumerate(found.objects) if item.is_polygon]
    if polygons:
        what = (
            f"{len(polygons)} object(s) are polygons, the first from here on, and taken as the boxes around them"
        )
        place = partial(Position, found.objects[polygons[0]].line, None)
        problems.append(Problem(Kind.POLYGONS, found.files[polygons[0]], what, position=place))


def _check_boxes(found: _Found, objects: np.ndarray, sizes: np.ndarray, problems: Problems) -> np.ndarray:
    """Note boxes that cannot be, or that come twice.

    Args:
        found: The objects.
        objects: (M, 6) float64: image, label and box of each.
        sizes: (M, 2): height and width of its picture.
        problems: Takes them in.

    Returns:
        (M,) bool: the good objects.
    """
    good = np.ones(len(found.objects), dtype=bool)

    def note(kind: Kind, bad: np.ndarray, fault: str) -> None:
        for index in np.flatnonzero(bad).tolist():
            left, top, width, height = found.boxes[index].round(2).tolist()
            edge = f" of {sizes[index, 1]}x{sizes[index, 0]} (width x height)" if kind is Kind.OUTSIDE else ""
            what = (
                f"has the box [{left:g}, {top:g}, {width:g}, {height:g}] (left, top, width, height) {fault}{edge}"
            )
            place = partial(Position, found.objects[index].line, None)
            problems.append(Problem(kind, found.files[index], what, position=place))
        if kind.severity == "error":
            good[bad] = False

    note(Kind.REPEATED_BOX, repeated(objects), "of a line before, and its class")
    for kind, bad, fault in box_faults(found.boxes, sizes):
        note(kind, np.asarray(bad), fault)
    return good
