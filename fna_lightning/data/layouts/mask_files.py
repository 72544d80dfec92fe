"""Masks as people and tools save them: what their numbers or colours stand for, and how they are decoded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
from PIL import Image

from fna_lightning.data.checking.headers import READ_FLAGS, ImageError, decode, parse_header
from fna_lightning.data.checking.images import decode_labels
from fna_lightning.data.checking.problems import Kind, Position, Problem, SetError
from fna_lightning.data.label_maps import Colour, LabelMap, build_label_map
from fna_lightning.errors import ConfigError, listed

Array = np.ndarray

_UNKNOWN = 255  # an id that no colour gets
_MOST = 254  # classes, and colours that are ignored
_NAMED = 4  # of many colours
# CVAT's labelmap.txt has `road:128,64,128::`, a class_dict.csv `road,128,64,128`.
_ROW = re.compile(
    r"(?P<name>[^:,;]+)[:,;]\s*(?P<red>\d+)\s*[,;]\s*(?P<green>\d+)\s*[,;]\s*(?P<blue>\d+)\s*([:,;].*)?"
)


@dataclass(frozen=True)
class ColourTable:
    """Colours of masks; the id of one is its place.

    Args:
        colours: Red, green and blue of each.
    """

    colours: tuple[Colour, ...]

    def decode(self, content: bytes) -> Array:
        """The ids (H, W) uint8 of a mask of colours, of a palette of them, or of grey.

        Transparency is passed over.

        Raises:
            ImageError: It is broken, lossy, of more than 8 bits or several frames, or has other colours.
        """
        header = parse_header(BytesIO(content))
        _require_lossless(header.lossy)
        if header.bits > 8 or header.frames > 1:
            found = f"{header.frames} frames" if header.frames > 1 else f"{header.bits} bits per channel"
            raise ImageError(Kind.NO_INDICES, f"has {found}, where masks are one picture of 8 bits per channel")
        picture = decode(content, READ_FLAGS)
        if picture is None or picture.shape[:2] != header.size:
            raise ImageError(Kind.CORRUPT, f"is broken ({len(content)} bytes)")
        weights = np.array([[1, 1 << 8, 1 << 16]], np.float32)  # of blue, green, red
        codes = cv2.transform(picture.astype(np.float32), weights).astype(np.int32)
        ids = _ids_of_codes(self.colours)[codes]
        if (unknown := ids == _UNKNOWN).any():
            others = np.unique(codes[unknown])
            words = listed(((code >> 16, code >> 8 & 255, code & 255) for code in others.tolist()), _NAMED)
            several = "s" * (len(others) > 1)
            raise ImageError(Kind.LABEL_COLOUR, f"has the colour{several} {words}, which the table does not have")
        return ids


def decode_ids(content: bytes) -> Array:
    """The ids (H, W) uint8 of a mask of 8-bit grey, or the indices of one with a palette, of whatever colours.

    Raises:
        ImageError: It is broken or of another kind.
    """
    header = parse_header(BytesIO(content))
    try:
        with Image.open(BytesIO(content)) as picture:
            if picture.mode == "P" and header.frames == 1:
                _require_lossless(header.lossy)
                return np.asarray(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(Kind.CORRUPT, f"is broken ({error})") from error
    if header.channels > 1 and not header.lossy:
        raise ImageError(Kind.NO_INDICES, "has colours, which are read by data.colours and not by data.classes")
    return decode_labels(content)


def map_of_ids(classes: Mapping[str, Any], ignored: Sequence[int] | None, colours: Mapping[str, Any]) -> LabelMap:
    """What masks of ids hold, from settings of `data`; 255 is ignored where nothing else is said.

    Raises:
        ConfigError: See `build_label_map`.
    """
    if ignored is None:
        used = {label_id for own in classes.values() for label_id in (own if isinstance(own, Sequence) else [own])}
        ignored = [] if 255 in used else [255]
    return build_label_map(classes, ignored, {name: _several(name, given)[0] for name, given in colours.items()})


def map_of_colours(
    colours: Mapping[str, Any], ignored: Sequence[Sequence[int]] | None
) -> tuple[LabelMap, ColourTable]:
    """What masks of colours hold, from settings of `data`.

    Args:
        colours: Name of every class, in the order of labels, with its colour or colours.
        ignored: Those of pixels that neither train nor score.

    Raises:
        ConfigError: A colour is none or comes twice, or there are no classes or too many.
    """
    given = {f"data.colours.{name}": _several(name, own) for name, own in colours.items()}
    left = [_colour("data.ignored", colour) for colour in ignored or ()]
    owner: dict[Colour, str] = {}
    for key, own in {**given, "data.ignored": left}.items():
        for colour in own:
            if colour in owner:
                raise ConfigError(
                    f"{key}: the colour {list(colour)} is in {owner[colour]} too; take it out of one"
                )
            owner[colour] = key
    if not colours or len(owner) > _MOST:
        raise ConfigError(f"data.colours has {len(owner)} colours, where 1 to {_MOST} can be told apart")
    ids = {colour: place for place, colour in enumerate(owner)}
    own_ids = tuple(tuple(ids[colour] for colour in own) for own in given.values())
    shown = tuple(own[0] for own in given.values())
    ignored_ids = tuple(ids[colour] for colour in left)
    return LabelMap(tuple(map(str, colours)), own_ids, ignored_ids, shown), ColourTable(tuple(owner))


def read_colours(file: Path) -> dict[str, Colour]:
    """The table of colours in a text file: CVAT's `labelmap.txt`, or one with `name,red,green,blue` in each line.

    Empty lines, lines that begin with `#` and a first line of titles are passed over.

    Raises:
        DataError: It is missing, or a line is of another form, naming it.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        words = "set data.colours to a file of names and colours, or to {name: [red, green, blue]}"
        raise SetError(Problem(Kind.SET, file, f"cannot be read ({error})", words)) from None
    table: dict[str, Colour] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        row = _ROW.fullmatch(line)
        if row is None and number == 1:
            continue
        numbers = [int(row[key]) for key in ("red", "green", "blue")] if row else []
        if row is None or max(numbers) > 255 or row["name"].strip() in table:
            what = (
                f"{line!r} is not name,red,green,blue"
                if row is None or max(numbers) > 255
                else f"{line!r} is twice"
            )
            raise SetError(Problem(Kind.SET, file, what, "correct the line", partial(Position, number, None)))
        table[row["name"].strip()] = (numbers[0], numbers[1], numbers[2])
    if not table:
        raise SetError(Problem(Kind.SET, file, "has no colours", "write name,red,green,blue in each line"))
    return table


