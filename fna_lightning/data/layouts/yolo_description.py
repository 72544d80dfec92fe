"""A YOLO set's `data.yaml`: its classes, and where its pictures are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import yaml

from fna_lightning.data.checking.folders import check_folder, ends_in, files_below, there_are
from fna_lightning.data.checking.images import EXTENSIONS
from fna_lightning.data.checking.problems import Kind, Position, Problem, SetError, tell

_LISTS = (".txt",)
_CLASSES = "classes.txt"  # of Label Studio and labelImg, in place of data.yaml
_PICTURES = "images"


@dataclass(frozen=True)
class Description:
    """What a file says of its set.

    Args:
        file: `data.yaml`, or a `classes.txt` with a name in each line, of a set whose pictures are in `images`.
        root: Folder of the set, where paths lead that are meant for another machine or folder.
    """

    file: Path
    root: Path

    @cached_property
    def classes(self) -> dict[int, str]:
        """Number -> name, ascending.

        Raises:
            DataError: There are no names, some are none, or not as many as the file says.
        """
        names = self._content.get("names")
        if isinstance(names, list):
            names = dict(enumerate(names))
        if not isinstance(names, Mapping) or not names:
            self._refuse("names", "has no 'names'", "write the classes into it: names: [cat, dog]")
        for number, name in names.items():
            if type(number) is not int or number < 0:
                self._refuse("names", f"names: {number!r} is no number of a class", "number them 0, 1, 2...")
            if type(name) not in (str, int) or not str(name).strip():
                self._refuse("names", f"names: class {number} is {name!r}, no text", "write it in quotes")
        found = {number: str(names[number]).strip() for number in sorted(names)}
        if len(set(found.values())) < len(found):
            twice = next(name for name in found.values() if list(found.values()).count(name) > 1)
            self._refuse("names", f"names: {twice!r} is twice", "give every class its own name")
        count = self._content.get("nc", len(found))
        if count != len(found):
            self._refuse("nc", f"nc is {count!r}, but there are {len(found)} names", "correct one of the two")
        if "kpt_shape" in self._content:
            what = "is of a set with key points (kpt_shape), whose lines have columns for them"
            self._refuse("kpt_shape", what, "export boxes alone")
        return found

    def has(self, split: str) -> bool:
        """Whether there is a value for `train` or `val`."""
        return bool(self._content.get(split))

    def pictures(self, split: str) -> list[Path]:
        """The pictures of `train` or `val`, those of a folder sorted, of a list in its order.

        Raises:
            DataError: It is not said where they are, or a folder or list is missing or has none.
        """
        found: list[Path] = []
        for place in self.places(split):
            if ends_in(place.name, _LISTS):
                found += self._listed(place)
                continue
            check_folder(place, "root")
            names = sorted(name for name in files_below(place) if ends_in(name, EXTENSIONS))
            if not names:
                mend = f"correct '{split}' in {self.file.name}"
                raise SetError(Problem(Kind.SET, place, "there is no picture in the folder or below", mend))
            found += [place / name for name in names]
        return found

    def places(self, split: str) -> list[Path]:
        """The folders and lists that are named for `train` or `val`.

        Raises:
            DataError: None is, or one is no text, or is not there.
        """
        value = self._content.get(split)
        values: list[Any] = value if isinstance(value, list) else [value]
        if not value or not all(isinstance(text, str) and text for text in values):
            self._refuse(
                split, f"{split} is {value!r}", "give a folder of pictures, a list of some, or a .txt of pictures"
            )
        return [self._place(split, text) for text in values]

    def _place(self, split: str, text: str) -> Path:
        found = self._located(self._base, text)
        if found is None:
            share = "" if split == "train" else ", or remove it to have a share of the others set aside"
            mend = f"correct '{split}'{share}{there_are(self.root)}"
            self._refuse(split, f"{split}: no such folder or file: {text}", mend)
        if found != self._base / text:
            tell("%s: %s=%s is taken as %s", self.file, split, text, found)
        return found

    def _listed(self, file: Path) -> list[Path]:
        """The pictures that a text file names, relative to it or to the set."""
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SetError(Problem(Kind.SET, file, f"cannot be read ({error})", "restore the list")) from None
        names = [name for line in lines if (name := line.strip())]
        if not names:
            raise SetError(Problem(Kind.SET, file, "lists no pictures", "write their paths into it, one a line"))
        return [self._located(file.parent, name) or file.parent / name for name in names]

    def _located(self, base: Path, text: str) -> Path | None:
        """What a path means, from `base`; if that is not in the set, the longest end of it that is."""
        path = PurePosixPath(text.replace("\\", "/"))
        given = base / path
        if given.exists() and given.resolve().is_relative_to(self.root.resolve()):
            return given
        parts = [part for part in path.parts if part not in ("/", ".", "..")]
        tails = (self.root.joinpath(*parts[start:]) for start in range(len(parts)))
        return next((tail for tail in tails if tail.exists()), given if given.exists() else None)

    @cached_property
    def _base(self) -> Path:
        """The folder that paths are relative to."""
        text = self._content.get("path") or "."
        if not isinstance(text, str):
            self._refuse("path", f"path is {text!r}", "give a folder, or remove it")
        base = self.file.parent / text
        return base if base.is_dir() and base.resolve().is_relative_to(self.root.resolve()) else self.file.parent

    @cached_property
    def _content(self) -> dict[str, Any]:
        try:
            text = self.file.read_text(encoding="utf-8-sig")
            if self.file.name == _CLASSES:
                return {"names": [line.strip() for line in text.splitlines() if line.strip()], "train": _PICTURES}
            content = yaml.safe_load(text)
        except FileNotFoundError:
            mend = f"set data.root and data.description{there_are(self.file.parent, '.yaml')}"
            raise SetError(Problem(Kind.SET, self.file, "no such file", mend)) from None
        except (OSError, UnicodeDecodeError) as error:
            raise SetError(Problem(Kind.SET, self.file, f"cannot be read ({error})", "restore the file")) from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            place = Position(mark.line + 1, mark.column + 1) if mark else None
            what = f"is not YAML ({getattr(error, 'problem', None) or 'characters that it cannot have'})"
            raise SetError(Problem(Kind.SET, self.file, what, "correct it", lambda: place)) from None
        if not isinstance(content, dict):
            mend = "write train, val and names into it"
            raise SetError(Problem(Kind.SET, self.file, "describes no set", mend))
        return content

    def _refuse(self, key: str, what: str, mend: str) -> NoReturn:
        """Stop at what the file says under a key, or does not."""
        lines = self.file.read_text(encoding="utf-8-sig").splitlines()
        at = next((number for number, line in enumerate(lines, 1) if re.match(rf"{key}\s*:", line)), None)
        place = None if at is None else Position(at, None)
        raise SetError(Problem(Kind.SET, self.file, what, mend, lambda: place))


def find_description(root: Path, name: str | None) -> Description:
    """That of the set in `root`: the named file, or else `data.yaml`, or `classes.txt` where there is only that.

    Args:
        root: Folder of the set.
        name: The file, absolute or relative to `root`.
    """
    plain = name is None and not (root / "data.yaml").exists() and (root / _CLASSES).exists()
    return Description(root / (_CLASSES if plain else name or "data.yaml"), root)
