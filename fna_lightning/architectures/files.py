"""Architectures in and out of text and files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import yaml

from fna_lightning.architectures.mobile import MobileArchitecture
from fna_lightning.errors import ArchitectureError
from fna_lightning.files import CONF_DIR, write_text

FILE_NAME = "architecture.yaml"
"""The file in a run directory that holds its architecture; the published text is beside it as `.txt`."""


@runtime_checkable
class Architecture(Protocol):
    """A network as frozen, hashable data; `str` gives the published text form."""

    kind: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `architecture_from_dict` reads back equal."""
        ...


# What PyYAML lets through, besides its own errors, from values that do not fit their tags and from deep nesting.
_YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError)

_KINDS: dict[str, type[MobileArchitecture]] = {MobileArchitecture.kind: MobileArchitecture}


def architecture_from_dict(data: Mapping[str, Any]) -> MobileArchitecture:
    """Read the plain form of any architecture; its `kind` says which.

    Raises:
        ArchitectureError: naming the key at fault.
    """
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ArchitectureError(f"kind {kind!r} is unknown: give one of {', '.join(sorted(_KINDS))}")
    return _KINDS[kind].from_dict(dict(data))


def parse_architecture(text: str) -> MobileArchitecture:
    """Read an architecture from its published text form or from YAML.

    Published forms: FNA's and NAA's `net_config`, `[[32, 16], ['k3_e1'], 1]|...`.

    Raises:
        ArchitectureError: where the text is none of these; it names the place.
    """
    if not isinstance(text, str) or not text.strip():
        raise ArchitectureError("the architecture text is empty")
    if text.lstrip().startswith("[["):
        return MobileArchitecture.from_text(text)
    try:
        data = yaml.safe_load(text)
    except _YAML_ERRORS as error:
        place = getattr(error, "problem_mark", None)
        line = f"line {place.line + 1} " if place else ""
        raise ArchitectureError(
            f"{line}is neither YAML nor a net_config ({' '.join(str(error).split())[:80]})"
        ) from error
    if not isinstance(data, Mapping):
        raise ArchitectureError(f"{text.strip()[:60]!r} is neither an architecture in YAML nor a net_config")
    return architecture_from_dict(data)


def published_names() -> list[str]:
    """The names that `load_architecture` knows, those of `conf/architecture/`."""
    return sorted(path.stem for path in (CONF_DIR / "architecture").glob("*.yaml") if path.stem != "file")


def load_architecture(source: str | Path) -> MobileArchitecture:
    """Read an architecture by published name, from a file, or from a run directory.

    Raises:
        ArchitectureError: naming the source and what is wrong with it.
    """
    path = _find(source)
    try:
        return parse_architecture(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ArchitectureError(f"{path}: cannot be read as text ({error})") from error
    except ArchitectureError as error:
        raise ArchitectureError(f"{path}: {error}") from error


def save_architecture(architecture: Architecture, path: str | Path) -> None:
    """Write `architecture` as YAML, or as its published text where `path` ends in `.txt`."""
    path = Path(path)
    if path.suffix == ".txt":
        write_text(path, f"{architecture}\n")
    else:
        write_text(path, architecture_yaml(architecture))


def architecture_yaml(architecture: Architecture) -> str:
    """`architecture` as YAML, which `parse_architecture` reads back equal."""
    return yaml.safe_dump(architecture.to_dict(), sort_keys=False, default_flow_style=None)


def _find(source: str | Path) -> Path:
    named = CONF_DIR / "architecture" / f"{source}.yaml"
    if str(source) in published_names():
        return named
    path = Path(source)
    try:
        path = path / FILE_NAME if path.is_dir() else path
        found = path.is_file()
    except OSError:  # Such as a text too long for a file name.
        found = False
    if not found:
        names = ", ".join(published_names())
        raise ArchitectureError(
            f"architecture {str(source)[:200]!r} is no file, no run directory and none of {names}"
        )
    return path
