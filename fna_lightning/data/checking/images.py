"""Image files: reading them, and learning what they are."""

from __future__ import annotations

import stat
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np

from fna_lightning.data.checking.headers import (
    READ_FLAGS,
    ImageError,
    ImageHeader,
    begins_as_picture,
    decode,
    is_opaque,
    parse_header,
)
from fna_lightning.data.checking.problems import Kind
from fna_lightning.errors import DataError

EXTENSIONS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Files counted as images in a folder."""


def read_image(path: Path, mend: str = "restore it or set data.check_images=all") -> np.ndarray:
    """Decode `path` into an array (H, W, 3) uint8, RGB; of several frames the first.

    Grey becomes three equal channels, CMYK is converted without its profile, of 16 bits the upper 8 are
    kept, transparency and the orientation tag of JPEG, PNG and WebP are ignored; a TIFF's tag turns it.

    Args:
        path: The file.
        mend: What to do where it is broken.

    Raises:
        DataError: The file is missing or cannot be decoded.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore the file") from error
    image = decode(content, READ_FLAGS)
    if image is None:
        raise DataError(f"{path}: cannot be decoded{_why(content, mend)}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_labels(path: Path, decode: Callable[[bytes], np.ndarray] | None = None) -> np.ndarray:
    """Decode `path` into an array (H, W) uint8 of ids, by `decode` or else as `decode_labels` does.

    Raises:
        DataError: The file is missing, broken or of another kind.
    """
    try:
        return (decode or decode_labels)(read_content(path))
    except ImageError as error:
        raise DataError(f"{path}: {error}; {error.kind.mend}") from error


def decode_labels(content: bytes) -> np.ndarray:
    """The values (H, W) uint8 stored in a grayscale file of 8 bits, in a format that keeps them.

    Raises:
        ImageError: It is broken or of another kind.
    """
    header = parse_header(BytesIO(content))
    if header.lossy:
        raise ImageError(Kind.LOSSY, "is in a lossy format, which changes ids, and masks need a lossless format")
    if (header.channels, header.bits, header.alpha, header.frames) != (1, 8, False, 1):
        found = "colours or a palette" if header.channels > 1 else f"{header.bits}-bit pixels"
        found = "transparency" if header.alpha else found
        found = f"{header.frames} frames" if header.frames > 1 else found
        raise ImageError(Kind.NO_INDICES, f"has {found}, where label files are grayscale of 8 bits")
    labels = decode(content, cv2.IMREAD_UNCHANGED)
    if labels is None or labels.shape != header.size:
        raise ImageError(Kind.CORRUPT, f"is broken ({len(content)} bytes)")
    return labels


def read_content(path: Path) -> bytes:
    """All bytes of an image file.

    Raises:
        ImageError: The file is missing, empty or cannot be read.
    """
    _require_file(path)
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
    _require_file(path)
    try:
        with path.open("rb") as file:
            return parse_header(file)
    except OSError as error:
        raise _unreadable(error) from error


def seems_picture(path: Path) -> bool:
    """Whether a file begins as one of a picture does, whatever its name ends in."""
    try:
        _require_file(path)
        with path.open("rb") as file:
            return begins_as_picture(file.read(12))
    except (ImageError, OSError):
        return False


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
    image = decode(content, READ_FLAGS)
    if image is None:
        raise ImageError(Kind.CORRUPT, f"is broken ({len(content)} bytes)")
    if image.shape[:2] != header.size:
        raise ImageError(Kind.CORRUPT, "is broken: its pixels are not of the size in its header")
    return header.alpha and not is_opaque(content)


def _why(content: bytes, mend: str) -> str:
    """Why a picture is not decoded, and the mend, to follow that it is not."""
    try:
        parse_header(BytesIO(content))
    except ImageError as error:
        if error.kind is Kind.UNSUPPORTED:
            return f": {error}; {error.kind.mend}"
    return f", {len(content)} bytes; {mend}"


def _require_file(path: Path) -> None:
    """Refuse pipes and devices, which could be read without end."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _unreadable(error) from error
    if not stat.S_ISREG(mode):
        raise ImageError(Kind.CORRUPT, "is no file, but a folder, pipe or device")


def _unreadable(error: OSError) -> ImageError:
    missing = isinstance(error, FileNotFoundError)
    return ImageError(Kind.MISSING, "is missing" if missing else f"cannot be read ({error.strerror})")
