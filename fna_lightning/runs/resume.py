"""A run that goes on is the run that was begun: its settings are held against those that were saved with it.

Optimisers, schedules and the place in the data are restored from the checkpoint, whatever the settings say. What
they decide can therefore not change; the rest takes effect, and is written down.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fna_lightning.callbacks.consensus import flatten
from fna_lightning.checkpoints import read_file
from fna_lightning.data.base import DataModule
from fna_lightning.errors import CheckpointError, ConfigError, UserError, brief, listed
from fna_lightning.files import CONF_DIR
from fna_lightning.runs import build, datasets
from fna_lightning.runs.composition import bring_up_to_date
from fna_lightning.runs.folder import plain
from fna_lightning.runs.processes import count_devices
from fna_lightning.runs.schema import ENTRIES
from fna_lightning.runs.validation import is_group
from fna_lightning.settings import Group
from fna_lightning.targets import resolve_target

Settings = dict[str, Any]
"""Values by dotted key."""

_FREE = (
    *("resume", "channels_last", "compile", "train_with", "classes", "paths", "paths.*", "logger", "logger.*"),
    *("trainer.*", "strategy.*", "search.log_every", "data.num_workers", "data.prefetch", "data.check_images"),
    "data.on_error",
)
"""What may change, with exceptions."""
_BOUND = (
    *("trainer._target_", "trainer.max_epochs", "trainer.limit_train_batches", "trainer.gradient_clip_algorithm"),
    "strategy.sync_batchnorm",
)
"""The exceptions."""
_PLACES = ("data.root", "data.*_annotations", "data.*_images", "data.*_folder", "data.*_list", "data.description")
"""Where the set lies: it may have moved, which its content shows."""
_ORIGINS = ("seed.weights", "remap.supernet", "checkpoint")
"""Where parameters came from, which are not read again; files may have moved."""
_OF_NETWORK = ("architecture", "detector", "task", "data.classes", "data=")
_MAPS = ("detector.strides", "detector.features")
_GROUPS = ("architecture", "detector", "data", "trainer", "strategy")
_INSTEAD = {
    "train": "search from its parameters by seed=custom seed.weights={run}",
    "search": "train what it found by architecture={run}",
    "evaluate": "give a run of training",
}
_PARTS_OF_CHECKPOINT = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "iteration")
_BROKEN = (OSError, ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError, OmegaConfBaseException)
_UNKNOWN = object()
_SHOWN, _LENGTH = 4, 48


@dataclass(frozen=True)
class _Run:
    """The settings of a run, and the same comparable: values by dotted key."""

    config: DictConfig
    values: Settings
    entry: str


def check_resume(config: DictConfig, folder: Path, entry: str) -> None:
    """Hold the settings of a run that goes on against those with which it was begun.

    Args:
        config: its settings.
        folder: its directory.
        entry: of which entry point: `train`, `search` or `evaluate`.

    Raises:
        UserError: where there is nothing to go on from, or naming what cannot change with both values.
    """
    if config.resume is not None and entry == "evaluate":
        raise ConfigError(f"resume={config.resume}: an evaluation does not go on; leave it out")
    found = build.resume_path(config, folder)
    if found is None:
        return
    path = Path(found)
    content = _read_checkpoint(config, path)
    _require_epochs(config, content)
    old = _read_settings(config, path)
    if old.entry != entry:
        raise ConfigError(
            f"resume={config.resume}: is a run of {old.entry}.py, not of {entry}.py; "
            + _INSTEAD[old.entry].format(run=path.parent.parent)
        )
    current = cast("DictConfig", OmegaConf.create(plain(config)))
    new = _Run(current, _comparable(current), entry)
    if odd := [*_of_settings(old, new, content), *_of_batches(old.config, current, content)]:
        raise ConfigError(
            f"resume={config.resume}: cannot change in a run that goes on: {listed(odd, _SHOWN, '; ')}; "
            f"leave it as it was, or begin anew {_by_which_key(odd, path.parent.parent, entry)}"
        )


def check_same_data(config: DictConfig, folder: Path, data: DataModule[Any]) -> None:
    """Hold the data set of a run that goes on against the one that it was begun with.

    Raises:
        UserError: where it holds another number of pictures or boxes, other ones, or other classes.
    """
    path = build.resume_path(config, folder)
    if path is None:
        return
    content = read_file(path)
    for split, counts in content.get("data", {}).items():
        now = data.totals().get(split, {})
        for title in counts:
            if title in now and counts[title] != now[title]:
                raise ConfigError(
                    f"resume={config.resume}: the {split} set has {now[title]} {title}, but had {counts[title]} "
                    "when the run was begun; give the same set"
                )
    datasets.match_classes(
        data, path, f"resume={config.resume} needs the set it was begun with", before=data.class_names
    )
    for split, wanted in content.get("fingerprints", {}).items():
        if data.fingerprints().get(split) != wanted:
            raise ConfigError(
                f"resume={config.resume}: the {split} set has as much in it as when the run was begun, but other "
                "pictures or annotations; give the same set"
            )


def _read_checkpoint(config: DictConfig, path: Path) -> dict[str, Any]:
    """A run's checkpoint.

    Raises:
        CheckpointError: where it is weights alone, or another program's.
    """
    content = read_file(path)
    missing = [name for name in _PARTS_OF_CHECKPOINT if name not in content]
    if missing:
        alone = "optimizer_states" in missing
        what = "weights alone, without an optimiser's state" if alone else f"another program, without {missing[0]}"
        raise CheckpointError(
            f"resume={config.resume}: is a file of {what} to go on from; begin a run from its weights by "
            f"seed=custom seed.weights={path}"
        )
    return content


def _require_epochs(config: DictConfig, content: Mapping[str, Any]) -> None:
    """Require that a run ends no earlier than it has come: its settings would say what is not true.

    Raises:
        ConfigError: where it was trained for more epochs than it is to have.
    """
    try:
        begun = int(content["loops"]["fit_loop"]["epoch_progress"]["current"]["started"])
    except (KeyError, TypeError, ValueError):
        return  # which is told where it is restored
    wanted = config.trainer.max_epochs
    if isinstance(wanted, int) and 0 <= wanted < begun:
        raise ConfigError(
            f"resume={config.resume}: trainer.max_epochs={wanted}, but the run is in its epoch {begun} already; "
            f"give {begun} or more"
        )


def _read_settings(config: DictConfig, path: Path) -> _Run:
    """The `config.yaml` beside a checkpoint, as today's are written.

    Raises:
        CheckpointError: where there is none, or it cannot be read.
    """
    file = path.parent.parent / "config.yaml"
    if not file.is_file():
        raise CheckpointError(
            f"resume={config.resume}: no config.yaml in {file.parent}, which says how the run was begun; keep "
            "checkpoints in their run directory"
        )
    try:
        began = OmegaConf.load(file)
        if not isinstance(began, DictConfig) or not all(
            isinstance(began.get(name), DictConfig) for name in _GROUPS
        ):
            raise ValueError(f"it has no {', '.join(_GROUPS)}")
        bring_up_to_date(began)
        entry = "search" if "search" in began else "evaluate" if "save_predictions" in began else "train"
        return _Run(began, _comparable(began), entry)
    except _BROKEN as error:
        raise CheckpointError(f"{file}: is no run's configuration ({brief(error)}); restore it") from error


def _of_settings(old: _Run, new: _Run, content: Mapping[str, Any]) -> Iterator[str]:
    """What differs and cannot change, in words; of a group that is another one, nothing but that."""
    keys = sorted(old.values.keys() | new.values.keys())
    odd = [key for key in keys if _differs(key, old.values, new.values)]
    others = tuple(key.removesuffix("_target_") for key in odd if key.endswith("._target_"))
    for key in odd:
        inside = key.startswith(others) and not key.endswith("._target_")
        if inside or _may_change(key, old, new, content):
            continue
        if key == "architecture":
            yield "architecture is another"
        else:
            yield f"{key.removesuffix('._target_')}={_short(key, new.values)} (was {_short(key, old.values)})"


def _comparable(config: DictConfig) -> Settings:
    """Settings by dotted key; the architecture as data, the maps that a detector reads by name."""
    settings = cast("dict[str, Any]", OmegaConf.to_container(config, resolve=False))
    architecture = settings.pop("architecture")
    settings.pop("hydra", None)
    values = {str(key): json.loads(value) for key, value in flatten(settings)}
    try:
        parts = build.resolve_parts(OmegaConf.create({"architecture": architecture}))
        maps = list(build.out_stages(config, parts["backbone"]))
    except UserError:  # a file that was moved, or maps that no backbone of the kind has
        return {**values, "architecture": architecture}
    values = {key: value for key, value in values.items() if not key.startswith(_MAPS)}
    return {**values, "detector.features": maps, "architecture": parts}


def _differs(key: str, old: Settings, new: Settings) -> bool:
    if key in old and key in new and key.endswith("_target_"):
        return str(old[key]).rpartition(".")[2] != str(new[key]).rpartition(".")[2]  # a class may have moved
    return key not in old or key not in new or old[key] != new[key]


def _may_change(key: str, old: _Run, new: _Run, content: Mapping[str, Any]) -> bool:
    """Whether a difference in `key` takes effect, or means nothing."""
    values = [run.values.get(key) for run in (old, new)]
    if key == "data.batch_size":
        return True  # see `_of_batches`
    if key == "trainer.max_epochs":
        return isinstance(values[0], int) and not _matters(new.config, values[0], new.config.trainer.max_epochs)
    if any(fnmatchcase(key, pattern) for pattern in _PLACES):
        return "data" in content  # which `check_same_data` compares
    if key in _ORIGINS and Path(str(values[0])).name == Path(str(values[1])).name:
        return True
    if key not in _BOUND and any(fnmatchcase(key, pattern) for pattern in _FREE):
        return True
    if key in old.values and key in new.values:
        return False
    there, value = (new, values[1]) if key in new.values else (old, values[0])
    return value == _default(there.config, key, new.entry)


def _matters(config: DictConfig, old: int, new: int) -> bool:
    """Whether a schedule of the run is another one for another number of epochs."""
    nodes = [OmegaConf.select(config, key) for key in ("schedule", "search.schedule")]

    def state(node: DictConfig, epochs: int) -> str:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        return str(build.make(node)(optimizer, steps_per_epoch=100, epochs=epochs).state_dict())

    return any(state(node, old) != state(node, new) for node in nodes if node is not None)


def _of_batches(began: DictConfig, current: DictConfig, content: Mapping[str, Any]) -> Iterator[str]:
    """What differs where a step is not of as many pictures as before, over all processes."""
    old, new = (config.data.get("batch_size") for config in (began, current))
    before, now = content.get("processes") or _processes(began), _processes(current)
    if before is None or now is None:
        before = now = 1  # of a machine that is not this one
    if isinstance(old, int) and old * before == new * now:
        return
    if old != new:
        yield f"data.batch_size={new} (was {old})"
    if before != now:
        yield f"strategy.devices={current.strategy.devices}: {now} process(es) (were {before})"


def _processes(config: DictConfig) -> int | None:
    """How many processes a strategy makes, where this machine can tell."""
    try:
        return count_devices(config.strategy) * int(config.strategy.num_nodes)
    except (ConfigError, ValueError, TypeError, OmegaConfBaseException):
        return None


def _default(config: DictConfig, key: str, entry: str) -> Any:
    """The value that `key` has where nobody sets it, of a constructor, the schema or the configuration files."""
    group, _, name = key.rpartition(".")
    node = OmegaConf.select(config, group) if group else config
    if isinstance(node, DictConfig) and "_target_" in node:
        target = resolve_target(group, node._target_)
        owners = [base.__init__ for base in target.__mro__] if inspect.isclass(target) else [target]
        for owner in owners:
            argument = inspect.signature(owner).parameters.get(name)
            if argument is not None and argument.default is not argument.empty:
                return list(argument.default) if isinstance(argument.default, tuple) else argument.default
    schema = _schema(entry, group)
    for field in dataclasses.fields(schema) if schema is not None else ():
        if field.name == name and field.default is not dataclasses.MISSING:
            return field.default
    files = (f"base_{group}.yaml", f"{group}/default.yaml") if group else ("base.yaml", f"{entry}.yaml")
    for file in files:
        content = yaml.safe_load((CONF_DIR / file).read_text()) if (CONF_DIR / file).is_file() else {}
        if name in content:
            return content[name]
    return _UNKNOWN


def _schema(entry: str, group: str) -> type[Group] | None:
    """The class that describes a group of an entry point, or its settings themselves."""
    schema = ENTRIES[entry]
    kind = typing.get_type_hints(schema).get(group) if group else schema
    return kind if is_group(kind) else None


def _short(key: str, settings: Settings) -> str:
    if key not in settings:
        return "not set"
    value = settings[key]
    text = str(value).rpartition(".")[2] if key.endswith("_target_") else json.dumps(value, ensure_ascii=False)
    text = text.strip('"')
    return text if len(text) <= _LENGTH else f"{text[: _LENGTH - 3]}..."


def _by_which_key(odd: Sequence[str], run: Path, entry: str) -> str:
    """How to begin anew from the parameters that are there."""
    if entry == "search":
        return "without resume"
    if any(text.startswith(_OF_NETWORK) for text in odd):
        return f"from its backbone by seed=custom seed.weights={run}"
    return f"from its parameters by checkpoint={run}"
