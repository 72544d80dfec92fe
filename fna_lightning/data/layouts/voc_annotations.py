"""Image sets of Pascal VOC, read into the arrays of COCO's annotations and checked completely."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

import numpy as np

from fna_lightning.data.checking.checks import THREADS
from fna_lightning.data.checking.folders import near, there_are
from fna_lightning.data.checking.problems import Kind, Position, Problem, Problems, SetError
from fna_lightning.data.layouts.annotations import CocoAnnotations
from fna_lightning.data.layouts.boxes import Mask, are_fractions, box_faults, repeated
from fna_lightning.data.layouts.voc_xml import CORNERS, VocImage, VocObject, XmlError, parse_annotation

_CHUNK = 64  # files
_OF_CLASS = re.compile(r"\s(-1|0|1)$")


class _Entry(NamedTuple):
    """One line of an image set."""

    folder: str
    """The year's folder, relative to the root."""
    name: str
    """The image's."""
    file: Path
    """Its annotations."""


class _Boxes(NamedTuple):
    """All objects of all images, before they are checked."""

    objects: list[VocObject]
    """M of them."""
    files: list[Path]
    """Where each stands."""
    image_of: np.ndarray
    """(M,) int64, ascending."""
    boxes: np.ndarray
    """(M, 4) float64: left, top, width, height."""


def read_image_sets(
    root: Path, sets: Sequence[str], key: str, classes: Sequence[str] | None, one_based: bool, problems: Problems
) -> CocoAnnotations:
    """Read and check some image sets and the annotations of their images.

    Args:
        root: To which the folders in `sets` are relative; file names will be too.
        sets: `<folder>/<name>` for the list `<folder>/ImageSets/Main/<name>.txt`; images are in the order of the
            lists, with ids counted from 1.
        key: The setting of `data` that holds `sets`.
        classes: The names that labels 0, 1, 2... stand for; None for those in the files, sorted. Category ids
            are one more than labels.
        one_based: Corners count pixels from 1, the last one included, as in VOC. Otherwise they are taken as
            they stand: distances from the image's left upper corner.
        problems: Takes in what is wrong with single images and objects, and decides whether that is left out.

    Returns:
        The images and boxes; difficult objects are marked as crowds.

    Raises:
        DataError: A list is missing or empty, nothing is usable, or something is broken and may not be left out.
    """
    source = list_file(root, sets[0])
    entries = _distinct(root, sets, key, problems)
    images = _read_all(root, entries, problems)
    found = _collect(entries, images, one_based)
    names = tuple(sorted({item.name for item in found.objects}) if classes is None else classes)
    if not names and any(images):
        problems.settle()
        raise SetError(
            Problem(Kind.SET, source, "lists no image with objects", "name the classes by data.classes")
        )
    sizes = np.array([image.size if image else (0, 0) for image in images], np.int64)
    good = _check_objects(found, names, sizes, problems)
    if one_based:
        _note_border(found, problems)
    readable = np.array([image is not None for image in images])
    for number, usable, of_what in ((len(entries), readable, "images"), (len(found.objects), good, "objects")):
        if number and not usable.any():
            what = f"none of the {number} {of_what} is usable"
            problems.append(Problem(Kind.SET, source, what, "correct their annotations or data.classes"))
    problems.settle()
    label_of = {name: label for label, name in enumerate(names)}
    file_names = np.array([_picture(root, *pair).encode() for pair in zip(entries, images, strict=True)])
    everything = CocoAnnotations(
        file=source,
        category_ids=tuple(range(1, len(names) + 1)),
        category_names=names,
        image_ids=np.arange(1, len(entries) + 1),
        file_names=file_names,
        sizes=sizes,
        annotation_ids=np.arange(1, len(found.objects) + 1),
        image_of=found.image_of,
        labels=np.array([label_of.get(item.name, 0) for item in found.objects], np.int64),
        boxes=found.boxes,
        areas=found.boxes[:, 2] * found.boxes[:, 3],
        crowd=np.array([item.difficult for item in found.objects], dtype=bool),
        listed=file_names,
    )
    return everything.keep(readable, good)


