"""What an image file says of its picture."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

import cv2
import numpy as np

from fna_lightning.data.checking import gif, tiff
from fna_lightning.data.checking.problems import Kind
from fna_lightning.errors import DataError

# What decoders cannot read is said in a line of ours.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

# Annotations count pixels as stored; a camera's orientation tag would turn the picture under them.
READ_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION

STRIP = 20
"""Long side over short side beyond which a resize leaves little of a picture, or distorts it."""

_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}  # by colour type: grey, RGB, palette, grey and RGB with alpha
_PNG_ANIMATION = b"\0\0\0\x08acTL"  # 20 bytes in all
_GIF_START = b"GIF8"
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG_2000_STARTS = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_OTHERS = {
    b"version https://git-lfs": "in its place is a pointer of Git LFS, by which git lfs pull downloads it",
    b"<!DOCTYPE": "in its place is a web page",
    b"<!doctype": "in its place is a web page",
    b"<html": "in its place is a web page",
    b"<svg": "it is a drawing in SVG",
}
_HEIC = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc")
_AVIF = (b"ftypavif", b"ftypavis")
_STARTS = (_JPEG_START, _PNG_START, _GIF_START, *_TIFF_STARTS, *_JPEG_2000_STARTS)
_SHORT_STARTS = re.compile(
    rb"BM....\0{4}|P[1-6]\s|RIFF....WEBP", re.DOTALL
)  # of BMP, of PPM and its like, of WebP
_EXIF = b"Exif\0\0"


@dataclass(frozen=True)
class ImageHeader:
    """What a file says of its picture."""

    size: tuple[int, int]
    """Height and width of the pixels as they are read."""
    channels: int
    """Of colour: 1 grey, 3 RGB or a palette of it, 4 CMYK; the JPEG model YCCK counts as CMYK."""
    bits: int = 8
    """Of one channel of a pixel; 8 for a palette, whatever its indices take."""
    alpha: bool = False
    """Whether pixels can be transparent."""
    orientation: int = 1
    """Exif's number in [1, 8] of the turn and flip that viewers show the picture under; 1 is none."""
    turned: bool = False
    """Whether it is read under that turn; a TIFF is, whoever reads it."""
    frames: int = 1
    """Pictures in the file, of which the first is read."""
    lossy: bool = False
    """Whether pixels need not be those that were saved."""


class ImageError(DataError):
    """A file that is no whole picture.

    Args:
        kind: What is wrong.
        what: The same in words, to follow the file's name.
    """

    def __init__(self, kind: Kind, what: str) -> None:
        super().__init__(what)
        self.kind = kind


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
    content = file.read()
    if start.startswith(_TIFF_STARTS):
        return _tiff_header(content)
    header = _decoded_header(content)
    if start.startswith(b"BM"):
        return _bmp_header(content, header)
    if start.startswith(_GIF_START):
        return _gif_header(content, header)
    if start.startswith(b"RIFF"):
        return _webp_header(content, header)
    if start.startswith(_JPEG_2000_STARTS):
        return replace(header, lossy=_is_lossy_jpeg_2000(content))
    return replace(header, lossy=start[4:8] == b"ftyp")  # AVIF does not say


def begins_as_picture(start: bytes) -> bool:
    """Whether a file whose first bytes, 12 or more, are `start` is meant as a picture, read here or not."""
    return start.startswith(_STARTS) or start[4:12] in _HEIC + _AVIF or bool(_SHORT_STARTS.match(start))


def decode(content: bytes, flags: int) -> np.ndarray | None:
    """The picture of a file as `cv2.imdecode` gives it, or its first, colours under transparency as stored.

    Returns:
        None if it is broken.
    """
    return _decode(_prepared(content), flags)


def is_opaque(content: bytes) -> bool:
    """Whether nothing of the picture is transparent, as far as its decoder tells."""
    if content.startswith(_GIF_START):  # only the colours tell: where they change, something is
        shown, kept = _decode(content, READ_FLAGS), decode(content, READ_FLAGS)
        return shown is None or kept is None or np.array_equal(shown, kept)
    stored = decode(content, cv2.IMREAD_UNCHANGED)
    if stored is None or stored.ndim < 3 or stored.shape[-1] != 4:
        return True
    return bool((stored[..., 3] == np.iinfo(stored.dtype).max).all())


def _prepared(content: bytes) -> bytes | None:
    """A file of which the decoder gives what others give; None where it would give no picture of it."""
    if content.startswith(_TIFF_STARTS):
        return tiff.prepared(content)
    if content.startswith(_GIF_START):
        return gif.prepared(content)
    # Of an animated PNG it gives the first frame, which need not be the picture.
    control = content.find(_PNG_ANIMATION, 8, content.find(b"IDAT")) if content.startswith(_PNG_START) else -1
    return content if control < 0 else content[:control] + content[control + 20 :]


