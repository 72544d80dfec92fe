"""Folders of a data set: that they are there, and that all pictures in them are used."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PureWindowsPath

from fna_lightning.data.checking.images import EXTENSIONS, seems_picture
from fna_lightning.data.checking.problems import Kind, Problem, Problems, SetError

PICTURES = EXTENSIONS | {".gif", ".jfif", ".jp2", ".heic", ".avif"}
"""Files that people take for pictures, whether they are read or not."""
_NO_PICTURES = frozenset({".csv", ".db", ".ini", ".json", ".npy", ".npz", ".txt", ".xml", ".yaml", ".yml"})
"""Files that people do not, of which there may be one beside every picture."""
_SPLIT = re.compile(r"(train|valid|val|test|dev|demovideo|extra|unlabell?ed)(?![a-z])|.*_(train|val|test)$", re.I)
_OF_SYSTEMS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"})
_NAMED = 3  # files of many
_LISTED = 8  # names of what there is


def check_root(root: Path, wanted: Path, *others: Path) -> None:
    """Require the folder of a set, `data.root`, and say where the set lies if that is close by.

    Where `root` holds another part of the set, it is the set that lacks something.

    Args:
        root: The folder.
        wanted: A file or folder of the set, in `root` unless its own setting is absolute.
        others: Other parts of it, likewise.

    Raises:
        DataError: `root` does not exist or is empty, or `wanted` lies in its parent, a sibling or a child instead.
    """
    if wanted.is_relative_to(root) and not wanted.exists():
        inside = wanted.relative_to(root)
        begun = (root / inside.parts[0]).exists() or any(part.exists() for part in others)
        for other in () if begun else _around(root):
            if (other / inside).exists():
                what = f"no such file or folder, but there is {other / inside}"
                raise SetError(Problem(Kind.SET, wanted, what, f"set data.root={other}"))
    check_folder(root, "root")


def check_folder(folder: Path, key: str) -> None:
    """Require that `folder`, set by the config key `data.<key>`, exists and holds something.

    Raises:
        DataError: It does not.
    """
    mend = f"set data.{key} to where the data set lies"
    if not folder.is_dir():
        if folder.parts[:1] == ("~",):
            mend = f"write {folder.expanduser()}: within a word, shells leave ~ as it is"
        raise SetError(Problem(Kind.SET, folder, "no such folder", f"{mend}{there_are(folder.parent)}"))
    with os.scandir(folder) as entries:
        if next(entries, None) is None:
            raise SetError(Problem(Kind.SET, folder, "the folder is empty", mend))


def there_are(folder: Path, ending: str = "") -> str:
    """The first names in a folder, to follow a mend; nothing where there are none.

    Args:
        folder: It need not exist.
        ending: Of files that are meant; else folders are.
    """
    with contextlib.suppress(OSError):
        paths = [path for path in folder.iterdir() if is_meant(path.name)]
        names = sorted(path.name for path in paths if (path.suffix == ending if ending else path.is_dir()))
        if names:
            return f"; there are {', '.join(names[:_LISTED])}{', ...' if len(names) > _LISTED else ''}"
    return ""


def near(path: Path) -> str | None:
    """The file that is probably meant by one that is missing: of its name but for folders, case or ending.

    Returns:
        Its path relative to the folder in which it was found.
    """
    folder = next((parent for parent in path.parents if parent.is_dir()), None)
    name = PureWindowsPath(path.name).name.strip()  # which knows both kinds of separators
    if folder is None or not name:
        return None
    exact, alike = _names_in(folder)
    key = _folded(name)
    found = exact.get(key) or alike.get(os.path.splitext(key)[0])  # noqa: PTH122
    return None if found is None or folder / found == path else found


@functools.lru_cache(maxsize=8)
def _names_in(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The pictures and annotation files of a folder by their folded name, and by that without its ending."""
    names = sorted(entry.name for entry in os.scandir(folder) if ends_in(entry.name, PICTURES | {".xml"}))
    exact = {_folded(name): name for name in names}
    return exact, {os.path.splitext(key)[0]: name for key, name in exact.items()}  # noqa: PTH122


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def beside(folders: Iterable[Path]) -> list[Path]:
    """The folders next to some that are called as splits are, without those that hold one of them.

    By their names, because anything may lie there: a set may be in its user's home.
    """
    given = {Path(os.path.abspath(folder)) for folder in folders}  # noqa: PTH100 - links stay
    found: set[Path] = set()
    for parent in {folder.parent for folder in given}:
        with contextlib.suppress(OSError):
            found |= {path for path in parent.iterdir() if _SPLIT.match(path.name) and path.is_dir()}
    return sorted(path for path in found if not any(folder.is_relative_to(path) for folder in given))


