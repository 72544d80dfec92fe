"""Image files: reading them, and learning their size and whether they are whole without decoding them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from fna_lightning.errors import DataError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
"""Files counted as images in a folder."""

_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
# Annotations count pixels as stored; a camera's orientation tag would turn the picture under them.
_READ_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def read_image(path: Path) -> np.ndarray:
    """Decode `path` into an array (H, W, 3) uint8, RGB.

    Raises:
        DataError: The file is missing or cannot be decoded.
    """
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore the file") from error
    image = cv2.imdecode(content, _READ_FLAGS) if content.size else None
    if image is None:
        raise DataError(
            f"{path}: cannot be decoded, {content.size} bytes; restore it or set data.check_images=all"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_size(path: Path) -> tuple[int, int]:
    """Height and width of a whole image file; JPEG and PNG are not decoded for it.

    Raises:
        DataError: The file is missing, no image, or ends early; the message does not name the file.
    """
    try:
        with path.open("rb") as file:
            start = file.read(24)
            if start.startswith(_JPEG_START):
                return _jpeg_size(file)
            if start.startswith(_PNG_START):
                return _png_size(file, start)
    except FileNotFoundError:
        raise DataError("is missing") from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error
    return decoded_size(path)


def decoded_size(path: Path) -> tuple[int, int]:
    """Height and width of `path` by decoding it all.

    Raises:
        DataError: The file is missing, no image or broken; the message does not name the file.
    """
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError("is missing" if isinstance(error, FileNotFoundError) else "cannot be read") from error
    image = cv2.imdecode(content, _READ_FLAGS) if content.size else None
    if image is None:
        raise DataError(f"is no image or is broken ({content.size} bytes)" if content.size else "is empty")
    return image.shape[0], image.shape[1]


def _png_size(file: BinaryIO, start: bytes) -> tuple[int, int]:
    if len(start) < 24 or not _ends_with(file, _PNG_END):
        raise DataError("is truncated: the PNG has no end")
    return int.from_bytes(start[20:24], "big"), int.from_bytes(start[16:20], "big")


def _jpeg_size(file: BinaryIO) -> tuple[int, int]:
    """Walk the segments of a JPEG up to its pixels, where the size is known and the end must follow."""
    size = None
    file.seek(2)
    while True:
        marker = _next_marker(file)
        length = int.from_bytes(file.read(2), "big")
        if length < 2:
            raise DataError("is truncated: the JPEG ends in its header")
        content = file.read(length - 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            size = int.from_bytes(content[1:3], "big"), int.from_bytes(content[3:5], "big")
        if marker == 0xDA:  # start of scan: only pixels from here on
            break
    if size is None:
        raise DataError("is no image: the JPEG has no frame")
    if not _ends_with(file, _JPEG_END):
        raise DataError("is truncated: the JPEG has no end")
    return size


def _next_marker(file: BinaryIO) -> int:
    """The next marker's code; any number of fill bytes 0xFF may stand before it."""
    byte = file.read(1)
    if byte and byte != b"\xff":
        raise DataError("is broken: the JPEG's header makes no sense")
    while byte == b"\xff":
        byte = file.read(1)
    if not byte:
        raise DataError("is truncated: the JPEG ends in its header")
    return byte[0]


def _ends_with(file: BinaryIO, end: bytes) -> bool:
    """Whether `end` comes in the rest of the file, which is read only if it is not the very end.

    Some programs write more behind the end. Inside the pixels of a JPEG or PNG it cannot come: JPEG puts a
    zero behind each 0xFF, and PNG's end includes a checksum.
    """
    here = file.tell()
    file.seek(max(here, file.seek(0, os.SEEK_END) - len(end)))
    if file.read() == end:
        return True
    file.seek(here)
    return end in file.read()