def corners_to_boxes(corners: np.ndarray, one_based: bool) -> np.ndarray:
    """Boxes as left, top, width, height of the corners xmin, ymin, xmax, ymax of a VOC file.

    The pixel that is number n, counted from 1, reaches from n - 1 to n; a box from pixel a to pixel b therefore
    from a - 1 to b.

    Args:
        corners: (M, 4) float.
        one_based: Whether they number pixels so. If not, they are distances already.
    """
    start = corners[:, :2] - one_based
    return np.concatenate([start, corners[:, 2:] - start], axis=1)


def list_file(root: Path, name: str) -> Path:
    """The file of the image set `<folder>/<split>` or `<split>` below `root`."""
    folder, _, split = name.rpartition("/")
    return root / folder / "ImageSets" / "Main" / f"{split}.txt"


def _distinct(root: Path, sets: Sequence[str], key: str, problems: Problems) -> list[_Entry]:
    """The images of all lists, those that came before left out and noted."""
    entries: dict[Path, _Entry] = {}
    for name in sets:
        file, folder = list_file(root, name), name.rpartition("/")[0]
        for line, image in _lines(file, key):
            entry = _Entry(folder, image, root / folder / "Annotations" / f"{image}.xml")
            if entries.setdefault(entry.file, entry) is not entry:
                place = partial(Position, line, None)
                problems.append(Problem(Kind.REPEATED, file, f"{image} is listed twice", "remove one", place))
    return list(entries.values())


def _lines(file: Path, key: str) -> Iterator[tuple[int, str]]:
    """Numbers and content of the lines that are not blank."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        mend = f"set data.root to the folder that holds those of the years, and data.{key}"
        mend += there_are(file.parent, ".txt")
        raise SetError(Problem(Kind.SET, file, "no such image set", mend)) from None
    except UnicodeDecodeError as error:
        what = f"cannot be read (byte {error.start} is no text in UTF-8: {error.reason})"
        raise SetError(Problem(Kind.SET, file, what, "restore the file or save it in UTF-8")) from None
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise SetError(Problem(Kind.SET, file, what, "restore the file")) from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise SetError(Problem(Kind.SET, file, "lists no images", "write their names into it, one a line"))
    if all(_OF_CLASS.search(line) for _, line in lines):
        what = "is the list of a class, with 1, -1 or 0 behind every name"
        raise SetError(Problem(Kind.SET, file, what, f"give the list of all images by data.{key}"))
    yield from lines


def _read_all(root: Path, entries: Sequence[_Entry], problems: Problems) -> list[VocImage | None]:
    """What the annotation files say; None where a file cannot be used. Problems are noted in the files' order."""
    images: list[VocImage | None] = []
    # Only reading is left to threads: it waits for the disk, whereas parsing holds the interpreter.
    with ThreadPool(THREADS) as pool:
        for entry, content in zip(entries, pool.imap(partial(_content, root), entries, _CHUNK), strict=True):
            try:
                if isinstance(content, XmlError):
                    raise content
                image = parse_annotation(content, entry.name)
            except XmlError as error:
                images.append(None)
                problems.append(_problem(error, entry.file))
                continue
            images.append(image)
            for fault in image.faults:
                problems.append(_problem(fault, entry.file))
            if not image.objects and not image.faults:
                problems.append(Problem(Kind.NO_OBJECT, entry.file, "has no object, and stands for background"))
    return images


def _content(root: Path, entry: _Entry) -> bytes | XmlError:
    try:
        return entry.file.read_bytes()
    except FileNotFoundError:
        bare = PureWindowsPath(entry.name)  # which knows both kinds of separators
        folder = root / entry.folder / "Annotations"
        found = near(folder / bare.name) or near(folder / bare.stem)
        mend = f"there is {found}: write its name, without the ending, into the list" if found else ""
        return XmlError(Kind.NO_ANNOTATION, "is missing", mend=mend)
    except (OSError, ValueError) as error:  # the latter for a name that no file system has
        return XmlError(Kind.NO_ANNOTATION, f"cannot be read ({error})")


