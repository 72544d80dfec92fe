"""Pictures and masks that belong together, by what is alike in their names."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fna_lightning.data.checking.folders import ends_in, files_below
from fna_lightning.data.checking.images import EXTENSIONS
from fna_lightning.data.checking.problems import Kind, Position, Problem, Problems, SetError, tell
from fna_lightning.errors import ConfigError

_BREAKS = re.compile(r"[_\-. ]")
_SHARED = 0.6  # of the names, by which a beginning or an end is one of all
_LOOKED_AT = 500  # masks, to find out how they are named
_CANDIDATES = 4


@dataclass(frozen=True)
class MaskPairs:
    """Where pictures and their masks lie; a pair has the name of its picture."""

    images: Path
    """Folder of the pictures."""
    labels: Path
    """Folder of the masks."""
    pictures: np.ndarray
    """(N,) bytes: the pictures, relative to their folder, ascending."""
    masks: np.ndarray
    """(N,) bytes: the mask of each, relative to theirs."""

    def image(self, name: str) -> Path:
        """The picture of a pair."""
        return self.images / name

    def label(self, name: str) -> Path:
        """The mask of a pair."""
        place = int(np.searchsorted(self.pictures, np.bytes_(os.fsencode(name))))
        return self.labels / os.fsdecode(self.masks[place])


class _Pattern(NamedTuple):
    """What stands before and behind the part that a picture's name and its mask's have in common."""

    before: str
    after: str

    def core(self, file: str) -> str | None:
        """The common part of a file's name, with its folder; None where the name is of another form."""
        folder, _, name = file.rpartition("/")
        stem = os.path.splitext(name)[0]  # noqa: PTH122 - many thousands of them
        fits = stem.startswith(self.before) and stem.endswith(self.after)
        if not fits or len(stem) <= len(self.before) + len(self.after):
            return None
        return f"{folder}/{stem[len(self.before) : len(stem) - len(self.after)]}"

    def named(self, core: str) -> str:
        """The stem of the file with a common part."""
        return f"{self.before}{core.rpartition('/')[2]}{self.after}"

    def __str__(self) -> str:
        return f"{self.before}*{self.after}"


def find_pairs(
    folders: tuple[Path, Path], names: tuple[str | None, str | None], wanted: Wanted, problems: Problems
) -> MaskPairs:
    """Pair the pictures in a folder and below with the masks in another, or the same.

    Args:
        folders: That of the pictures and that of the masks.
        names: How stems of pictures and masks are named around their common part, such as `*` and `*_mask`; None
            for what pairs the most.
        wanted: Which pictures are meant.
        problems: Takes in pictures without a mask and masks without a picture.

    Raises:
        ConfigError: A name has not one `*`.
        DataError: There are no pictures, no masks, or none that belong together.
    """
    given = (_given("image_names", names[0]), _given("mask_names", names[1]))
    pictures, masks = _files(folders, given)
    of_pictures, of_masks = _patterns(pictures, masks, given)
    cores = {core: file for file in reversed(masks) if (core := of_masks.core(file)) is not None}
    taken: dict[str, str] = {}
    pairs: dict[str, str] = {}
    for picture in wanted.among(folders[0], pictures, problems):
        core = of_pictures.core(picture)
        twin = taken.setdefault(core, picture) if core is not None else picture
        if twin != picture:
            what = f"shares its mask with {twin}"
            problems.append(Problem(Kind.NO_LABELS, folders[0] / picture, what, "give each a mask of its own"))
        elif core is None:
            what = f"has no mask: is not named as {of_pictures}"
            problems.append(Problem(Kind.NO_LABELS, folders[0] / picture, what))
        elif core not in cores:
            what = f"has no mask {of_masks.named(core)}.* in {folders[1]}"
            problems.append(Problem(Kind.NO_LABELS, folders[0] / picture, what))
        else:
            pairs[picture] = cores[core]
    if not pairs:
        what = f"no picture has a mask in {folders[1]}"
        mend = "give both the same name, or set data.image_names and data.mask_names, such as *_mask; "
        mend += f"there are pictures as {min(pictures)} and masks as {min(masks)}"
        raise SetError(Problem(Kind.SET, folders[0], what, mend))
    if wanted.everything:
        _note_rest(folders, set(masks) - set(pairs.values()), of_masks, taken, problems)
    if (of_pictures, of_masks) != (_Pattern("", ""), _Pattern("", "")):
        tell("%s: pictures named %s are paired with masks named %s", folders[0], of_pictures, of_masks)
    chosen = sorted((os.fsencode(picture), os.fsencode(mask)) for picture, mask in pairs.items())
    return MaskPairs(*folders, np.array([own for own, _ in chosen]), np.array([own for _, own in chosen]))


@dataclass(frozen=True)
class Wanted:
    """Which pictures of a folder are meant."""

    listed: Path | None = None
    """Those that this text file lists, a name in each line; None for all..."""
    others: Path | None = None
    """...but those that this one lists."""

    @property
    def everything(self) -> bool:
        """Whether no list leaves any out."""
        return self.listed is None and self.others is None

    def among(self, folder: Path, pictures: Sequence[str], problems: Problems) -> list[str]:
        """Those of `pictures`, in their order; lines that name none are noted in `problems`."""
        if self.listed is not None:
            chosen = set(_listed(self.listed, folder, pictures, problems))
            return [picture for picture in pictures if picture in chosen]
        left = set(_listed(self.others, folder, pictures, Problems("list"))) if self.others else set()
        return [picture for picture in pictures if picture not in left]


