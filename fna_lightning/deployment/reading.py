"""Pictures and frames, read by threads while the network runs."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from fna_lightning.data.checking.problems import printable
from fna_lightning.deployment.network import Network, Seen
from fna_lightning.deployment.pictures import pixels_of
from fna_lightning.deployment.sources import Source
from fna_lightning.errors import DataError, brief

T = TypeVar("T")
R = TypeVar("R")
_COMPLETE = 0.9
"""Share of the frames that a video's header announces; some count them by the clock."""
_UNKNOWN_RATE = 25.0


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture, or one of a video, and what the network sees of it."""

    source: Source
    number: int | None
    """Of a frame in its video, from 0; None for a picture."""
    pixels: np.ndarray
    """(H, W, 3) uint8, RGB."""
    seen: Seen

    @property
    def name(self) -> str:
        """What is written for it is called so, but for folder and ending."""
        return self.source.name if self.number is None else f"{self.source.name}.frames/{self.number:06d}"


@dataclass(frozen=True)
class Broken:
    """A file that cannot be read, or not to its end."""

    source: Source
    what: str
    """The file, what is wrong with it and the mend, in a line."""


@dataclass(frozen=True, eq=False)
class _Raw:
    source: Source
    number: int
    pixels: np.ndarray


def read_frames(
    network: Network,
    sources: Iterable[Source],
    pool: ThreadPoolExecutor,
    decoder: ThreadPoolExecutor,
    *,
    every: int = 1,
    limit: int | None = None,
    number: int,
) -> Iterator[Frame | Broken]:
    """All pictures and frames in order, brought to the size in which `network` sees them.

    Args:
        network: see `Network.see`.
        sources: files.
        pool: threads that read pictures.
        decoder: one thread, which reads videos.
        every: of the frames of a video, each so many-th is read, from the first on.
        limit: pictures and frames after which no more are read; None for all.
        number: pictures and frames that are read before they are asked for.
    """

    def read(item: Source | _Raw | Broken) -> Frame | Broken:
        if isinstance(item, Broken):
            return item
        source = item if isinstance(item, Source) else item.source
        try:
            pixels = pixels_of(item.path) if isinstance(item, Source) else item.pixels
            seen = network.see(pixels)
        except (DataError, cv2.error) as error:
            return _broken(source, error)
        return Frame(source, None if isinstance(item, Source) else item.number, pixels, seen)

    items = itertools.islice(_items(sources, decoder, every, number), limit)
    return ahead(pool, read, items, number)


def ahead(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T], number: int) -> Iterator[R]:
    """`work` on each of the items, in their order; up to `number` are worked on before they are asked for."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        while waiting and (len(waiting) > number or waiting[0].done()):
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def video_frames(path: Path, every: int = 1) -> Iterator[tuple[int, np.ndarray]]:
    """Number and pixels (H, W, 3) uint8, RGB, of each `every`-th frame; turned as the video says.

    Raises:
        DataError: it cannot be read, or ends early; the frames before have been given then.
    """
    video = _open(path)
    announced, number = video.get(cv2.CAP_PROP_FRAME_COUNT), 0
    while video.grab():
        if number % every == 0:
            good, frame = video.retrieve()
            if not good:
                break
            yield number, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        number += 1
    if not number:
        raise DataError(f"{path}: has no frame that can be decoded; restore it")
    if number < _COMPLETE * announced:
        raise DataError(f"{path}: breaks off after {number} of {announced:.0f} frames; restore it")


def frame_count(path: Path, every: int) -> int:
    """How many of its frames are read, as the video's header has it; 0 if that cannot be read."""
    try:
        return -(-int(max(_open(path).get(cv2.CAP_PROP_FRAME_COUNT), 0)) // every)
    except DataError:
        return 0


def frame_rate(path: Path) -> float:
    """Frames a second.

    Raises:
        DataError: it cannot be read.
    """
    rate = _open(path).get(cv2.CAP_PROP_FPS)
    return rate if rate and np.isfinite(rate) else _UNKNOWN_RATE


def _open(path: Path) -> cv2.VideoCapture:
    # Its library would say on stderr, in words of its own, what is said here in a line.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        raise DataError(f"{path}: is no video that can be decoded; restore it, or convert it to MP4")
    return video


def _items(
    sources: Iterable[Source], decoder: ThreadPoolExecutor, every: int, number: int
) -> Iterator[Source | _Raw | Broken]:
    """Pictures, which are read elsewhere, and frames of videos."""
    for source in sources:
        if not source.is_video:
            yield source
            continue
        frames = video_frames(source.path, every)
        try:
            for found in ahead(decoder, lambda _, frames=frames: next(frames, None), itertools.count(), number):
                if found is None:
                    break
                yield _Raw(source, *found)
        except DataError as error:
            yield _broken(source, error)


def _broken(source: Source, error: Exception) -> Broken:
    if isinstance(error, DataError):
        return Broken(source, printable(str(error)))
    return Broken(source, printable(f"{source.path}: cannot be brought to the network's size ({brief(error)})"))