def _decode(content: bytes | None, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error:  # more pixels than the library takes
        return None


def _decoded_header(content: bytes) -> ImageHeader:
    """The header of other formats, as far as the decoder tells it."""
    if not content:
        raise ImageError(Kind.EMPTY, "is empty")
    if content[4:12] in _HEIC:
        raise ImageError(Kind.UNSUPPORTED, "is a HEIC picture, which is not decoded")
    image = decode(content, cv2.IMREAD_UNCHANGED)
    # Not everything that can be decoded as it is can be made 8 bits of RGB.
    if image is None or (image.dtype != np.uint8 and decode(content, READ_FLAGS) is None):
        start = content[:64].lstrip()
        instead = next((f": {words}" for begin, words in _OTHERS.items() if start.startswith(begin)), "")
        raise ImageError(Kind.CORRUPT, f"is no image or is broken ({len(content)} bytes){instead}")
    channels = image.shape[2] if image.ndim == 3 else 1
    size = (image.shape[0], image.shape[1])
    return ImageHeader(size, min(channels, 3), 8 * image.dtype.itemsize, alpha=channels == 4)


def _tiff_header(content: bytes) -> ImageHeader:
    """By its tags; a 16-bit channel may be of fewer."""
    pages = list(tiff.tables(content))
    tags = pages[0] if pages else {}
    if what := tiff.refusal(tags):
        raise ImageError(Kind.UNSUPPORTED, what)
    packing, colours = tiff.first(tags, tiff.PACKING, 1), tiff.first(tags, tiff.COLOURS, 1)
    decoded = _decoded_header(content)
    samples, orientation = tiff.SAMPLES_OF[colours], tiff.orientation(tags)
    bits = tiff.first(tags, tiff.BITS, 1) if decoded.bits == 8 and colours != tiff.PALETTE else decoded.bits
    return ImageHeader(
        decoded.size,
        3 if colours == tiff.PALETTE else samples,
        bits,
        alpha=tiff.first(tags, tiff.SAMPLES, 1) > samples,
        orientation=orientation,
        turned=orientation != 1,
        frames=max(len(pages), 1),
        lossy=packing in tiff.JPEG,
    )


def _bmp_header(content: bytes, decoded: ImageHeader) -> ImageHeader:
    """Of a grey palette each colour must be its own index, or pixels mean what the palette says."""
    bits, start = int.from_bytes(content[28:30], "little"), 14 + int.from_bytes(content[14:18], "little")
    if bits > 8:
        return decoded
    begin = int.from_bytes(content[10:14], "little")  # of the pixels
    palette = np.frombuffer(content[start : begin - (begin - start) % 4], np.uint8).reshape(-1, 4)[: 2**bits, 0]
    scale = 255 // (2**bits - 1)
    plain = np.array_equal(palette, np.arange(len(palette)) * scale)
    return replace(decoded, channels=1 if decoded.channels == 1 and plain else 3, bits=bits if plain else 8)


def _gif_header(content: bytes, decoded: ImageHeader) -> ImageHeader:
    """By its blocks."""
    frames, whole, flags = gif.blocks(content)
    if not whole:
        raise ImageError(Kind.UNSUPPORTED, "is a GIF whose first frame leaves a part of it open")
    return replace(decoded, alpha=flags is not None, frames=max(frames, 1))


def _webp_header(content: bytes, decoded: ImageHeader) -> ImageHeader:
    """By its chunks; a frame of an animation is a chunk that has others behind 16 bytes of its own."""
    chunks = list(_webp_chunks(content, 12))
    frames = [part for name, part in chunks if name == b"ANMF"]
    inner = [name for part in frames for name, _ in _webp_chunks(part, 16)]
    exif = next((part for name, part in chunks if name == b"EXIF"), b"")
    return replace(
        decoded,
        orientation=tiff.orientation(next(tiff.tables(exif.removeprefix(_EXIF)), {})),
        frames=max(len(frames), 1),
        lossy=b"VP8 " in [*inner, *(name for name, _ in chunks)],
    )


def _webp_chunks(content: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
    while at + 8 <= len(content):
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        yield content[at : at + 4], content[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _is_lossy_jpeg_2000(content: bytes) -> bool:
    """Whether it uses the wavelet that cannot be undone exactly, as its coding style says."""
    style = content.find(b"\xff\x52")
    return content[style + 13 : style + 14] != b"\x01"


def _png_header(file: BinaryIO, start: bytes) -> ImageHeader:
    """Walk the chunks of a PNG up to its pixels; the end must follow."""
    if len(start) < 33:
        raise ImageError(Kind.TRUNCATED, "is truncated: the PNG has no end")
    width, height = int.from_bytes(start[16:20], "big"), int.from_bytes(start[20:24], "big")
    bits, colours = start[24], start[25]
    alpha, orientation, frames = colours in (4, 6), 1, 1
    while True:
        length, name = int.from_bytes((head := file.read(8))[:4], "big"), head[4:]
        if name in (b"IDAT", b"IEND", b""):
            break
        content = file.read(length) if name in (b"eXIf", b"acTL") else b""
        if name == b"eXIf":
            orientation = tiff.orientation(next(tiff.tables(content), {}))
        if name == b"acTL":
            frames += int.from_bytes(content[:4], "big")
        frames -= name == b"fcTL"  # the picture is the animation's first
        alpha |= name == b"tRNS"
        file.seek(length - len(content) + 4, os.SEEK_CUR)
    if not _ends_with(file, _PNG_END):
        raise ImageError(Kind.TRUNCATED, "is truncated: the PNG has no end")
    channels = _PNG_CHANNELS.get(colours, 3)
    return ImageHeader(
        (height, width), channels, 8 if colours == 3 else bits, alpha, orientation, frames=max(frames, 1)
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
            orientation = tiff.orientation(next(tiff.tables(content[len(_EXIF) :]), {}))
    if frame is None or len(frame) < 6:
        raise ImageError(Kind.CORRUPT, "is no image: the JPEG has no frame")
    if not _ends_with(file, _JPEG_END):
        raise ImageError(Kind.TRUNCATED, "is truncated: the JPEG has no end")
    size = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    return ImageHeader(size, channels=frame[5], bits=frame[0], orientation=orientation, lossy=True)


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
