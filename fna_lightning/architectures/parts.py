"""The architectures of a network's parts, as data and as text.

One architecture is written as it is. Several are a mapping of their parts' names in YAML, and follow one another
in the published text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import yaml

from fna_lightning.architectures.kinds import KINDS, Architecture, architecture_from_dict
from fna_lightning.errors import ArchitectureError

Parts = dict[str, Architecture]
"""Architectures by the part of the network that they describe, such as `backbone` and `head`."""

Find = Callable[[str], Parts]
"""Reads the architectures that a name stands for."""

# What PyYAML lets through, besides its own errors, from values that do not fit their tags and from deep nesting.
_YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


def parts_from_dict(data: Mapping[str, Any], find: Find | None = None) -> Parts:
    """Read the plain form of one architecture, or of several under the names of their parts.

    That of one may also be somebody else's, see `Architecture.from_published`.

    Args:
        data: the plain form.
        find: reads what a part is named by instead, `head: fad`; without it nothing can be named.

    Raises:
        ArchitectureError: naming the key at fault.
    """
    for kind in KINDS.values():
        published = None if "kind" in data else kind.from_published(data)
        if published is not None:
            return {published.part: published}
    forms = Mapping if find is None else (Mapping, str)
    if "kind" in data or not data or not all(isinstance(value, forms) for value in data.values()):
        architecture = architecture_from_dict(data)
        return {architecture.part: architecture}
    parts = {}
    for name, value in data.items():
        try:
            parts[name] = (
                _named(value, name, find) if find and isinstance(value, str) else architecture_from_dict(value)
            )
        except ArchitectureError as error:
            raise ArchitectureError(f"{str(name)[:40]}: {error}") from error
        if parts[name].part != name:
            raise ArchitectureError(f"{name}: is the architecture of a {parts[name].part}, not of a {name}")
    return parts


def _named(source: str, part: str, find: Find) -> Architecture:
    found = find(source)
    if part not in found:
        raise ArchitectureError(f"{source} holds the architecture of a {' and a '.join(found)}, of no {part}")
    return found[part]


def parts_to_dict(parts: Mapping[str, Architecture]) -> dict[str, Any]:
    """Plain data that `parts_from_dict` reads back equal."""
    if len(parts) == 1:
        (architecture,) = parts.values()
        return architecture.to_dict()
    return {name: architecture.to_dict() for name, architecture in parts.items()}


def parts_yaml(parts: Mapping[str, Architecture]) -> str:
    """YAML that `parse_parts` reads back equal."""
    return _dump(parts_to_dict(parts))


def parts_text(parts: Mapping[str, Architecture]) -> str:
    """The published texts one after the other, which `parse_parts` reads back equal."""
    return "".join(f"{architecture}\n" for architecture in parts.values())


def parse_parts(text: str, find: Find | None = None) -> Parts:
    """Read architectures from published text forms or from YAML.

    Published forms are those of the registered kinds, such as FNA's and NAA's `net_config`,
    `[[32, 16], ['k3_e1'], 1]|...`.

    Args:
        text: in one of these.
        find: see `parts_from_dict`.

    Raises:
        ArchitectureError: where the text is none of these; it names the place.
    """
    if not isinstance(text, str) or not text.strip():
        raise ArchitectureError("the architecture text is empty")
    if _kind_of(text.lstrip().splitlines()[0]) is not None:
        return _parse_texts(text)
    try:
        _require_single_keys(yaml.compose(text, yaml.SafeLoader))
        data = yaml.safe_load(text)
    except _YAML_ERRORS as error:
        place = getattr(error, "problem_mark", None)
        line = f"line {place.line + 1} " if place else ""
        reason = " ".join(str(error).split())[:80]
        raise ArchitectureError(f"{line}is neither YAML nor {_text_forms()} ({reason})") from error
    if not isinstance(data, Mapping):
        raise ArchitectureError(f"{text.strip()[:60]!r} is neither an architecture in YAML nor {_text_forms()}")
    return parts_from_dict(data, find)


def _require_single_keys(node: yaml.Node | None) -> None:
    """Refuse a key that comes twice, of which YAML's reader takes the last without a word.

    Raises:
        ValueError: naming it.
    """
    todo, seen = [node], set()
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if twice := [key for key in keys if keys.count(key) > 1]:
                raise ValueError(f"the key {twice[0]} comes twice")
            todo += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            todo += node.value


def backbone_or_only(parts: Mapping[str, Architecture]) -> Architecture:
    """The architecture that is meant where a single one is asked for: of several the backbone's."""
    return parts["backbone"] if "backbone" in parts else next(iter(parts.values()))


def parse_architecture(text: str) -> Architecture:
    """Read an architecture as `parse_parts` does; of several the backbone's.

    Raises:
        ArchitectureError: likewise.
    """
    return backbone_or_only(parse_parts(text))


def architecture_yaml(architecture: Architecture) -> str:
    """`architecture` as YAML, which `parse_architecture` reads back equal."""
    return _dump(architecture.to_dict())


def _dump(data: dict[str, Any]) -> str:
    return yaml.safe_dump(data, sort_keys=False, default_flow_style=None)


def _parse_texts(text: str) -> Parts:
    """A text that consists of one published form or several, each of another kind."""
    pieces: list[tuple[type[Architecture], str]] = []
    for line in text.lstrip().splitlines(keepends=True):
        kind = _kind_of(line)
        if kind is None or (pieces and pieces[-1][0] is kind):
            kind, before = pieces.pop()
            line = before + line
        pieces.append((kind, line))
    parts: Parts = {}
    for kind, piece in pieces:
        if kind.part in parts:
            raise ArchitectureError(f"the text holds two architectures of a {kind.part}: leave one out")
        parts[kind.part] = kind.from_text(piece)
    return parts


def _kind_of(line: str) -> type[Architecture] | None:
    """The kind whose published text has such a line."""
    return next((kind for kind in KINDS.values() if kind.recognises(line)), None)


def _text_forms() -> str:
    return " or ".join(kind.text_form for kind in KINDS.values())