def _listed(file: Path, folder: Path, pictures: Sequence[str], problems: Problems) -> Iterator[str]:
    """The pictures that the lines of a text file name: by path or name, with an ending or without."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SetError(Problem(Kind.SET, file, f"cannot be read ({error})", "restore the list")) from None
    known = _by_name(pictures)
    if not any(map(str.strip, lines)):
        raise SetError(Problem(Kind.SET, file, "lists no pictures", "write their names into it, one a line"))
    for number, line in enumerate(lines, start=1):
        name = line.strip().replace("\\", "/")
        if not name:
            continue
        parts = name.split("/")
        tails = ("/".join(parts[start:]) for start in range(len(parts)))
        found = next((known[tail] for tail in tails if known.get(tail)), None)
        if found is None:
            what = f"names {name}, which is no picture in {folder}, or of several"
            mend = "correct the line, with folder and ending, or remove it"
            problems.append(Problem(Kind.MISSING, file, what, mend, partial(Position, number, None)))
        else:
            yield found


def _by_name(pictures: Sequence[str]) -> Mapping[str, str | None]:
    """Pictures by path and by name, with their ending and without; None where several have one."""
    known: dict[str, str | None] = {}
    for picture in pictures:
        name = picture.rpartition("/")[2]
        stems = (os.path.splitext(text)[0] for text in (picture, name))  # noqa: PTH122
        for key in {picture, name, *stems}:
            known[key] = None if key in known else picture
    return known | {picture: picture for picture in pictures}


def _files(
    folders: tuple[Path, Path], given: tuple[_Pattern | None, _Pattern | None]
) -> tuple[list[str], list[str]]:
    """Pictures and masks, relative to their folders, sorted."""
    found = []
    for folder, other in (folders, folders[::-1]):
        inside = (
            f"{other.relative_to(folder).as_posix()}/"
            if other != folder and other.is_relative_to(folder)
            else None
        )
        names = (name for name in files_below(folder) if ends_in(name, EXTENSIONS))
        found.append(sorted(name for name in names if inside is None or not name.startswith(inside)))
    pictures, masks = found
    if folders[0] == folders[1]:
        pattern = given[1]
        if pattern is None:
            what = "holds pictures and masks"
            mend = "set data.mask_names to what the masks are called, such as *_mask"
            raise SetError(Problem(Kind.SET, folders[0], what, mend))
        masks = [name for name in masks if pattern.core(name) is not None]
        pictures = [name for name in pictures if pattern.core(name) is None]
    for folder, names, key, word in (
        (folders[0], pictures, "images", "picture"),
        (folders[1], masks, "masks", "mask"),
    ):
        if not names:
            what = f"there is no {word} in the folder or below"
            mend = f"set data.{key}_folder; endings that are read are {', '.join(sorted(EXTENSIONS))}"
            raise SetError(Problem(Kind.SET, folder, what, mend))
    return pictures, masks


def _given(key: str, text: str | None) -> _Pattern | None:
    if text is None:
        return None
    if text.count("*") != 1:
        raise ConfigError(f"data.{key}={text}: write one * for what picture and mask have in common, as in *_mask")
    before, _, after = text.partition("*")
    return _Pattern(before, after)


def _patterns(
    pictures: Sequence[str], masks: Sequence[str], given: tuple[_Pattern | None, _Pattern | None]
) -> tuple[_Pattern, _Pattern]:
    """How pictures and masks are named, so that most of them pair; the plainest of such ways."""
    some = masks[:: 1 + len(masks) // _LOOKED_AT]
    best, most = (given[0] or _Pattern("", ""), given[1] or _Pattern("", "")), -1
    of_pictures = [given[0]] if given[0] else _candidates(pictures)
    of_masks = [given[1]] if given[1] else _candidates(masks)
    known = {pattern: {pattern.core(picture) for picture in pictures} for pattern in of_pictures}
    ways = itertools.product(of_pictures, of_masks)
    for picture_pattern, mask_pattern in sorted(ways, key=lambda way: sum(map(len, itertools.chain(*way)))):
        cores = {core for mask in some if (core := mask_pattern.core(mask)) is not None}
        number = len(cores & known[picture_pattern])
        if number > most:
            best, most = (picture_pattern, mask_pattern), number
    return best


def _candidates(files: Sequence[str]) -> list[_Pattern]:
    """Beginnings and ends that most names have, up to or from a sign between words."""
    some = files[:: 1 + len(files) // _LOOKED_AT]
    stems = [os.path.splitext(file.rpartition("/")[2])[0] for file in some]  # noqa: PTH122
    starts = _of_most([{stem[: sign.end()] for sign in _BREAKS.finditer(stem)} for stem in stems])
    ends = _of_most([{stem[sign.start() :] for sign in _BREAKS.finditer(stem)} for stem in stems])
    return list(itertools.starmap(_Pattern, itertools.product(starts, ends)))


def _of_most(parts: Iterable[set[str]]) -> list[str]:
    """Those that most of the sets hold, and nothing."""
    sets = list(parts)
    counts = Counter(part for own in sets for part in own)
    return ["", *(part for part, number in counts.most_common(_CANDIDATES) if number >= _SHARED * len(sets))]


def _note_rest(
    folders: tuple[Path, Path],
    masks: Iterable[str],
    pattern: _Pattern,
    taken: Mapping[str, str],
    problems: Problems,
) -> None:
    """Note the masks that no picture has."""
    for mask in sorted(masks):
        twin = taken.get(pattern.core(mask) or "")
        what = f"is a second mask of {twin}" if twin else f"has no picture in {folders[0]}"
        problems.append(Problem(Kind.NO_PICTURE, folders[1] / mask, what))
