"""Which classes and functions a configuration may name: a configuration is data, and data must not run code.

A `_target_` is imported and called. It is therefore held against a list of packages before anything of it is
imported, whoever wrote the file: a recipe, a run directory that somebody handed over, or the command line.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fna_lightning.errors import ConfigError

ALLOWED = (
    "fna_lightning",
    "lightning.Trainer",
    "lightning.pytorch.loggers",
    "lightning.pytorch.strategies",
    "torch.optim",
)
"""Packages, modules and single objects; of these, classes may be named."""

FUNCTIONS = ("fna_lightning.schedules",)
"""Where functions may be named as well; elsewhere in the package some write files or instantiate settings."""

VARIABLE = "FNA_LIGHTNING_ALLOW"
"""The environment variable by which a user adds to the list; no file can."""

_LOG_CLASSES = ("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "colorlog.ColoredFormatter")
_LOG_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
_LOG_FILE = "${hydra.runtime.output_dir}/${hydra.job.name}.log"
_NAME = re.compile(r"[a-zA-Z]\w*(\.[a-zA-Z]\w*)+", re.ASCII)
_OWN_PLUGINS = "hydra._internal.core_plugins"


def allowed_by_user() -> tuple[str, ...]:
    """The packages named in `FNA_LIGHTNING_ALLOW`, separated by commas."""
    return tuple(name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip())


def import_allowed() -> None:
    """Import what `FNA_LIGHTNING_ALLOW` names, so that kinds of architecture and the like in there are known.

    Raises:
        ConfigError: it cannot be imported.
    """
    try:
        for name in allowed_by_user():
            pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{VARIABLE}={os.environ[VARIABLE]}: cannot be imported ({error}); correct it"
        ) from error


def check_targets(settings: Any, key: str = "") -> None:
    """Hold every `_target_` against the list, at any depth, those in lists included.

    Args:
        settings: plain data: mappings, lists and values.
        key: where in the configuration they stand.

    Raises:
        ConfigError: naming key, target and what would do.
    """
    for place, node in _mappings(settings, key):
        if "_target_" in node:
            resolve_target(place, node["_target_"])


def resolve_target(key: str, target: Any) -> Callable[..., Any]:
    """The class or function of that name, imported only if it is on the list.

    A name is a module and one name in it, so that no walk along attributes leads from a package of the list to
    one that is not; and what is found must have been defined in the package that the list names.

    Args:
        key: the mapping in which it stands as `_target_`.
        target: dotted name.

    Raises:
        ConfigError: naming key, target and what would do.
    """
    place = f"{key}._target_={target}" if key else f"_target_={target}"
    if not isinstance(target, str) or not _NAME.fullmatch(target):
        raise ConfigError(f"{place}: give the dotted name of a class, as package.module.Class")
    own = allowed_by_user()
    owner = next((entry for entry in (*ALLOWED, *own) if _within(target, entry)), None)
    if owner is None:
        raise ConfigError(
            f"{place}: settings may only name what is in {', '.join((*ALLOWED, *own))}; if you trust it, add its "
            f"package in the environment: {VARIABLE}={target.partition('.')[0]}"
        )
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise ConfigError(f"{place}: cannot be imported ({error}); give module and class") from error
    may_be_function = owner in own or any(_within(target, entry) for entry in FUNCTIONS)
    if not (inspect.isclass(found) or (may_be_function and inspect.isfunction(found))):
        words = "class or function" if may_be_function else "class"
        raise ConfigError(f"{place}: there is no such {words}; give the dotted name of one")
    if target != owner and not _within(found.__module__, owner):
        raise ConfigError(f"{place}: is {found.__module__}.{found.__qualname__}, which is outside {owner}")
    return found


def check_hydra(config: DictConfig, overrides: list[str]) -> None:
    """Hold the settings of Hydra itself to what cannot run code, before Hydra acts on them.

    Hydra builds callbacks, launcher, sweeper and log handlers from its configuration before any function of
    this package is called, and sets environment variables. What the command line asks for is the user's own word;
    the files that a configuration is composed from are not.

    Args:
        config: as composed, `hydra` included.
        overrides: the arguments of the command line.

    Raises:
        ConfigError: naming key, value and what would do.
    """
    hydra = config.hydra
    if not set(hydra.overrides.hydra) <= set(overrides):
        raise ConfigError("hydra.overrides is Hydra's record of the command line; remove it from the file")
    # With interpolations put in, because they can stand for whole nodes.
    callbacks = OmegaConf.to_container(hydra.callbacks, resolve=True) if hydra.get("callbacks") else {}
    check_targets(callbacks, "hydra.callbacks")
    for plugin in ("launcher", "sweeper"):
        _check_plugin(f"hydra.{plugin}", hydra[plugin], _asked_for(f"hydra/{plugin}=", overrides))
    for logging in ("hydra_logging", "job_logging"):
        _check_logging(f"hydra.{logging}", OmegaConf.to_container(hydra[logging], resolve=False))
    for name, value in hydra.job.env_set.items():
        if os.environ.get(name) != value and not _asked_for(f"hydra.job.env_set.{name}=", overrides):
            raise ConfigError(f"hydra.job.env_set.{name}={value}: no file may set this; set {name} in the shell")


def _check_plugin(key: str, node: DictConfig | None, asked_for: bool) -> None:
    """Hydra itself sees to it that this is one of its installed plugins; some of them run commands."""
    settings = OmegaConf.to_container(node, resolve=True) if node is not None else {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{key}={settings}: choose one by {key.replace('.', '/')}=<name>")
    target = str(settings.pop("_target_", ""))
    if target and not _within(target, _OWN_PLUGINS) and not asked_for:
        raise ConfigError(
            f"{key}._target_={target}: no file may choose this; "
            f"give {key.replace('.', '/')}=<name> on the command line"
        )
    check_targets(settings, key)


def _check_logging(key: str, settings: Any) -> None:
    """Log handlers that print, or write to the run's own log file; nothing else."""
    for place, node in _mappings(settings, key):
        for name, value in node.items():
            wrong = f"{place}.{name}={value}"
            if name in ("()", "class", "queue", "listener") and value not in (*_LOG_CLASSES, *allowed_by_user()):
                raise ConfigError(f"{wrong}: give one of {', '.join(_LOG_CLASSES)}")
            if name == "filename" and value != _LOG_FILE:
                raise ConfigError(f"{wrong}: logs are written to {_LOG_FILE}")
            if isinstance(value, str) and "://" in value and value not in _LOG_STREAMS:
                raise ConfigError(f"{wrong}: give {' or '.join(_LOG_STREAMS)}")
            if isinstance(value, str) and "${" in value and name != "filename":
                raise ConfigError(f"{wrong}: write it out, without interpolation")


def _mappings(node: Any, key: str) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """All mappings in plain data, with where they stand."""
    if isinstance(node, Mapping):
        yield key, node
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for name, value in items:
        yield from _mappings(value, f"{key}.{name}" if key else str(name))


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _asked_for(text: str, overrides: list[str]) -> bool:
    return any(override.lstrip("+").startswith(text) for override in overrides)
