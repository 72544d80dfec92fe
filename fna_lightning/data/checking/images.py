"""Image files: reading them, and learning what they are without decoding them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from fna_lightning.data.checking.problems import Kind
from fna_lightning.errors import DataError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
"""Files counted as images in a folder."""

_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}  # by colour type: grey, RGB, palette, grey and RGB with alpha
_EXIF = b"Exif\0\0"
_ORIENTATION_TAG = 0x0112
# Annotations count pixels as stored; a camera's orientation tag would turn the picture under them.
_READ_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


@dataclass(frozen=True)
class ImageHeader:
    """What a file says of its picture."""

    size: tuple[int, int]
    """Height and width of the pixels as stored."""
    channels: int
    """Of colour: 1 grey, 3 RGB or a palette of it, 4 CMYK; the JPEG model YCCK counts as CMYK."""
    bits: int = 8
    """Of one channel of a pixel; 8 for a palette, whatever its indices take."""
    alpha: bool = False
    """Whether pixels can be transparent."""
    orientation: int = 1
    """Exif's number in [1, 8] of the turn and flip that viewers show the picture under; 1 is none."""


class ImageError(DataError):
    """A file that is no whole picture.

    Args:
        kind: What is wrong.
        what: The same in words, to follow the file's name.
    """

    def __init__(self, kind: Kind, what: str) -> None:
        super().__init__(what)
        self.kind = kind


