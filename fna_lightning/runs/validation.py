"""Types of all settings, held against what takes them, before anything is built."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union

from hydra.utils import get_object
from lightning import Trainer
from omegaconf import DictConfig, OmegaConf

from fna_lightning.errors import ConfigError

_Size = tuple[int, int]
PLAIN: dict[str, Any] = {
    "random_seed": int,
    "resume": str | None,
    "channels_last": bool,
    "compile": bool,
    "checkpoint": str | None,
    "clip": float | None,
    "cost.weight": float,
    "cost.log_base": float,
    "cost.target": float | None,
    "cost.input_size": _Size,
    "detector.features": list[int],
    "remap.strategy": str,
    "remap.source": str,
    "remap.supernet": str | None,
    "remap.calibration_batches": int,
    "search.share": float,
    "search.augment_weight_half": bool,
    "search.warmup_epochs": int,
    "search.weight_steps": int,
    "search.temperature": float,
    "search.clip_weights": float | None,
    "search.clip_architecture": float | None,
    "search.log_every": int,
    "seed.weights": str | None,
    "seed.architecture": str | None,
}
"""Settings that no constructor takes by that name."""

_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a text",
    type(None): "null",
}


def check_types(config: DictConfig) -> None:
    """Hold every setting against its type.

    Raises:
        ConfigError: naming key, value and what would do.
    """
    for key, kind in PLAIN.items():
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        if node is not None and name in node and not OmegaConf.is_missing(node, name):
            _check(key, node[name], kind)
    for key, node in _targets(config):
        hints = _hints(get_object(node["_target_"]))
        for name in node:
            if name in hints and f"{key}.{name}" not in PLAIN:
                _check(f"{key}.{name}", node[name], hints[str(name)])
    for name in config.get("strategy") or {}:
        _check(f"strategy.{name}", config.strategy[name], _hints(Trainer)[name])


def _targets(config: DictConfig, prefix: str = "") -> Iterator[tuple[str, DictConfig]]:
    """All nodes that name a class or function; loggers take more than their signatures say."""
    for key in config:
        node = None if OmegaConf.is_missing(config, key) else config[key]
        if isinstance(node, DictConfig) and f"{prefix}{key}" not in ("logger", "hydra"):
            if "_target_" in node:
                yield f"{prefix}{key}", node
            yield from _targets(node, f"{prefix}{key}.")


def _hints(target: Any) -> dict[str, Any]:
    """Argument -> annotation, those of base classes included, because `**settings` go there."""
    owners = [base.__init__ for base in reversed(target.__mro__)] if inspect.isclass(target) else [target]
    return {name: kind for owner in owners for name, kind in _own_hints(owner).items()}


def _own_hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError):
        return {}  # annotations that cannot be read judge nothing


def _check(key: str, value: Any, kind: Any) -> None:
    value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    if not _fits(value, kind):
        raise ConfigError(f"{key}={value}: give {_describe(kind)}")


def _fits(value: Any, kind: Any) -> bool:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if kind in _WORDS:
        return _is_plain(value, kind)
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return isinstance(value, dict) and all(_fits(k, parts[0]) and _fits(v, parts[1]) for k, v in value.items())
    if origin is tuple and Ellipsis not in parts:
        return _is_list(value) and len(value) == len(parts) and all(map(_fits, value, parts))
    if inspect.isclass(origin) and issubclass(list, origin):
        return _is_list(value) and all(_fits(item, parts[0]) for item in value)
    # Objects of other classes cannot be written in a configuration; anything else is not judged.
    return not inspect.isclass(kind)


def _is_plain(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, {float: (int, float), Path: str}.get(kind, kind))


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _describe(kind: Any) -> str:
    """What would fit, in words."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind in _WORDS:
        return _WORDS[kind]
    if origin in (Union, types.UnionType):
        words = [_describe(part) for part in parts if part in _WORDS or typing.get_origin(part) is not None]
        return " or ".join(dict.fromkeys(words))
    if origin is Literal:
        return "one of " + ", ".join(map(str, parts))
    if origin is tuple and Ellipsis not in parts:
        return f"a list of {len(parts)}: " + ", ".join(map(_describe, parts))
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return f"a mapping, each key {_describe(parts[0])} and each value {_describe(parts[1])}"
    return f"a list, each {_describe(parts[0])}" if parts else "another value"
