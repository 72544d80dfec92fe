"""The tables of a COCO file, column by column, with what is wrong in them noted at its place."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from fna_lightning.data.checking.folders import there_are
from fna_lightning.data.checking.positions import JsonPositions
from fna_lightning.data.checking.problems import Kind, Position, Problem, Problems, SetError
from fna_lightning.data.layouts.boxes import Mask
from fna_lightning.data.layouts.foreign import foreign_format

Rows = list[dict[str, Any]]

_TABLES = ("images", "annotations", "categories")
_NO_ID = -(2**63)  # stands for what is no integer of 64 bits
_NOT_IN_NAMES = re.compile("[\0\ud800-\udfff]")  # no file system has these


class Table:
    """One list of a COCO file.

    Args:
        file: The file.
        name: The list's key.
        rows: Its entries.
        problems: Takes in what is wrong with them.
        positions: Finds them in the file.
    """

    def __init__(self, file: Path, name: str, rows: Rows, problems: Problems, positions: JsonPositions) -> None:
        self.file = file
        self.name = name
        self.rows = rows
        self.good = np.ones(len(rows), dtype=bool)
        """(len(rows),) bool: entries of which nothing wrong is known."""
        self._readable = np.ones(len(rows), dtype=bool)
        self._problems = problems
        self._position = positions.of(name)

    def note(self, kind: Kind, bad: Mask, describe: Callable[[int], str]) -> None:
        """Note the entries where `bad` (len(rows),) bool holds, but malformed ones: they stand for nothing.

        `describe` puts one of them into words. Those of an error are not good.
        """
        self._problems.add(kind, bad & self._readable, self.file, describe, self._position)
        if kind.severity == "error":
            self.good &= ~bad

    def note_all(self, kind: Kind, what: str) -> None:
        """Note something of many entries in a single line."""
        self._problems.append(Problem(kind, self.file, what))

    def column(
        self, key: str, expected: str, fits: Callable[[Any], bool], filler: Any, default: Any = None
    ) -> list[Any]:
        """`key` of every entry.

        Args:
            key: The key.
            expected: What `fits` accepts, in words.
            fits: Whether a value can be used.
            filler: Stands in for values that cannot, whose entries are noted as malformed.
            default: Of entries without the key, or with null for its value; None if they need it.
        """
        values = [default if row.get(key) is None else row[key] for row in self.rows]
        bad = np.array([not fits(value) for value in values], dtype=bool)
        kind = Kind.CATEGORY if self.name == "categories" else Kind.ENTRY

        def describe(index: int) -> str:
            found = reprlib.repr(self.rows[index][key]) if key in self.rows[index] else "missing"
            size = " of 64 bits" if expected.startswith("int") and type(self.rows[index].get(key)) is int else ""
            return f"{self.name}[{index}].{key} is {found}, not {expected}{size}"

        self._problems.add(kind, bad, self.file, describe, self._position)
        self._readable &= ~bad
        self.good &= ~bad
        for index in np.flatnonzero(bad):
            values[index] = filler
        return values

    def integers(self, key: str, default: int | None = None) -> np.ndarray:
        """`key` of every entry: (len(rows),) int64."""
        return np.array(self.column(key, "int", is_integer, _NO_ID, default), np.int64)


def read_tables(file: Path) -> dict[str, Rows]:
    """The lists of images, annotations and categories of a COCO file.

    Raises:
        DataError: It is none.
    """
    content = _read_json(file)
    if foreign := foreign_format(content):
        _refuse(file, f"is {foreign}, not a COCO instances file", "export or convert it as COCO, with boxes")
    if not isinstance(content, dict):
        _refuse(file, f"is not a COCO file: a {type(content).__name__} where an object should be", "convert it")
    tables = {}
    for key in _TABLES:
        rows = content.get(key)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            _refuse(file, f"is not a COCO instances file: '{key}' is not a list of objects", "convert it")
        if not rows and key != "annotations":
            _refuse(file, f"has no {key}", "write them into the file")
        tables[key] = rows
    return tables


def _read_json(file: Path) -> Any:
    content = b""
    try:
        content = file.read_bytes()
        return _parse(file, content.decode(json.detect_encoding(content), "surrogatepass"))
    except FileNotFoundError:
        names = there_are(file.parent, ".json")
        _refuse(file, "no such annotation file", f"set data.root and data.*_annotations{names}")
    except OSError as error:
        _refuse(file, f"cannot be read ({error.strerror})", "restore the file")
    except UnicodeDecodeError as error:
        reason = f"byte {error.start} is no text in UTF-8: {error.reason}"
        _refuse(file, f"is not JSON ({reason})", "save it in UTF-8 or restore it")
    except json.JSONDecodeError as error:
        what = f"is not JSON ({error.msg})" if content.strip() else "is empty, not JSON"
        _refuse(file, what, "restore the file", Position(error.lineno, error.colno))
    except (ValueError, RecursionError) as error:  # brackets without end
        _refuse(file, f"is not JSON ({error})", "restore the file")


def _parse(file: Path, text: str) -> Any:
    """What `text` says in JSON, in which each table comes once: of two, the library would keep the last."""
    if all(text.count(f'"{key}"') < 2 for key in _TABLES):  # to look at every object takes longer
        return json.loads(text)
    pairs: list[tuple[str, Any]] = []

    def remember(own: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = own  # in the end those of the outermost object, if it is one
        return dict(own)

    content = json.loads(text, object_pairs_hook=remember)
    keys = [key for key, _ in pairs] if isinstance(content, dict) else []
    if twice := [key for key in _TABLES if keys.count(key) > 1]:
        what = f"has '{twice[0]}' {keys.count(twice[0])} times, of which only the last would be read"
        _refuse(file, what, "merge them into one list or remove the others")
    return content


def _refuse(file: Path, what: str, mend: str, position: Position | None = None) -> NoReturn:
    raise SetError(Problem(Kind.SET, file, what, mend, lambda: position))


def is_integer(value: Any) -> bool:
    """Whether it is an id or a count that fits 64 bits; true and false are none."""
    return type(value) is int and -(2**63) < value < 2**63


def is_number(value: Any) -> bool:
    """Whether it is a number, finite or not."""
    return type(value) is float or is_integer(value)


def is_text(value: Any) -> bool:
    """Whether it is a string."""
    return type(value) is str


def is_label(value: Any) -> bool:
    """Whether a class can be named so."""
    return is_text(value) and bool(value.strip())


def is_mark(value: Any) -> bool:
    """Whether it says yes or no; tools write it as a number or as true and false."""
    return type(value) is bool or (type(value) is int and value in (0, 1))


def is_name(value: Any) -> bool:
    """Whether a file can be named so."""
    return is_text(value) and bool(value) and not _NOT_IN_NAMES.search(value)


def is_box(value: Any) -> bool:
    """Whether it is a list of four numbers."""
    return type(value) is list and len(value) == 4 and all(map(is_number, value))
