"""Every setting held against its schema before anything is built: its name, its type, and what it may be.

A group is held against its class in `schema`, or the one that its `_target_` owns as `Settings`. Where it has a
`_target_`, the arguments of what that names are allowed as well, each with its annotation. A key that neither
knows is an error wherever it was written.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from omegaconf import DictConfig, OmegaConf

from fna_lightning.errors import ConfigError
from fna_lightning.runs.hints import did_you_mean
from fna_lightning.runs.schema import ENTRIES, Adopted, Strategy
from fna_lightning.settings import Built, Group, Limit
from fna_lightning.targets import check_targets, resolve_target

_MISSING = "???"
# What Hydra takes out of a node before it calls the target.
_OF_HYDRA: dict[str, Any] = {
    "_target_": str,
    "_partial_": bool,
    "_recursive_": bool,
    "_convert_": Literal["none", "partial", "object", "all"],
}
_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a text",
    type(None): "null",
}


def check_types(config: DictConfig, entry: str) -> None:
    """Hold all settings against their schema, and what they name against the list of `targets`.

    Interpolations in `config` are replaced by their values, so that what was checked is what is used.

    Args:
        config: an entry point's settings.
        entry: which one's, see `ENTRIES`.

    Raises:
        ConfigError: naming key, value and what would do.
    """
    OmegaConf.resolve(config)
    settings = typing.cast("dict[str, Any]", OmegaConf.to_container(config))
    check_targets(settings)
    _check_owner(settings, entry)
    _check_group("", settings, ENTRIES[entry])


def how_to_add(key: str, beside: Mapping[Any, Any]) -> str | None:
    """How a setting is given that what a group names takes, but that no file mentions; None where there is none.

    Args:
        key: dotted, as it was given.
        beside: the group, with its `_target_`.

    Raises:
        ConfigError: the target is not one that may be named.
    """
    group, _, name = key.rpartition(".")
    if not isinstance(beside.get("_target_"), str):
        return None
    entries = (typing.get_type_hints(schema).get(group) for schema in ENTRIES.values())
    schema = next((part for kind in entries for part in _alternatives(kind) if is_group(part)), Built)
    if name in schema.given and name in _fields(Strategy):
        return f"give strategy.{name}=<value>"
    kind = _keys(group, beside, schema)[0].get(name)
    if kind is None:
        return None
    only = typing.get_origin(kind) is Annotated and typing.get_args(kind)[0] is Any
    return f"give {_describe(kind)}" if only else f"no file mentions it; add it by +{key}=<value>"


def _check_owner(settings: Mapping[str, Any], entry: str) -> None:
    """Refuse settings, as a run of another entry point saves them, as a whole instead of key by key."""
    foreign = sorted(settings.keys() - _fields(ENTRIES[entry]).keys())
    owner = next((name for name, schema in ENTRIES.items() if _is_whole(settings, schema)), None)
    if foreign and owner:
        raise ConfigError(
            f"{', '.join(foreign)}: settings of {owner}.py, unknown to {entry}.py; "
            f"run this configuration by {owner}.py"
        )


def _is_whole(settings: Mapping[str, Any], schema: type[Group]) -> bool:
    """Whether nothing is missing and nothing unknown, as far as names go."""
    required = {field.name for field in dataclasses.fields(schema) if field.default is dataclasses.MISSING}
    return required <= settings.keys() <= _fields(schema).keys()


def _check_group(key: str, node: Mapping[Any, Any], schema: type[Group]) -> None:
    owner = resolve_target(key, node["_target_"]) if issubclass(schema, Built) and "_target_" in node else None
    owned = getattr(owner, "Settings", None)
    schema = owned or schema
    kinds, takes_more = _keys(key, node, schema)
    for name, value in node.items():
        place = f"{key}.{name}" if key else str(name)
        if name in kinds:
            _check(place, value, kinds[name])
        elif not takes_more:
            names = [str(kind) for kind in kinds if kind not in _OF_HYDRA]
            raise ConfigError(f"unknown key {place}={_short(value)}: {did_you_mean(place, names)}")
    if owned or not issubclass(schema, Built):
        for field in dataclasses.fields(schema):
            if field.name not in node and field.default is dataclasses.MISSING:
                place = f"{key}.{field.name}" if key else field.name
                raise ConfigError(f"{place} is not set: give {place}=<value>")


def _keys(key: str, node: Mapping[Any, Any], schema: type[Group]) -> tuple[dict[str, Any], bool]:
    """Names and types of the settings of a group, and whether it takes others, which nobody can judge."""
    kinds = _fields(schema)
    if not issubclass(schema, Built):
        return kinds, False
    if "_target_" not in node:
        if issubclass(schema, Adopted):
            return {}, True
        raise ConfigError(f"{key}: has no _target_; choose an option by {key}=<name>")
    arguments, takes_more = _arguments(resolve_target(key, node["_target_"]))
    if takes_more:
        return _OF_HYDRA, True
    return {n: k for n, k in {**arguments, **_OF_HYDRA, **kinds}.items() if n not in schema.given}, False


def _fields(schema: type[Group]) -> dict[str, Any]:
    hints = typing.get_type_hints(schema, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(schema)}


def _arguments(target: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """Arguments with their annotations, and whether there may be others.

    Those of base classes are included as far as a class hands on `**settings`.
    """
    owners = (
        [base.__init__ for base in target.__mro__ if "__init__" in vars(base) and base is not object]
        if inspect.isclass(target)
        else [target]
    )
    found: dict[str, Any] = {}
    for owner in owners:
        hints = _hints(owner)
        parameters = inspect.signature(owner).parameters
        for name, parameter in parameters.items():
            if name != "self" and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                found.setdefault(name, hints.get(name, Any))
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return found, False
    return found, bool(owners)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError):
        return {}  # annotations that cannot be read judge nothing


def _check(key: str, value: Any, kind: Any) -> None:
    if value == _MISSING:
        return  # named where it is needed
    alternatives = _alternatives(kind)
    schema = next((part for part in alternatives if is_group(part)), None)
    of_groups = next((part for part in alternatives if _holds_groups(part)), None)
    if isinstance(value, Mapping) and schema is not None:
        _check_group(key, value, schema)
    elif isinstance(value, Mapping) and of_groups is not None:
        for name, item in value.items():
            _check(f"{key}.{name}", item, typing.get_args(of_groups)[1])
    elif isinstance(value, Mapping) and "_target_" in value and any(map(_is_object, alternatives)):
        _check_group(key, value, Built)
    elif isinstance(value, str) and not _fits(value, kind) and any(map(_is_object, alternatives)):
        option = f"{key.replace('.', '/')}={_short(value)}"
        raise ConfigError(f"{key}={_short(value)}: an option is chosen by {option}")
    elif not _fits(value, kind):
        raise ConfigError(f"{key}={_short(value)}: give {_describe(kind)}")


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else (kind,)


def is_group(kind: Any) -> bool:
    """Whether a setting's type is a group of settings."""
    return _is_class(kind) and issubclass(kind, Group)


