"""How weight files of one kind of network are read; every kind registers its own dialects of names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from fna_lightning.architectures import Architecture
from fna_lightning.checkpoints.reading import State


class Dialect(NamedTuple):
    """The key names of a publisher."""

    name: str
    """The publisher's, for messages; several may have one."""
    recognises: Callable[[str], bool]
    """Whether a key is of this dialect; one such key is enough."""
    convert: Callable[[State], State]
    """Renames the backbone's tensors to the project's own names and leaves out heads, necks and classifiers."""


@dataclass(frozen=True)
class SeedReader:
    """What is read from weight files of one kind of architecture.

    Attributes:
        dialects: of those that recognise a key of a file, the first is taken.
        infer: the architecture that the shapes of a state under own names show; raises `ArchitectureError`.
    """

    dialects: tuple[Dialect, ...]
    infer: Callable[[State], Architecture]

    def to_native(self, state: State) -> State | None:
        """The backbone's tensors of a known dialect under the project's own names; None where no dialect fits."""
        for dialect in self.dialects:
            if any(map(dialect.recognises, state)):
                return dialect.convert(state)
        return None


READERS: dict[str, SeedReader] = {}
"""By kind of architecture."""
PUBLISHED: dict[str, str] = {}
"""Seeds whose ImageNet weights torchvision publishes, by the name of their architecture; the name of its list."""


def find_reader(state: State, kind: str | None) -> tuple[SeedReader, State] | None:
    """Who reads a file, and its tensors under the project's own names; None where nobody does.

    Args:
        state: the tensors of the file.
        kind: of the architecture where it is known; else all are tried.
    """
    for name, reader in READERS.items():
        native = reader.to_native(state) if kind in (None, name) else None
        if native:
            return reader, native
    return None


def find_inner(state: State, kind: str | None) -> dict[str, tuple[SeedReader, State]]:
    """The networks under attributes of a module that nobody knows, such as `net.`, by that prefix."""
    inner: dict[str, State] = {}
    for name, tensor in state.items():
        for place, letter in enumerate(name, 1):
            if letter == ".":
                inner.setdefault(name[:place], {})[name[place:]] = tensor
    found: dict[str, tuple[SeedReader, State]] = {}
    for prefix in sorted(inner, key=len):
        if not prefix.startswith(tuple(found)) and (reader := find_reader(inner[prefix], kind)):
            found[prefix] = reader
    return found
