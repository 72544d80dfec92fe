"""Folders of a data set: that they are there, and that all pictures in them are used."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from fna_lightning.data.checking.images import EXTENSIONS
from fna_lightning.data.checking.problems import Kind, Problem, Problems, SetError

PICTURES = EXTENSIONS | {".gif", ".jfif", ".jp2", ".heic", ".avif"}
"""Files that people take for pictures, whether they are read or not."""
_SPLIT = re.compile(r"(train|valid|val|test|dev|demovideo|extra|unlabell?ed)(?![a-z])|.*_(train|val|test)$", re.I)
_NAMED = 3  # files of many


def check_root(root: Path, wanted: Path) -> None:
    """Require the folder of a set, `data.root`, and say where the set lies if that is close by.

    Args:
        root: The folder.
        wanted: A file or folder of the set, in `root` unless its own setting is absolute.

    Raises:
        DataError: `root` does not exist or is empty, or `wanted` lies in its parent, a sibling or a child instead.
    """
    if wanted.is_relative_to(root) and not wanted.exists():
        inside = wanted.relative_to(root)
        for other in _around(root):
            if (other / inside).exists():
                what = f"no such file or folder, but there is {other / inside}"
                raise SetError(Problem(Kind.SET, wanted, what, f"set data.root={other}"))
    check_folder(root, "root")


def check_folder(folder: Path, key: str) -> None:
    """Require that `folder`, set by the config key `data.<key>`, exists and holds something.

    Raises:
        DataError: It does not.
    """
    mend = f"set data.{key} to where the data set lies"
    if not folder.is_dir():
        raise SetError(Problem(Kind.SET, folder, "no such folder", mend))
    with os.scandir(folder) as entries:
        if next(entries, None) is None:
            raise SetError(Problem(Kind.SET, folder, "the folder is empty", mend))


def beside(folders: Iterable[Path]) -> list[Path]:
    """The folders next to some that are called as splits are, without those that hold one of them.

    By their names, because anything may lie there: a set may be in its user's home.
    """
    given = {Path(os.path.abspath(folder)) for folder in folders}  # noqa: PTH100 - links stay
    found: set[Path] = set()
    for parent in {folder.parent for folder in given}:
        with contextlib.suppress(OSError):
            found |= {path for path in parent.iterdir() if _SPLIT.match(path.name) and path.is_dir()}
    return sorted(path for path in found if not any(folder.is_relative_to(path) for folder in given))


def note_unused(folders: Iterable[Path], used: Collection[str], problems: Problems, ending: str = "") -> None:
    """Note the folders with pictures, in them or below, that nobody speaks of; a line each.

    Args:
        folders: Where a set's pictures lie; one inside another is looked through once.
        used: Absolute paths of what is listed in either split, usable or not.
        problems: Takes them in.
        ending: With which the names of pictures end.
    """
    outer: list[Path] = []
    for folder in sorted({Path(os.path.abspath(folder)) for folder in folders}):  # noqa: PTH100 - links stay
        if not any(folder.is_relative_to(other) for other in outer):
            outer.append(folder)
    for folder in outer:
        unused = sorted(path for path in _pictures(folder) if path not in used and path.endswith(ending))
        if unused:
            names = ", ".join(os.path.relpath(path, folder) for path in unused[:_NAMED])
            more = ", ..." if len(unused) > _NAMED else ""
            what = f"{len(unused)} picture(s) are in neither split, and not used: {names}{more}"
            problems.append(Problem(Kind.UNUSED, folder, what))


def files_below(folder: Path) -> Iterator[str]:
    """Files in `folder` and anywhere below, links to folders followed; relative to it, in no order."""
    for place, _, names in os.walk(folder, followlinks=True):
        start = os.path.relpath(place, folder)
        yield from (name if start == "." else f"{start}/{name}" for name in names)


def ends_in(name: str, endings: Collection[str]) -> bool:
    """Whether a file's name ends in one of `endings`, such as ".jpg", capital letters or not."""
    return os.path.splitext(name)[1].lower() in endings  # noqa: PTH122 - a million of them


def _around(root: Path) -> Iterator[Path]:
    """Folders in which a set may lie whose root was given as `root`: its parent, children and siblings."""
    yield root.parent
    for folder in (root, root.parent):
        with contextlib.suppress(OSError):
            yield from itertools.islice(sorted(path for path in folder.iterdir() if path.is_dir()), 100)
    yield root.parent.parent


def _pictures(folder: Path) -> Iterator[str]:
    for name in files_below(folder):
        if ends_in(name, PICTURES) and "/." not in f"/{name}":
            yield f"{folder}/{name}"
