"""Classes are known by their names: numbers, ids and orders are those of a file."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

from fna_lightning.errors import DataError, listed


def class_order(names: Sequence[str], own: Sequence[str], renamed: Mapping[str, str] | None = None) -> list[int]:
    """Where each of a network's classes stands among those of a data set.

    Args:
        names: the network's, by label.
        own: the data set's, by label.
        renamed: names in the data set -> names in the network, of those that differ.

    Raises:
        DataError: they are not the same classes, or two have one name; the message lists them.
    """
    renamed = renamed or {}
    if unknown := [name for name in renamed if name not in own]:
        raise DataError(f"the data set has no class {_listed(unknown)}, but {_listed(own)}")
    here = [renamed.get(name, name) for name in own]
    if here == list(names):
        return list(range(len(here)))
    if twice := [name for classes in (here, names) for name, count in Counter(classes).items() if count > 1]:
        raise DataError(f"several classes are named {_listed(twice)}, so that they cannot be told apart by name")
    only_here, only_there = ([name for name in a if name not in b] for a, b in ((here, names), (names, here)))
    if only_here or only_there:
        parts = [f"only the data set has {_listed(only_here)}" if only_here else ""]
        parts += [f"only the network has {_listed(only_there)}" if only_there else ""]
        raise DataError(f"its classes are not the network's: {', '.join(filter(None, parts))}")
    return [here.index(name) for name in names]


def class_difference(train: Sequence[str], val: Sequence[str]) -> str:
    """In what the classes of two sets differ, in words.

    Args:
        train: The training set's, by label.
        val: The validation set's, likewise; not the same.
    """
    only_train, only_val = ([name for name in a if name not in b] for a, b in ((train, val), (val, train)))
    if only_train or only_val:
        parts = [f"only training has {_listed(only_train)}" if only_train else ""]
        parts += [f"only validation has {_listed(only_val)}" if only_val else ""]
        return f"training and validation set have other classes: {', '.join(filter(None, parts))}"
    place = next(label for label, (one, other) in enumerate(zip(train, val, strict=False)) if one != other)
    return (
        "training and validation set have the same classes in another order: "
        f"class {place + 1} is {train[place]!r} in training, but {val[place]!r} in validation"
    )


def _listed(names: Sequence[str]) -> str:
    return listed(map(_quoted, names))


def _quoted(name: str) -> str:
    """In quotes; letters that are put together of several are written out, as they look like others."""
    return repr(name) if unicodedata.is_normalized("NFC", name) else ascii(name)
