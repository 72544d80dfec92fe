"""What every kind of architecture can do, and the list of the kinds, in which each registers itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from fna_lightning.architectures.levels import Level
from fna_lightning.errors import ArchitectureError

SKIP = "skip"
"""How a layer that is left out is called, in architectures and among candidates of every kind."""


class Architecture(ABC):
    """A part of a network as frozen, hashable data; `str` gives the published text form.

    Attributes:
        kind: by which files name this kind, under the key `kind`.
        part: of a run's network: `backbone` or `head`.
        text_form: what the published text is called, with its article.
    """

    kind: ClassVar[str]
    part: ClassVar[str]
    text_form: ClassVar[str]

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain data, `kind` included, that `from_dict` reads back equal."""

    @classmethod
    @abstractmethod
    def from_dict(cls, data: dict[str, Any]) -> Architecture:
        """Read what `to_dict` gives.

        Raises:
            ArchitectureError: naming the key that is missing, unknown or of the wrong type.
        """

    @classmethod
    def from_published(cls, data: Mapping[Any, Any]) -> Architecture | None:
        """Read plain data as somebody else publishes it, without a `kind`; None where it is of no known form.

        Raises:
            ArchitectureError: where it is of a known form, naming the key at fault.
        """
        del data
        return None

    @classmethod
    @abstractmethod
    def recognises(cls, line: str) -> bool:
        """Whether an architecture of this kind begins, or goes on, with this line of published text.

        A line that no kind recognises goes on with what stands before it.
        """

    @classmethod
    @abstractmethod
    def from_text(cls, text: str) -> Architecture:
        """Read the published text form.

        Raises:
            ArchitectureError: naming the place and what is wrong there.
        """

    @abstractmethod
    def __str__(self) -> str: ...

    def shares_weights_with(self, other: Architecture) -> bool:
        """Whether tensors of equal names and shapes mean the same in a network of `other`."""
        return self.kind == other.kind

    def levels(self, output_stride: int | None = None) -> tuple[Level, ...]:
        """The feature maps that other parts may read, in the order in which they are computed; a head has none.

        Args:
            output_stride: the largest stride wanted; beyond it strides become dilations.

        Raises:
            ArchitectureError: where the network cannot have that output stride.
        """
        del output_stride
        return ()


KINDS: dict[str, type[Architecture]] = {}
"""All kinds by name."""

Kind = TypeVar("Kind", bound=type[Architecture])


def register_kind(kind: Kind) -> Kind:
    """Let files hold architectures of this class; a decorator.

    Raises:
        ValueError: for a second class of that name.
    """
    if KINDS.setdefault(kind.kind, kind) is not kind:
        raise ValueError(f"{kind.__name__}: {KINDS[kind.kind].__name__} is of the kind {kind.kind!r} already")
    return kind


def architecture_from_dict(data: Mapping[str, Any]) -> Architecture:
    """Read the plain form of any architecture; its `kind` says which.

    Raises:
        ArchitectureError: naming the key at fault.
    """
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ArchitectureError(f"kind {kind!r} is unknown: give one of {', '.join(sorted(KINDS))}")
    return KINDS[kind].from_dict(dict(data))
