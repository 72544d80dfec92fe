"""Reading untrusted mappings key by key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from fna_lightning.errors import ArchitectureError

T = TypeVar("T")
_REQUIRED: Any = object()


class Reader:
    """Takes keys out of a mapping, checks their types and complains of what is left.

    Raises:
        ArchitectureError: where `data` is no mapping.
    """

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, Mapping):
            raise ArchitectureError(f"{where} is {data!r}: give a mapping")
        self._left = dict(data)
        self._left.pop("kind", None)
        self._where = where

    def take(self, key: str, kind: type[T], default: T = _REQUIRED) -> T:
        """The value of `key`, of exactly the type `kind`.

        Raises:
            ArchitectureError: where the key is missing without default, or of another type.
        """
        value = self._left.pop(key, default)
        if value is _REQUIRED:
            raise ArchitectureError(f"{self._where} lacks the key {key!r}")
        if type(value) is not kind:
            raise ArchitectureError(f"{self._where}: {key} is {value!r}: give a value of type {kind.__name__}")
        return value

    def finish(self) -> None:
        """Complain of keys that nobody took.

        Raises:
            ArchitectureError: naming them.
        """
        if self._left:
            names = ", ".join(repr(str(key)) for key in self._left)
            raise ArchitectureError(f"{self._where} has unknown keys: {names}")
