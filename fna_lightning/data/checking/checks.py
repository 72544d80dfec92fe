"""Checks of a data set when it is set up, so that no training time is spent before."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import cv2
import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from fna_lightning.data.checking.edges import blended_share
from fna_lightning.data.checking.folders import near
from fna_lightning.data.checking.headers import STRIP, ImageError, ImageHeader, parse_header
from fna_lightning.data.checking.images import check_pixels, read_content, read_header
from fna_lightning.data.checking.problems import Kind, Problem, Problems
from fna_lightning.data.label_maps import LabelMap
from fna_lightning.errors import ConfigError

ON_ERROR = ("raise", "skip")
CHECK_IMAGES = ("all", "headers", "none")
_COMPLAINT = re.compile(r"^(Corrupt JPEG data|Premature end of JPEG|libpng warning: IDAT).*|(?<=TIFF_Error ).*")
_MANY_IMAGES = 2000  # from here on a progress bar is worth its lines, even if nothing is decoded
_CHUNK = 16
_AHEAD = 64  # chunks
_CORES = os.cpu_count() or 1
THREADS = min(16, 2 * _CORES)
"""To read many files."""
_Size: TypeAlias = tuple[int, int]
_Chunk: TypeAlias = tuple[int, list[Path], "list[_Size] | None"]  # the first one's index, files, sizes announced
_LabelChunk: TypeAlias = tuple[int, list[Path], list[Path]]  # likewise, label files, pictures
_AnyChunk = TypeVar("_AnyChunk", bound=tuple[int, list[Path], Any])
_Seen = TypeVar("_Seen")
_Trait: TypeAlias = tuple[Kind, str]
_Fault: TypeAlias = tuple[int, Kind, str]  # the first is the place in its chunk


class ImageList(Protocol):
    """What the checks look through."""

    def __len__(self) -> int: ...

    def path(self, index: int) -> Path:
        """The file of image `index`."""
        ...


class LabelledImageList(ImageList, Protocol):
    """Images with a label file each."""

    label_map: LabelMap
    decode: Callable[[bytes], np.ndarray]

    def label_path(self, index: int) -> Path:
        """The label file of image `index`."""
        ...


def check_choice(key: str, value: str, choices: Sequence[str]) -> str:
    """`value`, if it is one of `choices`.

    Raises:
        ConfigError: It is none of them.
    """
    if value not in choices:
        raise ConfigError(f"data.{key}={value!r} is unknown; choose one of {', '.join(choices)}")
    return value


def check_images(images: ImageList, sizes: np.ndarray | None, mode: str, problems: Problems) -> np.ndarray:
    """Look through image files, several at a time.

    Args:
        images: The files.
        sizes: (N, 2) height and width that the annotations announce; None if nothing is announced.
        mode: `headers` compares sizes, requires that JPEG and PNG files are whole, and notes what training
            reads in its own way; `all` also decodes every file; `none` does nothing.
        problems: Takes in what is found, in the images' order.

    Returns:
        (N,) bool: the good images.
    """
    good = np.ones(len(images), dtype=bool)
    if mode == "none":
        return good
    look = _look_at_pixels if mode == "all" else _look_at_headers
    shown = mode == "all" or len(images) >= _MANY_IMAGES
    with _workers(decode=mode == "all") as pool, _progress_bar(shown=shown) as bar:
        task = bar.add_task("Checking images", total=len(images), problems=len(problems))
        for start, faults in _in_order(pool, look, _chunks(images, sizes)):
            for offset, kind, what in faults:
                problems.append(_problem(kind, images.path(start + offset), what))
                good[start + offset] &= kind.severity != "error"
            bar.update(task, completed=min(start + _CHUNK, len(images)), problems=len(problems))
    return good


def _problem(kind: Kind, path: Path, what: str) -> Problem:
    """One fault of a picture, with the one that is meant where it is missing."""
    found = near(path) if kind is Kind.MISSING else None
    return Problem(kind, path, what, f"there is {found}: write its name as it is" if found else "")


def check_labels(images: LabelledImageList, good: np.ndarray, mode: str, problems: Problems) -> np.ndarray:
    """Decode label files, several at a time, unless `mode` is `none`.

    Args:
        images: Pictures and label files.
        good: (N,) bool: pictures that can be used; those are taken out whose label file cannot.
        mode: As of `check_images`; `headers` and `all` look at the same.
        problems: Takes in what is found, in the images' order.

    Returns:
        (256,) int64: pixels of every label id in the images that are left; all zero if nothing was decoded.
    """
    pixels = np.zeros(256, np.int64)
    if mode == "none":
        return pixels
    look = partial(_look_at_labels, images.label_map, images.decode)
    with _workers(decode=mode == "all") as pool, _progress_bar(shown=True) as bar:
        task = bar.add_task("Checking labels", total=len(images), problems=len(problems))
        for start, (faults, counts) in _in_order(pool, look, _label_chunks(images)):
            for offset, kind, what in faults:
                problems.append(Problem(kind, images.label_path(start + offset), what))
                good[start + offset] &= kind.severity != "error"
            pixels += counts[good[start : start + _CHUNK]].sum(axis=0)
            bar.update(task, completed=min(start + _CHUNK, len(images)), problems=len(problems))
    return pixels


def _label_chunks(images: LabelledImageList) -> Iterator[_LabelChunk]:
    for start, pictures, _ in _chunks(images, None):
        yield start, [images.label_path(start + offset) for offset in range(len(pictures))], pictures


def _look_at_labels(
    label_map: LabelMap, decode: Callable[[bytes], np.ndarray], chunk: _LabelChunk
) -> tuple[list[_Fault], np.ndarray]:
    """Everything that is the matter with the label files of a chunk, and (files, 256) pixels of every id."""
    faults: list[_Fault] = []
    _, paths, pictures = chunk
    counts = np.zeros((len(paths), 256), np.int64)
    for offset, (path, picture) in enumerate(zip(paths, pictures, strict=True)):
        try:
            ids = decode(read_content(path))
        except ImageError as error:
            faults.append((offset, error.kind, str(error)))
            continue
        counts[offset] = cv2.calcHist([ids], [0], None, [256], [0, 256]).ravel()
        traits = _label_traits(ids, np.flatnonzero(counts[offset]), picture, label_map)
        faults += [(offset, kind, what) for kind, what in traits]
    return faults, counts


def _label_traits(stored: np.ndarray, ids: np.ndarray, picture: Path, label_map: LabelMap) -> Iterator[_Trait]:
    """What is the matter with a label file of what is `stored` (H, W) uint8, which are `ids`."""
    # A picture that has no size was noted as a picture.
    with contextlib.suppress(ImageError):
        (height, width), size = read_header(picture).size, stored.shape
        if size != (height, width):
            what = f"is {size[1]}x{size[0]} (width x height), but its picture {width}x{height}: {picture.name}"
            yield Kind.LABEL_SIZE, what
    if unknown := label_map.unknown_ids(ids):
        yield Kind.LABEL_ID, f"has {label_map.describe(unknown)}"
    elif set(ids) <= set(label_map.ignored):
        yield Kind.NO_OBJECT, "has no pixel of any class"
    if share := blended_share(stored):
        yield Kind.BLENDED, f"along {share:.0%} of its edges an id lies between the two beside it, a pixel wide"


def _chunks(images: ImageList, sizes: np.ndarray | None) -> Iterator[_Chunk]:
    for start in range(0, len(images), _CHUNK):
        paths = [images.path(index) for index in range(start, min(start + _CHUNK, len(images)))]
        yield start, paths, None if sizes is None else sizes[start : start + _CHUNK].tolist()


def _in_order(
    pool: Executor, look: Callable[[_AnyChunk], _Seen], chunks: Iterator[_AnyChunk]
) -> Iterator[tuple[int, _Seen]]:
    """(start, what was seen) of every chunk, while the pool works some chunks ahead."""
    ahead: deque[tuple[int, Future[_Seen]]] = deque()
    for chunk in chunks:
        ahead.append((chunk[0], pool.submit(look, chunk)))
        if len(ahead) > _AHEAD:
            start, future = ahead.popleft()
            yield start, future.result()
    for start, future in ahead:
        yield start, future.result()


def _look_at_headers(chunk: _Chunk) -> list[_Fault]:
    return _look(chunk, _read_only)


def _look_at_pixels(chunk: _Chunk) -> list[_Fault]:
    return _look(chunk, _decoded)


def _look(chunk: _Chunk, inspect: Callable[[Path], tuple[ImageHeader, list[_Trait]]]) -> list[_Fault]:
    """Everything that is the matter with the files of a chunk."""
    faults: list[_Fault] = []
    _, paths, announced = chunk
    for offset, path in enumerate(paths):
        try:
            header, traits = inspect(path)
            if announced is not None:
                _check_size(header, announced[offset])
        except ImageError as error:
            traits = [(error.kind, str(error))]
        faults += [(offset, kind, what) for kind, what in traits]
    return faults


def _read_only(path: Path) -> tuple[ImageHeader, list[_Trait]]:
    """Header and traits of one file that is not decoded."""
    header = read_header(path)
    return header, _traits(header)


def _decoded(path: Path) -> tuple[ImageHeader, list[_Trait]]:
    """Header and traits of one file that is decoded, in a process of `_start_decoder`."""
    _complaint()  # of the file before, if that could not be decoded
    content = read_content(path)
    header = parse_header(BytesIO(content))
    traits = _traits(header)
    if check_pixels(content, header):
        traits.append((Kind.TRANSPARENT, "is transparent in places, where the colours stored below are shown"))
    complaint = _complaint()
    if "extraneous" in complaint:  # everything that was expected has come before
        traits.append((Kind.SURPLUS, f"decodes, but the decoder says: {complaint}"))
    elif complaint:
        raise ImageError(Kind.CORRUPT, f"is broken, the decoder says: {complaint}")
    return header, traits


def _traits(header: ImageHeader) -> list[_Trait]:
    """What training reads in its own way.

    Raises:
        ImageError: What it does not read.
    """
    if header.bits == 12:  # JPEG is the only format that has it
        raise ImageError(Kind.UNSUPPORTED, "is a JPEG of 12 bits per channel, which is not decoded")
    traits: list[_Trait] = []
    height, width = header.size
    if max(header.size) > STRIP * min(header.size):
        what = f"is {width}x{height} (width x height): a resize leaves little of its short side, or distorts it"
        traits.append((Kind.STRIP, what))
    if header.frames > 1:
        traits.append((Kind.FRAMES, f"holds {header.frames} frames, of which the first alone is read"))
    if header.turned:
        what = f"has the orientation tag {header.orientation}, by which it is turned, as a TIFF is everywhere"
        traits.append((Kind.TURNED_TIFF, what))
    elif header.orientation != 1:
        what = f"has the orientation tag {header.orientation}, which is ignored: pixels are read as stored"
        traits.append((Kind.ROTATED, what))
    if header.channels == 1:
        traits.append((Kind.GRAYSCALE, "is grayscale, and read as three equal channels"))
    if header.channels == 4:
        traits.append((Kind.CMYK, "is CMYK, and converted to RGB without its colour profile"))
    if header.bits > 8:
        traits.append((Kind.DEEP, f"has {header.bits} bits per channel, of which the upper 8 are kept"))
    return traits


def _check_size(header: ImageHeader, announced: _Size) -> None:
    if header.size == tuple(announced):
        return
    (height, width), (stored_height, stored_width) = announced, header.size
    what = f"is {stored_width}x{stored_height} (width x height), but the annotations say {width}x{height}"
    if header.orientation >= 5 and header.size == (width, height):
        tag = f"its orientation tag {header.orientation}"
        if header.turned:
            raise ImageError(Kind.WRONG_SIZE, f"{what}: they count it as stored, before {tag} turns it")
        raise ImageError(Kind.TURNED, f"{what}: they count it as turned by {tag}, which is ignored")
    raise ImageError(Kind.WRONG_SIZE, what)


@contextlib.contextmanager
def _workers(*, decode: bool) -> Iterator[Executor]:
    """Threads to read headers, because reading waits for the disk; processes to decode.

    Decoders report data that they make do without on standard error only, which belongs to the process. If
    the caller is interrupted, what has not begun is not done.
    """
    if decode:
        pool = ProcessPoolExecutor(min(16, _CORES), initializer=_start_decoder)
    else:
        pool = ThreadPoolExecutor(THREADS)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _start_decoder() -> None:
    """Let a process write its standard error to a file without a name, and leave Ctrl-C to its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)


def _complaint() -> str:
    """What the decoders of JPEG, PNG and TIFF have said of pixels on standard error since the last call."""
    length = os.lseek(2, 0, os.SEEK_CUR)
    os.lseek(2, 0, os.SEEK_SET)
    lines = os.read(2, length).decode(errors="replace").splitlines()
    os.ftruncate(2, 0)
    os.lseek(2, 0, os.SEEK_SET)
    return next((found[0] for line in lines if (found := _COMPLAINT.search(line))), "")


class _Rate(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.0f} images/s")


def _progress_bar(*, shown: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[problems]} problems so far"),
        console=console,
        transient=True,
        disable=not (shown and console.is_terminal),
    )
