"""Architectures in and out of files, run directories and the published list."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fna_lightning.architectures.kinds import Architecture
from fna_lightning.architectures.parts import (
    Parts,
    architecture_yaml,
    backbone_or_only,
    parse_parts,
    parts_text,
    parts_yaml,
)
from fna_lightning.errors import ArchitectureError
from fna_lightning.files import CONF_DIR, write_text

FILE_NAME = "architecture.yaml"
"""The file in a run directory that holds its architectures; the published text is beside it as `.txt`."""


def published_names() -> list[str]:
    """The names that `load_parts` knows, those of `conf/architecture/`."""
    return sorted(path.stem for path in (CONF_DIR / "architecture").glob("*.yaml") if path.stem != "file")


def load_parts(source: str | Path) -> Parts:
    """Read the architectures of a network's parts by published name, from a file, or from a run directory.

    Raises:
        ArchitectureError: naming the source and what is wrong with it.
    """
    path = _find(source)
    try:
        return parse_parts(path.read_text(encoding="utf-8-sig"), _published)
    except (OSError, UnicodeDecodeError) as error:
        raise ArchitectureError(f"{path}: cannot be read as text ({error})") from error
    except ArchitectureError as error:
        raise ArchitectureError(f"{path}: {error}") from error


def load_architecture(source: str | Path) -> Architecture:
    """Read an architecture as `load_parts` does; of several the backbone's.

    Raises:
        ArchitectureError: likewise.
    """
    return backbone_or_only(load_parts(source))


def save_parts(parts: Mapping[str, Architecture], folder: Path) -> None:
    """Write the architectures of a network's parts into a run directory, as YAML and as published text."""
    write_text(folder / FILE_NAME, parts_yaml(parts))
    write_text((folder / FILE_NAME).with_suffix(".txt"), parts_text(parts))


def save_architecture(architecture: Architecture, path: str | Path) -> None:
    """Write `architecture` as YAML, or as its published text where `path` ends in `.txt`."""
    path = Path(path)
    write_text(path, f"{architecture}\n" if path.suffix == ".txt" else architecture_yaml(architecture))


def _published(name: str) -> Parts:
    """What a file may name: no other files, so that reading one reads no second one of somebody's choice."""
    if name not in published_names():
        raise ArchitectureError(f"{name[:200]!r} is none of {', '.join(published_names())}")
    return load_parts(name)


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
