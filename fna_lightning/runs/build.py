"""Configuration -> the objects of a run."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast, get_type_hints

import lightning as L
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor, nn

from fna_lightning.architectures import (
    Architecture,
    Parts,
    load_architecture,
    load_parts,
    maps_at,
    maps_named,
    parts_from_dict,
    parts_to_dict,
)
from fna_lightning.blocks import Backbone, Network, freeze
from fna_lightning.callbacks import ConfigConsensus, LastCheckpoint, ProgressBar, RemappingCallback, RunLog
from fna_lightning.checkpoints import (
    PUBLISHED,
    Seed,
    checkpoint_of,
    load_seed,
    network_tensors_of,
    read_file,
    require_finite,
)
from fna_lightning.data.checking.problems import warn
from fna_lightning.errors import ConfigError, UserError
from fna_lightning.files import write_text
from fna_lightning.modules import ParameterGroups, StepGuard
from fna_lightning.runs.checkpoint_io import WholeCheckpoints
from fna_lightning.runs.folder import plain
from fna_lightning.runs.ranks import rank
from fna_lightning.supernets import BackboneAndHead, follow_widths

CHECKPOINTS = "checkpoints"
WANDB_ID = "wandb_id.txt"
_OF_BACKBONE = ("strides", "features", "output_stride")  # of `detector`
_OWN_SETTINGS = ("on_nonfinite", "max_nonfinite", "checkpoint_every")  # of `trainer`, besides Lightning's


def make(config: DictConfig, **arguments: Any) -> Any:
    """Instantiate `config`; a user's error inside comes out as itself, a wrong argument names its key.

    Raises:
        UserError: what the object's constructor found wrong.
        ConfigError: where the constructor does not take the arguments.
    """
    try:
        return instantiate(config, **arguments)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        if isinstance(cause, (TypeError, ValueError, MisconfigurationException)):
            raise ConfigError(f"{config.get('_target_')}: {' '.join(str(cause).split())}") from error
        raise


def resolve_parts(config: DictConfig) -> Parts:
    """The architectures of the network's parts, put into `config` as data, so that the saved one is complete.

    A part may be a name, a file or a run directory: `architecture.head=fad`.

    Raises:
        UserError: where they cannot be read.
        ConfigError: where there is none of the backbone.
    """
    node = config.architecture
    data = cast("Mapping[str, Any]", OmegaConf.to_container(node))
    parts = load_parts(node.path) if "path" in node else parts_from_dict(data, load_parts)
    if "kind" not in node and any(isinstance(value, str) for value in data.values()):
        with open_dict(config):
            config.architecture = parts_to_dict(parts)
    if "backbone" not in parts:
        raise ConfigError(f"architecture: holds that of a {' and a '.join(parts)} alone; add the backbone's")
    return parts


def out_stages(config: DictConfig, architecture: Architecture) -> tuple[str, ...]:
    """Names of the maps that the detector reads, by `detector.features` or else `detector.strides`.

    Strides are those before `detector.output_stride` turns some into dilations: the maps stay the same ones.

    Raises:
        ConfigError: where the backbone has no such map, see `maps_named` and `maps_at`.
    """
    levels = architecture.levels()
    for key, find in (("features", maps_named), ("strides", maps_at)):
        wanted = config.detector.get(key)
        if wanted is not None:
            try:
                return find(levels, wanted)
            except ConfigError as error:
                raise ConfigError(f"detector.{key}={list(wanted)}: {error}") from error
    raise ConfigError("detector.strides is not set: give those of the maps that it reads, such as [8, 16, 32]")


def map_settings(config: DictConfig, architecture: Architecture) -> dict[str, Any]:
    """What the detector asks of `build_backbone` and `build_supernet`: which maps, at which largest stride."""
    return {
        "out_stages": out_stages(config, architecture),
        "output_stride": config.detector.get("output_stride"),
    }


def build_spaces(config: DictConfig, parts: Mapping[str, Architecture]) -> dict[str, Any]:
    """What is searched, by the part of the network: one space, or those of `BackboneAndHead`.

    Raises:
        ConfigError: where a space is of another part than it is given for, see `_begun` besides.
    """
    space = make(config.space)
    if not isinstance(space, BackboneAndHead):
        begun = _begun(space, parts)
        return {begun.part: begun}
    spaces = {part: _begun(each, parts) for part, each in space.parts().items()}
    for part, each in spaces.items():
        if each.part != part:
            raise ConfigError(f"space.{part}: {type(each).__name__} is a space of the {each.part}; give it there")
    return spaces


def _begun(space: Any, parts: Mapping[str, Architecture]) -> Any:
    """A space, which begins with the architecture of its part if it has a `base`.

    Raises:
        ConfigError: where there is none of that kind, or a setting of the space is wrong.
    """
    if not isinstance(space, partial):
        return space
    cls: Any = space.func
    if "base" not in inspect.signature(space).parameters:
        return space()
    base, kind = parts.get(cls.part), get_type_hints(cls)["base"]
    if not isinstance(base, kind):
        found = f"is of kind {base.kind}" if base else f"holds none of the {cls.part}"
        raise ConfigError(f"architecture: {found}, where {cls.__name__} begins with one of kind {kind.kind}")
    return space(base=base)


def freeze_backbone(config: DictConfig, backbone: Backbone) -> Backbone:
    """Fix what `parameters` says of `backbone`, in place.

    Raises:
        ConfigError: it has fewer stages than are to be fixed.
    """
    settings = config.get("parameters") or {}  # that of an older run may lack both
    freeze(backbone, settings.get("frozen_stages", 0), settings.get("frozen_norms", False))
    return backbone


def build_network(
    config: DictConfig, backbone: Backbone, num_classes: int, parts: Mapping[str, Any] = MappingProxyType({})
) -> Network:
    """The detector, segmenter or classifier around `backbone`; architecture or space of its head from `parts`.

    Raises:
        ConfigError: for a head that the detector does not take, or one that it needs and that is not there.
    """
    own = [key for key in config.detector if key not in _OF_BACKBONE]
    build = make(cast("DictConfig", OmegaConf.masked_copy(config.detector, own)))
    head = {"head": parts["head"]} if "head" in parts else {}
    wanted = inspect.signature(build).parameters.get("head")
    name = config.detector._target_.rsplit(".", 1)[-1]
    if head and wanted is None:
        raise ConfigError(f"architecture: holds one of the head, which detector={name} has built in; leave it out")
    if not head and wanted is not None and wanted.default is wanted.empty:
        raise ConfigError(f"architecture: holds none of the head, which detector={name} needs; add it")
    network = build(backbone=backbone, num_classes=num_classes, **head)
    follow_widths(network)
    return network


def build_seed(config: DictConfig) -> Seed | None:
    """The trained network that parameters come from; None where nothing is carried over.

    Raises:
        ConfigError: where ImageNet weights are asked for a network that has none published.
    """
    if config.remap.strategy == "random" or config.seed.weights is None:
        return None
    weights, named = config.seed.weights, config.seed.architecture
    if weights == "imagenet":
        if named not in PUBLISHED:
            raise ConfigError(f"seed.weights=imagenet: choose the network by seed={' or seed='.join(PUBLISHED)}")
        weights = named
    seed = load_seed(weights, load_architecture(named) if named else None, ema=config.seed.get("ema", False))
    if seed.notice:
        warn(seed.notice)
    return seed


def build_remapping(config: DictConfig, folder: Path) -> RemappingCallback:
    """The callback that carries parameters over, from seed, supernet or both.

    Raises:
        ConfigError: where the sources are not given.
    """
    source = config.remap.source
    if source not in ("seed", "supernet", "mixed"):
        raise ConfigError(f"remap.source={source}: give seed, supernet or mixed")
    supernet_state: dict[str, Tensor] | None = None
    if source != "seed":
        if config.remap.supernet is None:
            raise ConfigError(f"remap.source={source} needs remap.supernet=<run directory of the search>")
        path = checkpoint_of(config.remap.supernet)
        supernet_state = network_tensors_of(read_file(path), path)
        require_finite(supernet_state, path)
    seed = None if source == "supernet" else build_seed(config)
    settings = config.remap
    report = folder / "remapping.csv"
    return RemappingCallback(
        seed, settings.strategy, supernet_state, report, settings.get("batches", 0), settings.get("grow")
    )


def load_parameters(network: nn.Module, checkpoint: str | Path) -> None:
    """Fill the whole network from a run's checkpoint.

    Raises:
        UserError: where the checkpoint is of another network.
    """
    path = checkpoint_of(checkpoint)
    stored = read_file(path).get("state_dict")
    state = {
        key.removeprefix("network."): value
        for key, value in (stored.items() if isinstance(stored, Mapping) else ())
        if isinstance(value, Tensor) and str(key).startswith("network.")
    }
    require_finite(state, path)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        problems = str(error).splitlines()
        raise ConfigError(
            f"{path}: does not fit this network:{problems[1] if len(problems) > 1 else ''}"
        ) from error


def check_optimizers(config: DictConfig) -> None:
    """Try the optimisers of a run on a number, before anything is read for them.

    Raises:
        ConfigError: where one does not take its settings, which only it can judge.
    """
    for key in ("optimizer", "search.weights", "search.architecture"):
        node = OmegaConf.select(config, key)
        if isinstance(node, DictConfig) and "_target_" in node:
            try:
                make(node)([nn.Parameter(torch.zeros(1))])
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{key}: {' '.join(str(error).split())}; correct it") from error


def build_guard(config: DictConfig) -> StepGuard:
    """What becomes of a loss or gradient that is not finite."""
    return StepGuard(config.trainer.on_nonfinite, config.trainer.max_nonfinite)


def build_groups(config: DictConfig) -> ParameterGroups:
    """What the optimiser of the weights treats in its own way."""
    settings = config.parameters  # that of an older run may lack the rule of biases
    return ParameterGroups(
        settings.norm_decay,
        settings.head_lr_factor,
        settings.get("bias_lr_factor", 1.0),
        settings.get("bias_decay", True),
    )


def build_trainer(config: DictConfig, folder: Path, callbacks: list[Callback], **options: Any) -> L.Trainer:
    """Lightning's trainer with the settings of `trainer` and `strategy`.

    Raises:
        ConfigError: where batch norms should be synchronised on CPUs, which torch cannot.
    """
    settings = OmegaConf.create({**config.trainer, **config.strategy})
    for name in _OWN_SETTINGS:
        settings.pop(name)
    if settings.enable_progress_bar:
        callbacks = [*callbacks, ProgressBar(leave=True)]
    trainer = make(
        settings,
        callbacks=[ConfigConsensus(plain(config)), *callbacks],
        logger=build_loggers(config, folder),
        default_root_dir=str(folder),
        plugins=[WholeCheckpoints()],
        # The data modules shard by themselves.
        use_distributed_sampler=False,
        **options,
    )
    if settings.sync_batchnorm and trainer.world_size > 1 and trainer.strategy.root_device.type == "cpu":
        raise ConfigError("strategy.sync_batchnorm=true needs GPUs: give strategy.sync_batchnorm=false")
    return trainer


def build_loggers(config: DictConfig, folder: Path) -> list[Logger]:
    """The loggers of `logger`."""
    return [
        _wandb(node, config, folder) if name == "wandb" else make(node) for name, node in config.logger.items()
    ]


def build_recording(config: DictConfig, folder: Path, monitor: str | None) -> list[Callback]:
    """Log rows; `checkpoints/last.ckpt`, and `best.ckpt` by `monitor` where there is one."""
    checkpoints = folder / CHECKPOINTS
    recording: list[Callback] = [
        RunLog(folder, config.trainer.log_every_n_steps),
        LastCheckpoint(checkpoints / "last.ckpt", config.trainer.checkpoint_every),
    ]
    if monitor is not None:
        recording.append(
            ModelCheckpoint(
                checkpoints, filename="best", monitor=monitor, mode="max", enable_version_counter=False
            )
        )
    return recording


def prepare_network(config: DictConfig, network: Network) -> Network:
    """Memory layout and compilation, as asked for; both in place, so that names stay.

    Compiled are `forward` and each part of `Network.repeated`, the latter for any number of inputs; what lies
    between them, such as the suppression of proposals, runs as it is.
    """
    if config.channels_last:
        network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if config.compile:
        network.compile()
        for part in network.repeated():
            part.module.compile(dynamic=True)
    return network


def resume_path(config: DictConfig, folder: Path) -> str | None:
    """The checkpoint to continue from, None for a new run.

    Raises:
        UserError: where there is none; `resume=auto`, which looks into this run's own directory, then starts anew.
    """
    if config.resume is None:
        return None
    own = folder / CHECKPOINTS / "last.ckpt"
    if config.resume == "auto":
        return str(own) if own.is_file() else None
    path = checkpoint_of(config.resume)
    if not path.is_file():
        raise ConfigError(f"resume={config.resume}: no such file; give a run directory or a checkpoint in one")
    return str(path)


def _wandb(settings: DictConfig, config: DictConfig, folder: Path) -> Logger:
    """Weights & Biases, offline if asked for or where nobody is logged in; a resumed run goes on in its own."""
    import wandb

    offline = not wandb.login(prompt=False) if settings.offline is None else settings.offline
    # Said to wandb itself as well: Lightning sets an environment variable, which wandb has read by now.
    options = {"mode": "offline"} if offline else {}
    return make(settings, offline=offline, id=_wandb_id(config, folder), resume="allow", **options)


def _wandb_id(config: DictConfig, folder: Path) -> str:
    """The id kept in the directory that is resumed, or a new one; kept in this run's directory."""
    checkpoint = resume_path(config, folder)
    kept = Path(checkpoint).parents[1] / WANDB_ID if checkpoint else folder / WANDB_ID
    number = kept.read_text(encoding="utf-8").strip() if checkpoint and kept.is_file() else secrets.token_hex(4)
    if rank() == 0:
        write_text(folder / WANDB_ID, number)
    return number