def note_unused(
    folders: Iterable[Path], used: Collection[str], problems: Problems, ending: str = "", mend: str = ""
) -> None:
    """Note the folders with pictures, in them or below, that nobody speaks of; a line each.

    A file whose ending says nothing is a picture if it begins as one, such as `photo.jpg_large`.

    Args:
        folders: Where a set's pictures lie; one inside another is looked through once.
        used: Absolute paths of what is listed in either split, usable or not.
        problems: Takes them in.
        ending: With which the names of pictures end.
        mend: How they come to be used, if not by a list.
    """
    outer: list[Path] = []
    for folder in sorted({Path(os.path.abspath(folder)) for folder in folders}):  # noqa: PTH100 - links stay
        if not any(folder.is_relative_to(other) for other in outer):
            outer.append(folder)
    for folder in outer:
        rest = (path for name in files_below(folder) if (path := f"{folder}/{name}") not in used)
        unused = sorted(path for path in rest if path.endswith(ending) and _is_picture(path))
        if unused:
            names = ", ".join(os.path.relpath(path, folder) for path in unused[:_NAMED])
            more = ", ..." if len(unused) > _NAMED else ""
            what = f"{len(unused)} picture(s) are in neither split, and not used: {names}{more}"
            problems.append(Problem(Kind.UNUSED, folder, what, mend))


def files_below(folder: Path) -> Iterator[str]:
    """Files in `folder` and anywhere below, relative to it, in no order; hidden ones are none.

    Links to folders are followed, but not back to one that they lie in. What systems put beside people's files,
    such as `__MACOSX`, is left out as well.
    """
    real = Path(os.path.realpath(folder))
    inside: dict[str, frozenset[str]] = {str(folder): frozenset(map(str, (real, *real.parents)))}
    for place, folders, names in os.walk(folder, followlinks=True):
        above = inside.pop(place)
        kept = []
        for name in filter(is_meant, folders):
            path = os.path.join(place, name)  # noqa: PTH118 - a million of them
            real = os.path.realpath(path)
            if real not in above:
                inside[path] = above | {real}
                kept.append(name)
        folders[:] = kept
        start = os.path.relpath(place, folder)
        yield from (name if start == "." else f"{start}/{name}" for name in filter(is_meant, names))


def is_meant(name: str) -> bool:
    """Whether a file or folder is one that people have put there, by its name."""
    return name[0] != "." and name not in _OF_SYSTEMS


def ends_in(name: str, endings: Collection[str]) -> bool:
    """Whether a file's name ends in one of `endings`, such as ".jpg", capital letters or not."""
    return os.path.splitext(name)[1].lower() in endings  # noqa: PTH122 - a million of them


def _around(root: Path) -> Iterator[Path]:
    """Folders in which a set may lie whose root was given as `root`: its parent, children and siblings."""
    yield root.parent
    for folder in (root, root.parent):
        with contextlib.suppress(OSError):
            yield from itertools.islice(sorted(path for path in folder.iterdir() if path.is_dir()), 100)
    yield root.parent.parent


def _is_picture(path: str) -> bool:
    return ends_in(path, PICTURES) or (not ends_in(path, _NO_PICTURES) and seems_picture(Path(path)))