def read_image(path: Path) -> np.ndarray:
    """Decode `path` into an array (H, W, 3) uint8, RGB.

    Grey becomes three equal channels, CMYK is converted without its profile, of 16 bits the upper 8 are
    kept, transparency and the orientation tag of JPEG, PNG and WebP are ignored.

    Raises:
        DataError: The file is missing or cannot be decoded.
    """
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore the file") from error
    image = _decode(content, _READ_FLAGS)
    if image is None:
        raise DataError(
            f"{path}: cannot be decoded, {content.size} bytes; restore it or set data.check_images=all"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_labels(path: Path) -> np.ndarray:
    """Decode `path`, grayscale of 8 bits, into an array (H, W) uint8 of what is stored.

    Raises:
        DataError: The file is missing, broken or of another kind.
    """
    try:
        return decode_labels(read_content(path))
    except ImageError as error:
        raise DataError(f"{path}: {error}; {error.kind.mend}") from error


def decode_labels(content: bytes) -> np.ndarray:
    """The values (H, W) uint8 stored in a grayscale file of 8 bits.

    Raises:
        ImageError: It is broken or of another kind.
    """
    header = parse_header(BytesIO(content))
    if (header.channels, header.bits, header.alpha) != (1, 8, False):
        found = "colours or a palette" if header.channels > 1 else f"{header.bits}-bit pixels"
        found = "transparency" if header.alpha else found
        raise ImageError(Kind.NO_INDICES, f"has {found}, where label files are grayscale of 8 bits")
    labels = _decode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.shape != header.size:
        raise ImageError(Kind.CORRUPT, f"is broken ({len(content)} bytes)")
    return labels


def read_content(path: Path) -> bytes:
    """All bytes of an image file.

    Raises:
        ImageError: The file is missing, empty or cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(error) from error
    if not content:
        raise ImageError(Kind.EMPTY, "is empty")
    return content


def read_header(path: Path) -> ImageHeader:
    """The header of a whole image file; JPEG and PNG are not decoded for it, and mostly not read.

    Raises:
        ImageError: The file is missing, no image, or ends early.
    """
    try:
        with path.open("rb") as file:
            return parse_header(file)
    except OSError as error:
        raise _unreadable(error) from error


def parse_header(file: BinaryIO) -> ImageHeader:
    """The header of a whole image; JPEG and PNG are not decoded for it.

    Raises:
        ImageError: It is no image, or ends early.
    """
    start = file.read(33)
    if start.startswith(_JPEG_START):
        return _jpeg_header(file)
    if start.startswith(_PNG_START):
        return _png_header(file, start)
    file.seek(0)
    return _decoded_header(file.read())


def check_pixels(content: bytes, header: ImageHeader) -> bool:
    """Decode a file as training does.

    Args:
        content: All of the file.
        header: Its own, read before.

    Returns:
        Whether any of the picture is transparent.

    Raises:
        ImageError: It cannot be decoded, or not to the size in its header.
    """
    buffer = np.frombuffer(content, np.uint8)
    image = _decode(buffer, _READ_FLAGS)
    if image is None:
        raise ImageError(Kind.CORRUPT, f"is broken ({len(content)} bytes)")
    if image.shape[:2] != header.size:
        raise ImageError(Kind.CORRUPT, "is broken: its pixels are not of the size in its header")
    if not header.alpha:
        return False
    stored = _decode(buffer, cv2.IMREAD_UNCHANGED)
    opaque = stored is None or stored.shape[-1] != 4 or (stored[..., 3] == np.iinfo(stored.dtype).max).all()
    return not opaque


def _decode(content: np.ndarray, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(content, flags) if content.size else None
    except cv2.error:  # more pixels than the library takes
        return None


def _unreadable(error: OSError) -> ImageError:
    missing = isinstance(error, FileNotFoundError)
    return ImageError(Kind.MISSING, "is missing" if missing else f"cannot be read ({error.strerror})")


def _decoded_header(content: bytes) -> ImageHeader:
    """The header of other formats, as far as the decoder tells it; it tells no orientation."""
    if not content:
        raise ImageError(Kind.EMPTY, "is empty")
    buffer = np.frombuffer(content, np.uint8)
    image = _decode(buffer, cv2.IMREAD_UNCHANGED)
    # Not everything that can be decoded as it is can be made 8 bits of RGB.
    if image is None or (image.dtype != np.uint8 and _decode(buffer, _READ_FLAGS) is None):
        raise ImageError(Kind.CORRUPT, f"is no image or is broken ({len(content)} bytes)")
    channels = image.shape[2] if image.ndim == 3 else 1
    size = (image.shape[0], image.shape[1])
    return ImageHeader(size, min(channels, 3), 8 * image.dtype.itemsize, alpha=channels == 4)


def _png_header(file: BinaryIO, start: bytes) -> ImageHeader:
    """Walk the chunks of a PNG up to its pixels; the end must follow."""
    if len(start) < 33:
        raise ImageError(Kind.TRUNCATED, "is truncated: the PNG has no end")
    width, height = int.from_bytes(start[16:20], "big"), int.from_bytes(start[20:24], "big")
    bits, colours = start[24], start[25]
    alpha, orientation = colours in (4, 6), 1
    while True:
        length, name = int.from_bytes((head := file.read(8))[:4], "big"), head[4:]
        if name in (b"IDAT", b"IEND", b""):
            break
        if name == b"eXIf":
            orientation = _orientation(file.read(length))
            length = 0
        alpha |= name == b"tRNS"
        file.seek(length + 4, os.SEEK_CUR)
    if not _ends_with(file, _PNG_END):
        raise ImageError(Kind.TRUNCATED, "is truncated: the PNG has no end")
    return ImageHeader(
        (height, width), _PNG_CHANNELS.get(colours, 3), 8 if colours == 3 else bits, alpha, orientation
    )


def _jpeg_header(file: BinaryIO) -> ImageHeader:
    """Walk the segments of a JPEG up to its pixels, where the frame is known and the end must follow."""
    frame, orientation = None, 1
    file.seek(2)
    while (marker := _next_marker(file)) != 0xDA:  # start of scan: only pixels from here on
        length = int.from_bytes(file.read(2), "big")
        if length < 2:
            raise ImageError(Kind.TRUNCATED, "is truncated: the JPEG ends in its header")
        content = file.read(length - 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            frame = content
        if marker == 0xE1 and content.startswith(_EXIF):
            orientation = _orientation(content[len(_EXIF) :])
    if frame is None or len(frame) < 6:
        raise ImageError(Kind.CORRUPT, "is no image: the JPEG has no frame")
    if not _ends_with(file, _JPEG_END):
        raise ImageError(Kind.TRUNCATED, "is truncated: the JPEG has no end")
    size = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    return ImageHeader(size, channels=frame[5], bits=frame[0], orientation=orientation)


def _next_marker(file: BinaryIO) -> int:
    """The next marker's code; any number of fill bytes 0xFF may stand before it."""
    byte = file.read(1)
    if byte and byte != b"\xff":
        raise ImageError(Kind.CORRUPT, "is broken: the JPEG's header makes no sense")
    while byte == b"\xff":
        byte = file.read(1)
    if not byte:
        raise ImageError(Kind.TRUNCATED, "is truncated: the JPEG ends in its header")
    return byte[0]


def _orientation(exif: bytes) -> int:
    """The orientation in a block of Exif, which is a TIFF file's first table of tags; 1 if it has none."""
    if exif[:2] not in (b"II", b"MM"):
        return 1

    def number(at: int, length: int) -> int:
        return int.from_bytes(exif[at : at + length], "little" if exif[:2] == b"II" else "big")

    table = number(4, 4)
    for entry in range(table + 2, table + 2 + 12 * number(table, 2), 12):
        if number(entry, 2) == _ORIENTATION_TAG:
            value = number(entry + 8, 2)
            return value if 1 <= value <= 8 else 1
    return 1


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
