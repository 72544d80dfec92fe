"""What was found in many pictures, as files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fna_lightning.callbacks.prediction_files import write_png
from fna_lightning.deployment.network import Found, Network
from fna_lightning.deployment.reading import Broken, Frame, ahead, frame_rate, read_frames
from fna_lightning.deployment.sources import Source
from fna_lightning.errors import ConfigError
from fna_lightning.files import replacing, write_text

DRAWN = "pictures"
"""Folder of the pictures and videos in which is drawn what was found."""
_CODEC = "mp4v"
_THREADS = 4


@dataclass(frozen=True, eq=False)
class Written:
    """What became of a picture or frame."""

    image: dict[str, Any]
    """Its entry in the record, without its id."""
    summary: Any
    """See `Found.summary`."""


@dataclass(frozen=True, eq=False)
class _LookedAt:
    """A picture or frame, and what the network found."""

    frame: Frame
    found: Found


@dataclass(frozen=True, eq=False)
class _Drawn:
    """On its way into a video."""

    frame: Frame
    pixels: np.ndarray
    written: Written


@dataclass
class Record:
    """What the files that a call leaves say of all its pictures."""

    images: list[dict[str, Any]] = field(default_factory=list)
    summaries: list[Any] = field(default_factory=list)

    def add(self, written: Written) -> None:
        """Number a picture, from 1."""
        self.images.append({"id": len(self.images) + 1, **written.image})
        self.summaries.append(written.summary)

    def save(self, network: Network, folder: Path) -> None:
        """Write it, each file whole or not at all.

        Raises:
            ConfigError: it cannot be written.
        """
        with _writing(folder):
            for name, content in network.documents(self.images, self.summaries).items():
                write_text(folder / name, json.dumps(content))


def begin_folder(network: Network, folder: Path) -> None:
    """Make a folder for results, unless it is there: empty, or with those of an earlier call to be replaced.

    Raises:
        ConfigError: it is a file, cannot be made, or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output={folder}: is a file; give a folder")
    known = any((folder / name).is_file() for name in network.documents([], []))
    if folder.is_dir() and not known and any(folder.iterdir()):
        raise ConfigError(f"output={folder}: holds other files, which are never written over; give a new folder")
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def predict_files(
    network: Network,
    sources: Sequence[Source],
    folder: Path,
    *,
    threshold: float | None = None,
    batch_size: int | None = None,
    every: int = 1,
    limit: int | None = None,
) -> Iterator[Written | Broken]:
    """Run a network over files and write what it finds, one picture or frame after the other.

    Threads read, draw and write meanwhile; the network runs in the thread of the caller.

    Args:
        network: what runs.
        sources: files.
        folder: where `pictures/` and the folders of `Found.rasters` go.
        threshold: see `Network.checked_threshold`.
        batch_size: pictures that the network sees at once; None for the training's.
        every: see `read_frames`.
        limit: see `read_frames`.

    Raises:
        ConfigError: the files cannot be written.
    """
    size = batch_size or network.batch_size
    number = 2 * size + _THREADS
    with _writing(folder), contextlib.ExitStack() as stack:
        # Closed last, when no thread adds to it any more.
        film = stack.enter_context(contextlib.closing(_Film(folder, every)))
        readers, writers, decoder, editor = (
            stack.enter_context(_pool(threads)) for threads in (_THREADS, _THREADS, 1, 1)
        )
        frames = read_frames(network, sources, readers, decoder, every=every, limit=limit, number=number)
        looked_at = _looked_at(network, frames, size, threshold)
        drawn = ahead(writers, lambda each: _write(folder, each), looked_at, number)
        yield from ahead(editor, film.add, drawn, number)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Make one line of what a file system refuses.

    Raises:
        ConfigError: the folder or a file in it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"output={folder}: cannot be written ({error.strerror}); give a folder that can"
        ) from error


@contextlib.contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that leave work undone when the caller stops."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _looked_at(
    network: Network, frames: Iterable[Frame | Broken], size: int, threshold: float | None
) -> Iterator[_LookedAt | Broken]:
    """What is found in the frames, in batches of `size`; what is broken is told of at once."""
    batch: list[Frame] = []

    def run() -> Iterator[_LookedAt]:
        found = network.run([each.seen for each in batch], threshold)
        yield from map(_LookedAt, batch, found)
        batch.clear()

    for frame in frames:
        if isinstance(frame, Broken):
            yield frame
            continue
        batch.append(frame)
        if len(batch) == size:
            yield from run()
    if batch:
        yield from run()


def _write(folder: Path, looked_at: _LookedAt | Broken) -> _Drawn | Written | Broken:
    """Draw one picture and write its files; what is drawn of a frame goes on into its video."""
    if isinstance(looked_at, Broken):
        return looked_at
    frame, found = looked_at.frame, looked_at.found
    height, width = frame.seen.size
    image: dict[str, Any] = {"file_name": frame.source.file_name, "path": str(frame.source.path)}
    if frame.number is not None:
        image["frame"] = frame.number
    image |= {"width": width, "height": height}
    for kind, pixels in found.rasters().items():
        image[kind] = f"{kind}/{frame.name}.png"
        write_png(folder / image[kind], pixels)
    image["drawn"] = f"{DRAWN}/{frame.source.name}.{'png' if frame.number is None else 'mp4'}"
    drawn, written = cv2.cvtColor(found.drawn(frame.pixels), cv2.COLOR_RGB2BGR), Written(image, found.summary())
    if frame.number is not None:
        return _Drawn(frame, drawn, written)
    write_png(folder / image["drawn"], drawn)
    return written


class _Film:
    """Puts what was drawn of frames into videos, one after the other; each is whole or not there.

    Args:
        folder: of the results.
        every: of the frames of a video, each so many-th is there, and shown so much longer.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self._folder = folder
        self._every = every
        self._source: Source | None = None
        self._writer: cv2.VideoWriter | None = None
        self._open = contextlib.ExitStack()

    def add(self, drawn: _Drawn | Written | Broken) -> Written | Broken:
        """Take in a frame of a video; pass on what is none.

        Raises:
            ConfigError: no video can be written.
        """
        if not isinstance(drawn, _Drawn):
            return drawn
        if drawn.frame.source != self._source:
            self.close()
            self._source, self._writer = drawn.frame.source, self._begin(drawn)
        assert self._writer is not None, "begun with the first frame"
        self._writer.write(drawn.pixels)
        return drawn.written

    def close(self) -> None:
        """End the last video."""
        self._open.close()

    def _begin(self, drawn: _Drawn) -> cv2.VideoWriter:
        path = self._folder / drawn.written.image["drawn"]
        rate = frame_rate(drawn.frame.source.path) / self._every
        height, width = drawn.pixels.shape[:2]
        codec = cv2.VideoWriter.fourcc(*_CODEC)
        with contextlib.ExitStack() as opening:
            temporary = opening.enter_context(replacing(path))
            writer = cv2.VideoWriter(str(temporary), cv2.CAP_FFMPEG, codec, rate, (width, height))
            opening.callback(writer.release)
            if not writer.isOpened():
                raise ConfigError(f"{path}: OpenCV writes no MP4 here; give the frames as pictures")
            self._open = opening.pop_all()
        return writer