def _problem(error: XmlError, file: Path) -> Problem:
    place = None if error.line is None else partial(Position, error.line, None)
    return Problem(error.kind, file, error.what, error.mend, place)


def _picture(root: Path, entry: _Entry, image: VocImage | None) -> str:
    """File name relative to `root`; where the annotations cannot be read, that of whatever is called so."""
    name = image.picture if image else entry.name
    if image is None:
        found = near(root / entry.folder / "JPEGImages" / name)
        name = found or name
    return "/".join(filter(None, [entry.folder, "JPEGImages", name]))


def _collect(entries: Sequence[_Entry], images: Sequence[VocImage | None], one_based: bool) -> _Boxes:
    rows = [(index, item) for index, image in enumerate(images) if image for item in image.objects]
    corners = np.array([item.corners for _, item in rows], np.float64).reshape(-1, 4)
    return _Boxes(
        [item for _, item in rows],
        [entries[index].file for index, _ in rows],
        np.array([index for index, _ in rows], np.int64),
        corners_to_boxes(corners, one_based),
    )


def _numbers(objects: Sequence[VocObject]) -> np.ndarray:
    """(M,) int64: one number a class."""
    number: dict[str, int] = {}
    return np.array([number.setdefault(item.name, len(number)) for item in objects], np.int64)


def _note_border(found: _Boxes, problems: Problems) -> None:
    """Note, all in one line, boxes whose first pixel would be number 0 where pixels count from 1."""
    before = np.flatnonzero((found.boxes[:, :2] == -1).any(axis=1))
    if len(before):
        what = f"{len(before)} object(s) have a corner at 0, the first from here on, though corners count from 1"
        line = partial(Position, found.objects[before[0]].line, None)
        problems.append(Problem(Kind.BORDER, found.files[before[0]], what, position=line))


def _check_objects(found: _Boxes, classes: Sequence[str], sizes: np.ndarray, problems: Problems) -> np.ndarray:
    """Note objects of other classes and boxes that cannot be.

    Returns:
        (M,) bool: the good objects.
    """
    size = sizes[found.image_of]
    good = np.ones(len(found.objects), dtype=bool)

    def note(kind: Kind, bad: Mask, what: str, mend: str = "") -> None:
        for index in np.flatnonzero(bad).tolist():
            item = found.objects[index]
            box = ", ".join(f"{key} {value:g}" for key, value in zip(CORNERS, item.corners, strict=True))
            edge = f" of {size[index, 1]}x{size[index, 0]} (width x height)" if kind is Kind.OUTSIDE else ""
            words = what.format(name=repr(item.name), box=box) + edge
            problems.append(Problem(kind, found.files[index], words, mend, partial(Position, item.line, None)))
        if kind.severity == "error":
            good[bad] = False

    known = set(classes)
    unknown = np.array([item.name not in known for item in found.objects], dtype=bool)
    note(
        Kind.NO_CATEGORY,
        unknown,
        f"object {{name}} is of none of the {len(classes)} classes",
        "correct it or set data.classes, to null for the classes in the files",
    )
    if are_fractions(np.array([item.corners for item in found.objects], np.float64).reshape(-1, 4)):
        corners = found.objects[0].corners
        what = f"most of the {len(found.boxes)} boxes lie within a single pixel; the first has corners {corners}"
        problems.append(Problem(Kind.FRACTIONS, found.files[0], what))
    again = repeated(np.column_stack([found.image_of, _numbers(found.objects), found.boxes]))
    note(Kind.REPEATED_BOX, again & ~unknown, "object {name} has the box {box} of one before")
    for kind, bad, fault in box_faults(found.boxes, size):
        note(kind, bad & ~unknown, f"object {{name}} has the box {{box}} {fault}")
    return good
