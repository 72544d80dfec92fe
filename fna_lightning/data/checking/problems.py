"""What can be wrong with a data set, in words, and what follows from it for training."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from lightning.pytorch.utilities import rank_zero_only

from fna_lightning.errors import DataError

log = logging.getLogger(__name__)

Severity = Literal["error", "notice"]


class Kind(Enum):
    """One kind of problem, with the mend that goes without saying.

    An error is refused in training, or left out if `data.on_error` is `skip` and the set can be used without
    the item. A notice is read, but perhaps not as expected.
    """

    SET = "parts that cannot be used", "error", "restore them", False
    CLASSES = "classes that differ between the sets", "error", "give both the same", False
    CATEGORY = "broken categories", "error", "correct it", False
    EMPTY_CLASS = "classes without pictures", "error", "add some or remove the class from both sets", False
    ENTRY = "malformed entries", "error", "correct it"
    NO_ANNOTATION = "images without an annotation file", "error", "restore it or remove it from the image set"
    REPEATED = "ids used twice", "error", "give every entry its own"
    NO_IMAGE = "boxes of unknown images", "error", "correct it or remove the annotation"
    NO_CATEGORY = "boxes of unknown categories", "error", "correct it or remove the annotation"
    NO_SIZE = "images of no size", "error", "correct it"
    NOT_FINITE = "boxes with numbers that are not finite", "error", "correct it or remove the annotation"
    FRACTIONS = (
        "boxes that are fractions of their image",
        "error",
        "multiply them by its width and height: boxes are in pixels",
        False,
    )
    CONVENTION = "boxes of another convention", "error", "write them as left, top, width, height", False
    FLAT = "boxes of no area", "error", "correct it or remove the annotation"
    OUTSIDE = "boxes outside their image", "error", "correct it or remove the annotation"
    TWO_TRUTHS = "pictures listed twice with other boxes", "error", "keep the right entry"
    MISSING = "missing pictures", "error", "restore it or remove its entry"
    EMPTY = "empty pictures", "error", "restore it"
    TRUNCATED = "truncated pictures", "error", "restore it"
    CORRUPT = "corrupt pictures", "error", "restore it"
    UNSUPPORTED = "pictures that cannot be decoded", "error", "convert it to RGB of 8 bits per channel, as PNG"
    WRONG_SIZE = "pictures of another size than annotated", "error", "restore it or correct the annotations"
    TURNED = "pictures annotated as turned by their tag", "error", "turn its pixels and remove the tag"
    NO_LABELS = "pictures without a label file", "error", "restore it or remove the picture"
    NO_INDICES = "label files that are not 8-bit grayscale", "error", "save indices as 8-bit grayscale"
    LOSSY = "label files in a lossy format", "error", "save it anew from its source, as PNG"
    LABEL_SIZE = "label files of another size than their picture", "error", "restore the two"
    LABEL_ID = "label files with unknown ids", "error", "correct it or add the id to data.classes or data.ignored"
    LABEL_COLOUR = (
        "label files with unknown colours",
        "error",
        "correct it or add the colours to data.colours or data.ignored",
    )
    LEAK = "validation pictures that are trained on", "error", "remove it from one of the two sets"
    TINY = "boxes smaller than a pixel", "notice", "correct it if it is a fraction of the image"
    CORNERS = "boxes that may be corners", "notice", "if they are, write them as left, top, width, height"
    BORDER = (
        "boxes that begin before the first pixel",
        "notice",
        "set data.one_based=false if they count from 0",
    )
    REPEATED_BOX = "boxes annotated twice", "notice", "remove one"
    IGNORE = "objects marked as ignore", "notice", "mark them as iscrowd if they are not to be learnt"
    TRAIN_IDS = (
        "label files that seem to hold trainIds",
        "notice",
        "set data.classes to the ids in the files",
    )
    BLENDED = (
        "label files that seem to be interpolated",
        "notice",
        "resize it anew by the nearest pixel, unless such ids are meant, as those of outlines",
    )
    AREA = "objects of an impossible area", "notice", "correct or remove the area"
    TWICE = "pictures listed twice with the same boxes", "notice", "keep one entry"
    COPY = "copies of a picture in one split", "notice", "keep one of them"
    OTHER_COPY = "copies of a picture with other annotations", "notice", "keep the right one"
    SAME_NAME = "categories of one name", "notice", "give every category its own, or merge the two"
    UNUSED = "folders with pictures that no split lists", "notice", "list them if they are meant to be used"
    NO_OBJECT = "images without objects", "notice", "annotate it if it shows any"
    POLYGONS = "label files with polygons", "notice", "nothing, if boxes are what shall be learnt"
    NO_PICTURE = "label files without a picture", "notice", "restore the picture if it is meant to be in the set"
    UNSEEN_CLASS = "classes that training never meets", "notice", "label some or take the class out of both sets"
    SURPLUS = "pictures with damaged data that decode", "notice", "look at it, and restore it if it is disturbed"
    ROTATED = (
        "pictures with an orientation tag",
        "notice",
        "if it was annotated as viewers show it, turn its pixels and remove the tag",
    )
    TURNED_TIFF = (
        "TIFFs turned by their orientation tag",
        "notice",
        "if it was annotated as stored, remove the tag",
    )
    FRAMES = "pictures of several frames", "notice", "save the frame that was annotated as a file of its own"
    STRIP = "pictures of an extreme ratio", "notice", "cut it into parts if what it shows is to be learnt"
    GRAYSCALE = "grayscale pictures", "notice", "restore its colours if it had any"
    CMYK = "CMYK pictures", "notice", "convert it to RGB yourself if exact colours matter"
    DEEP = "pictures of more than 8 bits", "notice", "scale it to 8 bits yourself if it uses part of its range"
    TRANSPARENT = "transparent pictures", "notice", "put it on a ground if these colours are not meant to be seen"

    def __init__(self, title: str, severity: Severity, mend: str, skippable: bool = True) -> None:
        self.title = title
        self.severity: Severity = severity
        self.mend = mend
        self.skippable = skippable


@rank_zero_only
def warn(message: str, *values: object) -> None:
    """Log a warning, on the first process only: all processes find the same."""
    log.warning(message, *values)


@rank_zero_only
def tell(message: str, *values: object) -> None:
    """Log what was found and taken, on the first process only."""
    log.info(message, *values)


class Position(NamedTuple):
    """Where in a file something begins, both counted from 1."""

    line: int
    column: int | None
    """None where nothing else stands before it on its line."""


@dataclass(frozen=True)
class Problem:
    """One case of something wrong."""

    kind: Kind
    path: Path
    """The file or folder."""
    what: str
    """What is the matter with it, to follow the path and a colon."""
    mend: str = ""
    """How to mend it, if the kind's own words do not fit."""
    position: Callable[[], Position | None] | None = None
    """Finds the place in the file; called only if it is to be shown, because the file is read again for it."""

    @property
    def advice(self) -> str:
        """How to mend it."""
        return self.mend or self.kind.mend

    def place(self) -> Position | None:
        """The place in the file, where that is known."""
        return self.position() if self.position else None

    def where(self) -> str:
        """`path`, `path:line` or `path:line:column`."""
        numbers = [str(number) for number in self.place() or () if number is not None]
        return ":".join([str(self.path), *numbers])


