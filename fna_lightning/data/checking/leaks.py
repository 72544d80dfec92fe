"""Pictures that are there more than once: in both sets, so that scores say nothing of them, or in one."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, Protocol

from fna_lightning.data.checking.checks import THREADS, ImageList
from fna_lightning.data.checking.problems import Kind, Problem, Problems

_END = 1024  # bytes


class AnnotatedImageList(ImageList, Protocol):
    """Images of which it is known what they show."""

    def truth(self, index: int) -> Any:
        """What is annotated in image `index`, to be compared with another's."""
        ...


def same_contents(train: ImageList, val: ImageList) -> Iterator[tuple[Path, Path]]:
    """Pairs of a training and a validation path with the same bytes, the same file included.

    Of training files with the same bytes the first is named. Few files are read whole: only those whose
    length and end are found on both sides.
    """
    suspects = [[images.path(index) for index in range(len(images))] for images in (train, val)]
    keys = [[], []]
    with ThreadPool(THREADS) as pool:
        for look in (_length, _end, _digest):
            keys = [pool.map(look, paths) for paths in suspects]
            shared = set(keys[0]) & set(keys[1])
            suspects = [
                [path for path, key in zip(paths, own, strict=True) if key in shared]
                for paths, own in zip(suspects, keys, strict=True)
            ]
            keys = [[key for key in own if key in shared] for own in keys]
    first = dict(zip(reversed(keys[0]), reversed(suspects[0]), strict=True))
    for key, path in zip(keys[1], suspects[1], strict=True):
        yield first[key], path


def note_copies(images: AnnotatedImageList, problems: Problems) -> None:
    """Note the pictures that are in one set under several names."""
    for first, other in copies(images):
        same = images.truth(first) == images.truth(other)
        annotated = "annotated alike" if same else "but annotated otherwise"
        what = f"has the same bytes as {images.path(first)}, {annotated}"
        problems.append(Problem(Kind.COPY if same else Kind.OTHER_COPY, images.path(other), what))


def copies(images: ImageList) -> Iterator[tuple[int, int]]:
    """(first image, later one) with the same bytes under two names, in the order of the later one.

    Few files are read whole: only those whose length and end another one has too.
    """
    suspects = list(range(len(images)))
    keys: list[Any] = []
    with ThreadPool(THREADS) as pool:
        for look in (_length, _end, _digest):
            keys = pool.map(look, map(images.path, suspects))
            counts = Counter(keys)
            pairs = [(index, key) for index, key in zip(suspects, keys, strict=True) if counts[key] > 1]
            suspects, keys = [index for index, _ in pairs], [key for _, key in pairs]
    first: dict[Any, int] = {}
    for index, key in zip(suspects, keys, strict=True):
        twin = first.setdefault(key, index)
        if images.path(twin) != images.path(index):
            yield twin, index


def _length(path: Path) -> int:
    return path.stat().st_size


def _end(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _END))
        return file.read()


def _digest(path: Path) -> bytes:
    return hashlib.blake2b(path.read_bytes()).digest()