def _is_class(kind: Any) -> bool:
    """Whether it is one, and not such as list[int], which Python 3.10 takes for one."""
    return inspect.isclass(kind) and typing.get_origin(kind) is None


def _holds_groups(kind: Any) -> bool:
    return typing.get_origin(kind) is dict and is_group(typing.get_args(kind)[1])


def _is_object(kind: Any) -> bool:
    """Whether it can only be built by a `_target_`."""
    return kind is Any or (_is_class(kind) and kind not in _WORDS and not is_group(kind))


def _fits(value: Any, kind: Any) -> bool:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if origin is Annotated:
        limits = [part for part in parts[1:] if isinstance(part, Limit)]
        return _fits(value, parts[0]) and all(limit.holds(value) for limit in limits)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if kind in _WORDS:
        return _is_plain(value, kind)
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return isinstance(value, dict) and all(_fits(k, parts[0]) and _fits(v, parts[1]) for k, v in value.items())
    if origin is tuple and Ellipsis not in parts:
        return isinstance(value, list) and len(value) == len(parts) and all(map(_fits, value, parts))
    if inspect.isclass(origin) and issubclass(list, origin):
        return isinstance(value, list) and all(_fits(item, parts[0]) for item in value)
    # Objects of other classes cannot be written in a configuration; anything else is not judged.
    return not _is_class(kind)


def _is_plain(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, {float: (int, float), Path: str}.get(kind, kind))


def _describe(kind: Any) -> str:
    """What would fit, in words."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind in _WORDS:
        return _WORDS[kind]
    if origin is Annotated:
        words = [part.words for part in parts[1:] if isinstance(part, Limit)]
        return ", ".join(words if parts[0] is Any else [_describe(parts[0]), *words])
    if origin in (Union, types.UnionType):
        words = [_describe(part) for part in parts if not _is_object(part)]
        return " or ".join(dict.fromkeys(words))
    if origin is Literal:
        return "one of " + ", ".join(map(str, parts))
    if origin is tuple and Ellipsis not in parts:
        return f"a list of {len(parts)}: " + "; ".join(map(_describe, parts))
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return f"a mapping, each key {_describe(parts[0])} and each value {_describe(parts[1])}"
    if is_group(kind):
        return "a group of settings"
    return f"a list, each {_describe(parts[0])}" if parts else "another value"


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
