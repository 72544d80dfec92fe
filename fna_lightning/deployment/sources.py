"""The pictures and videos that a user names: files, folders and patterns."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fna_lightning.data.checking.folders import PICTURES, ends_in, files_below
from fna_lightning.errors import DataError

VIDEOS = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})
"""How files end that are taken for videos."""


@dataclass(frozen=True)
class Source:
    """A file with one picture or more."""

    path: Path
    file_name: str
    """The path relative to the folder that was named."""
    name: str
    """What is written for it is called so, but for folder and ending; no other source has it."""

    @property
    def is_video(self) -> bool:
        """Whether it has frames."""
        return ends_in(self.path.name, VIDEOS)


def find_sources(places: Iterable[str], output: Path) -> list[Source]:
    """All pictures and videos of some places, sorted within each; a file that several name comes once.

    A file is taken whatever its name ends in, from folders and by patterns those with the ending of a picture or
    video. Names are those of the files, with the folders below the place: the second of two that would have one
    name gets a number. What lies in `output` is left out, as it was written by an earlier call.

    Args:
        places: files, folders, and patterns as shells know them, with ** for folders at any depth.
        output: where results are written.

    Raises:
        DataError: there is no such place, or it has no pictures.
    """
    written = Path(os.path.realpath(output))
    sources: list[Source] = []
    known: set[str] = set()
    taken: set[str] = set()
    for place in places:
        found = [(path, name) for path, name in _files(place) if not _lies_in(path, written)]
        if not found:
            raise DataError(f"{place}: holds no picture or video but those in {output}; give others")
        for path, file_name in found:
            real = os.path.realpath(path)
            if real not in known:
                known.add(real)
                sources.append(Source(path, file_name, _free_name(file_name, taken)))
    return sources


def _files(place: str) -> list[tuple[Path, str]]:
    """The files of a place, each with its name relative to the folder that was named."""
    path = Path(place)
    if path.is_file():
        return [(path, path.name)]
    if path.is_dir():
        names = sorted(name for name in files_below(path) if _is_meant(name))
        if not names:
            raise DataError(f"{place}: no picture or video in the folder or below; give another")
        return [(path / name, name) for name in names]
    if not glob.has_magic(place):
        hint = f"; write {path.expanduser()}" if path.parts[:1] == ("~",) else "; correct the path"
        raise DataError(f"{place}: no such file or folder{hint}")
    root = _root(place)
    # Not pathlib's, which knows no pattern that begins at the root, nor one without any part.
    matches = sorted(match for match in glob.glob(place, recursive=True) if Path(match).is_file())  # noqa: PTH207
    meant = [match for match in matches if _is_meant(match)]
    if not meant:
        what = f"{len(matches)} files match, but none is a picture or video" if matches else "no file matches"
        raise DataError(f"{place}: {what}; correct the pattern, and put it in quotes")
    return [(Path(match), Path(os.path.relpath(match, root)).as_posix()) for match in meant]


def _is_meant(name: str) -> bool:
    return ends_in(name, PICTURES | VIDEOS)


def _root(pattern: str) -> Path:
    """The folder in which a pattern begins to be one."""
    parts = itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts)
    return Path(*parts)


def _lies_in(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(folder)


def _free_name(file_name: str, taken: set[str]) -> str:
    """The name without its ending, and with a number where a file system may hold it for one of `taken`."""
    stem = PurePosixPath(file_name).with_suffix("").as_posix()
    for name in _numbered(stem):
        if name.casefold() not in taken:
            taken.add(name.casefold())
            return name
    raise AssertionError("numbers do not end")


def _numbered(stem: str) -> Iterator[str]:
    yield stem
    yield from (f"{stem}_{number}" for number in itertools.count(2))
