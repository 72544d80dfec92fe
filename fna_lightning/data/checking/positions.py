"""Where the entries of a JSON file stand: looked up only when there is something to say about one of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from fna_lightning.data.checking.problems import Position

_decoder = json.JSONDecoder()
_BLANK = re.compile(r"[ \t\n\r]*")


class JsonPositions:
    """Lines of the entries of the lists in a JSON file; the file is read again when the first is asked for.

    Args:
        file: An object of lists, which has been read once.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._entries: dict[str, list[Position]] | None = None

    def of(self, table: str) -> Callable[[int], Callable[[], Position | None]]:
        """For the list under the key `table`: index -> what finds the entry."""
        return lambda index: partial(self._find, table, index)

    def _find(self, table: str, index: int) -> Position | None:
        if self._entries is None:
            try:
                content = self._file.read_bytes()
                self._entries = entry_positions(content.decode(json.detect_encoding(content), "surrogatepass"))
            except (OSError, ValueError):  # gone or changed since it was read
                self._entries = {}
        positions = self._entries.get(table, [])
        return positions[index] if index < len(positions) else None


def entry_positions(text: str) -> dict[str, list[Position]]:
    """Key -> where each entry begins, for every value of the object `text`; no entries but in lists.

    The library reads all keys and values; only the brackets, commas and colons between them are walked here.

    Raises:
        ValueError: `text` is not an object in JSON.
    """
    lines, result = _LineCounter(text), {}
    at = _behind_mark(text, 0, "{")
    while text[at : at + 1] != "}":
        key, end = _decoder.raw_decode(text, at)
        starts, end = _entries(text, _behind_mark(text, end, ":"))
        result[key] = [lines.position(start) for start in starts]
        at = _behind_value(text, end)
    return result


def _entries(text: str, at: int) -> tuple[list[int], int]:
    """Where the entries of the value at `at` begin, if it is a list, and where the value ends."""
    if text[at : at + 1] != "[":
        return [], _decoder.raw_decode(text, at)[1]
    starts, at = [], _behind_blank(text, at + 1)
    while text[at : at + 1] != "]":
        starts.append(at)
        at = _behind_value(text, _decoder.raw_decode(text, at)[1])
    return starts, at + 1


def _behind_value(text: str, end: int) -> int:
    """What follows the value that ends at `end`, and its comma."""
    at = _behind_blank(text, end)
    return _behind_blank(text, at + 1) if text[at : at + 1] == "," else at


def _behind_mark(text: str, at: int, mark: str) -> int:
    """What follows `mark`, which must come next."""
    at = _behind_blank(text, at)
    if text[at : at + 1] != mark:
        raise ValueError(f"no {mark!r} at {at}")
    return _behind_blank(text, at + 1)


def _behind_blank(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


class _LineCounter:
    """Line and column of ascending places in a text, in one pass over it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._line, self._line_start, self._seen = 1, 0, 0

    def position(self, place: int) -> Position:
        newline = self._text.rfind("\n", self._seen, place)
        if newline >= 0:
            self._line += self._text.count("\n", self._seen, place)
            self._line_start = newline + 1
        self._seen = place
        first = newline >= 0 and not self._text[self._line_start : place].strip()
        return Position(self._line, None if first else place - self._line_start + 1)
