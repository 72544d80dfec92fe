"""What is wrong with a data set: found when it is set up, so that no training time is spent before."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from rich.console import Console
from rich.progress import track

from fna_lightning.data.images import decoded_size, read_size
from fna_lightning.errors import ConfigError, DataError

log = logging.getLogger(__name__)

ON_ERROR = ("raise", "skip")
CHECK_IMAGES = ("all", "headers", "none")
_MANY_IMAGES = 2000  # from here on a progress bar is worth its lines
_CHUNK = 64


class ImageList(Protocol):
    """What `check_images` looks through."""

    def __len__(self) -> int: ...

    def path(self, index: int) -> Path:
        """The file of image `index`."""
        ...


@dataclass
class _Kind:
    """One kind of problem: how often, and the first case in words."""

    count: int
    first: str


class Problems:
    """Collects what is wrong in one file or folder, to stop at it or to leave it out.

    Args:
        where: File or folder, named in every message.
        on_error: `raise` or `skip`.
    """

    def __init__(self, where: Path, on_error: str) -> None:
        self.where = where
        self.on_error = on_error
        self._kinds: list[_Kind] = []

    def add(self, bad: np.ndarray | np.bool_, describe: Callable[[int], str]) -> None:
        """Note the items where `bad` (N,) bool holds; `describe` puts one of them into words."""
        indices = np.flatnonzero(bad)
        if len(indices):
            self._kinds.append(_Kind(len(indices), describe(int(indices[0]))))

    def settle(self) -> None:
        """Stop at the first problem, or warn of each kind and go on.

        Raises:
            DataError: There is a problem and `on_error` is `raise`.
        """
        if self._kinds and self.on_error == "raise":
            others = sum(kind.count for kind in self._kinds) - 1
            more = f" (and {others} more problem{'s' * (others > 1)})" if others else ""
            mend = "correct it or set data.on_error=skip to leave it out"
            raise DataError(f"{self.where}: {self._kinds[0].first}{more}; {mend}")
        for kind in self._kinds:
            log.warning("%s: left out %d item(s), the first: %s", self.where, kind.count, kind.first)


def check_choice(key: str, value: str, choices: Sequence[str]) -> str:
    """`value`, if it is one of `choices`.

    Raises:
        ConfigError: It is none of them.
    """
    if value not in choices:
        raise ConfigError(f"data.{key}={value!r} is unknown; choose one of {', '.join(choices)}")
    return value


def check_folder(folder: Path, key: str) -> None:
    """Require that `folder`, set by the config key `data.<key>`, exists and holds something.

    Raises:
        DataError: It does not.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; set data.{key} to where the data set lies")
    with os.scandir(folder) as entries:
        if next(entries, None) is None:
            raise DataError(f"{folder}: the folder is empty; set data.{key} to where the data set lies")


def check_images(
    images: ImageList, sizes: np.ndarray | None, mode: str, problems: Problems, folder: Path
) -> np.ndarray:
    """Look through image files, several at a time.

    Args:
        images: The files.
        sizes: (N, 2) height and width that the annotations announce; None if nothing is announced.
        mode: `headers` compares sizes and requires that JPEG and PNG files are whole; `all` decodes
            every file; `none` does nothing.
        problems: Takes in what is found.
        folder: Where the files lie; left out of the messages that name one of them.

    Returns:
        (N,) bool: the good images.
    """
    count = len(images)
    good = np.ones(count, dtype=bool)
    if mode == "none":
        return good

    def inspect(start: int) -> list[tuple[int, str]]:
        return [
            (index, fault)
            for index in range(start, min(start + _CHUNK, count))
            if (fault := _fault(images.path(index), None if sizes is None else sizes[index], mode == "all"))
        ]

    faults: dict[int, str] = {}
    # Threads: reading files and decoding them both run outside the interpreter's lock.
    with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
        chunks = pool.map(inspect, range(0, count, _CHUNK))
        for found in _progress(chunks, count, f"Checking images of {folder.name}"):
            faults.update(found)
    good[list(faults)] = False
    problems.add(~good, lambda index: f"image {images.path(index)} {faults[index]}")
    return good


def _progress(chunks: Iterable[list], count: int, title: str) -> Iterable[list]:
    if count < _MANY_IMAGES:
        return chunks
    console = Console(stderr=True)
    total = -(-count // _CHUNK)
    return track(chunks, title, total, console=console, transient=True, disable=not console.is_terminal)


def _fault(path: Path, announced: np.ndarray | None, decode: bool) -> str | None:
    """What is wrong with one image file, if anything is."""
    try:
        size = read_size(path)
        if decode and decoded_size(path) != size:
            return "is broken: its pixels are not of the size in its header"
    except DataError as error:
        return str(error)
    if announced is not None and size != tuple(announced):
        height, width = announced
        return f"is {size[1]}x{size[0]} (width x height), but the annotations say {width}x{height}"
    return None
