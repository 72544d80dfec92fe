"""TIFF's tables of tags, one for each picture of a file, of which Exif has the first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

BITS, PACKING, COLOURS, ORIENTATION, SAMPLES, EXTRA, FORMAT = 258, 259, 262, 274, 277, 338, 339
"""Tags: bits of a channel, compression, kind of colours, Exif's orientation, channels, those beside colours, and
what kind of numbers they are."""
SAMPLES_OF = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}
"""Channels of colour by `COLOURS`: grey either way, RGB, a palette, CMYK, YCbCr."""
PALETTE, CMYK = 3, 5
JPEG = frozenset({6, 7})
"""Of `PACKING`."""
PACKINGS = frozenset({1, 2, 3, 4, 5, *JPEG, 8, 32771, 32773, 32946})
"""What is decoded: plain, fax, LZW, JPEG, deflate, padded words, PackBits, deflate by its older number."""

REPEATED = -1
"""In place of a tag: that of one which stands twice."""

_WHOLE = 1  # of `FORMAT`: whole numbers without a sign
_FORMATS = {2: "signed whole numbers", 3: "floating-point numbers"}
_DEPTHS = frozenset({1, 2, 4, 8, 16})  # bits of a channel that are decoded
_MOST_CHANNELS = 4
_BIG = 43
_LENGTHS = {1: 1, 3: 2, 4: 4, 16: 8}  # of whole numbers by their type
_MOST = 8  # numbers of a tag that are looked at
_MULTIPLIED = 2  # of `EXTRA`: transparency that colours are not yet multiplied by


class Field(NamedTuple):
    """What stands under a tag."""

    place: int
    """Where its numbers begin."""
    length: int
    """Of one of them, in bytes."""
    numbers: tuple[int, ...]
    """None where they are no whole ones."""


def tables(content: bytes) -> Iterator[dict[int, Field]]:
    """The tables of a TIFF file or a block of Exif, whatever is broken in them; none if it is neither."""
    if content[:2] not in (b"II", b"MM"):
        return

    def number(at: int, length: int) -> int:
        return int.from_bytes(content[at : at + length], "little" if content[:2] == b"II" else "big")

    big = number(2, 2) == _BIG
    start, head, step, word = (8, 8, 20, 8) if big else (4, 2, 12, 4)

    def field(at: int) -> Field:
        length, count = _LENGTHS.get(number(at + 2, 2), 0), number(at + 4, word)
        inside = length * count <= word
        place = at + 4 + word if inside else number(at + 4 + word, word)
        known = range(min(count, _MOST) if length else 0)
        return Field(place, length, tuple(number(place + index * length, length) for index in known))

    at, seen = number(start, word), set()
    while 0 < at < len(content) and at not in seen:
        seen.add(at)
        end = at + head + step * number(at, head)
        table: dict[int, Field] = {}
        for entry in range(at + head, min(end, len(content)), step):
            tag = number(entry, 2)
            table[REPEATED if tag in table else tag] = field(entry)
        yield table
        at = number(end, word)


def first(table: dict[int, Field], tag: int, otherwise: int) -> int:
    """The first number under a tag, or what it is where there is none."""
    numbers = table[tag].numbers if tag in table else ()
    return numbers[0] if numbers else otherwise


def orientation(table: dict[int, Field]) -> int:
    """Exif's number in [1, 8]; 1 where there is none."""
    value = first(table, ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1


def refusal(table: dict[int, Field]) -> str | None:
    """What is the matter with the first picture, where it is not of colours as they are known.

    Its decoder would make a black picture of some such, and one of its own of others.

    Returns:
        None where nothing is.
    """
    packing, colours = first(table, PACKING, 1), first(table, COLOURS, 1)
    bits, samples = first(table, BITS, 1), first(table, SAMPLES, 1)
    if REPEATED in table:
        return "is a TIFF with a tag that stands twice, of which programs take the one or the other"
    if packing not in PACKINGS:
        return f"is a TIFF of a compression (number {packing}) that is not decoded"
    if colours not in SAMPLES_OF:
        return f"is a TIFF in a colour space (number {colours}) that programs convert differently"
    if (kind := first(table, FORMAT, _WHOLE)) != _WHOLE:
        return f"is a TIFF of {bits}-bit {_FORMATS.get(kind, 'numbers of another kind')}, which are no colours"
    if bits not in _DEPTHS:
        return f"is a TIFF of {bits} bits per channel, where colours have 8 or 16"
    if samples > _MOST_CHANNELS + (colours == CMYK):
        return f"is a TIFF of {samples} channels, of which nobody says which are red, green and blue"
    return None


def prepared(content: bytes) -> bytes | None:
    """A TIFF for its decoder, which would else multiply colours by the transparency.

    Returns:
        None for one of which it would give another picture, see `refusal`.
    """
    table = next(tables(content), {})
    if refusal(table):
        return None
    if first(table, EXTRA, 0) != _MULTIPLIED:
        return content
    place, length, _ = table[EXTRA]
    return content[:place] + bytes(length) + content[place + length :]