def printable(text: str) -> str:
    """`text` on one line that every terminal takes: what breaks lines or is no character is written out."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode()
        for letter in text
    )


class SetError(DataError):
    """A data set that cannot be used at all, or not without what is wrong.

    Args:
        problem: What is wrong; `path: what; mend` becomes the message.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(printable(f"{problem.where()}: {problem.what}; {problem.advice}"))
        self.problem = problem


class Problems:
    """Collects what is wrong in one split, to stop at it, to leave it out or to list it.

    Args:
        on_error: `raise` or `skip`, as in the configuration; or `list`, which never stops before everything
            is found.
    """

    def __init__(self, on_error: str) -> None:
        self._on_error = on_error
        self._found: list[Problem] = []

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def append(self, problem: Problem) -> None:
        """Note one problem."""
        self._found.append(problem)

    def add(
        self,
        kind: Kind,
        bad: np.ndarray | np.bool_,
        path: Path,
        describe: Callable[[int], str],
        position: Callable[[int], Callable[[], Position | None]] | None = None,
    ) -> None:
        """Note the items of the file `path` where `bad` (N,) bool holds.

        Args:
            kind: Of all of them.
            bad: (N,) bool.
            path: The file they stand in.
            describe: Puts item i into words.
            position: Gives what finds item i in the file.
        """
        for index in np.flatnonzero(bad).tolist():
            finder = position(index) if position else None
            self._found.append(Problem(kind, path, describe(index), position=finder))

    def settle(self) -> None:
        """Stop at the first error that may not be left out.

        Raises:
            DataError: There is one.
        """
        if self._on_error == "list":
            return
        errors = [problem for problem in self._found if problem.kind.severity == "error"]
        refused = [problem for problem in errors if self._on_error == "raise" or not problem.kind.skippable]
        if not refused:
            return
        first, others = refused[0], len(refused) - 1
        more = f" (and {others} more problem{'s' * (others > 1)})" if others else ""
        skip = " or set data.on_error=skip to leave it out" if first.kind.skippable else ""
        raise DataError(printable(f"{first.where()}: {first.what}{more}; {first.advice}{skip}"))

    def left_out(self) -> dict[str, int]:
        """How many items of each kind, by its title, training does without."""
        return dict(Counter(problem.kind.title for problem in self._found if problem.kind.severity == "error"))

    def warn(self, split: str) -> None:
        """Log one line for each kind."""
        first = {problem.kind: problem for problem in reversed(self._found)}
        counts = Counter(problem.kind for problem in self._found)
        for kind, problem in sorted(first.items(), key=lambda item: list(Kind).index(item[0])):
            error = kind.severity == "error"
            words = f"left out {counts[kind]} item(s), {kind.title}" if error else f"{kind.title} ({counts[kind]})"
            first_one = printable(f"{problem.path}: {problem.what}")
            warn("%s set: %s; the first: %s", split, words, first_one)