@lru_cache(maxsize=2)
def _ids_of_codes(colours: tuple[Colour, ...]) -> Array:
    """(2**24,) uint8: the id of every colour as a number; made once in a process, as it is large."""
    table = np.full(1 << 24, _UNKNOWN, np.uint8)
    table[[red << 16 | green << 8 | blue for red, green, blue in colours]] = range(len(colours))
    return table


def _require_lossless(lossy: bool) -> None:
    if lossy:
        raise ImageError(
            Kind.LOSSY, "is in a lossy format, which changes colours, and masks need a lossless format"
        )


def _several(name: str, given: Any) -> list[Colour]:
    """The colours of a class, which has one or a list of them."""
    key = f"data.colours.{name}"
    nested = isinstance(given, Sequence) and not isinstance(given, str) and len(given) > 0
    nested = nested and isinstance(given[0], Sequence)
    return [_colour(key, colour) for colour in (given if nested else [given])]


def _colour(key: str, given: Any) -> Colour:
    def refuse() -> NoReturn:
        raise ConfigError(f"{key}={given}: is no colour; give [red, green, blue], each from 0 to 255")

    if isinstance(given, (str, Mapping)) or not isinstance(given, Sequence) or len(given) != 3:
        refuse()
    if not all(type(value) is int and 0 <= value <= 255 for value in given):
        refuse()
    return given[0], given[1], given[2]
