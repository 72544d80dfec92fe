"""The network of a training run, made again of what the run has left."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fna_lightning.backbones import build_backbone
from fna_lightning.blocks import Network
from fna_lightning.errors import CheckpointError, brief
from fna_lightning.runs import build

_NEEDED = ("architecture", "detector", "task", "data", "cost")


def settings_beside(checkpoint: Path) -> DictConfig:
    """The settings of the run that wrote `checkpoint`.

    Raises:
        CheckpointError: where its configuration is not beside the checkpoint, cannot be read or is a search's.
    """
    saved = checkpoint.parent.parent / "config.yaml"
    if not saved.is_file():
        raise CheckpointError(
            f"{checkpoint}: no config.yaml in {saved.parent}; keep checkpoints in their run directory"
        )
    try:
        trained = OmegaConf.load(saved)
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise CheckpointError(f"{saved}: is no run's configuration ({brief(error)}); restore it") from error
    lacking = [key for key in _NEEDED if not _holds_mapping(trained, key)]
    if lacking:
        raise CheckpointError(f"{saved}: is no run's configuration (lacks {', '.join(lacking)}); restore it")
    if "search" in trained:
        raise CheckpointError(
            f"{checkpoint}: is a search's, whose network holds all candidates; train what was found by train.py "
            f"architecture={saved.parent}, and give that run"
        )
    return cast("DictConfig", trained)


def rebuild(config: DictConfig, num_classes: int, checkpoint: Path) -> Network:
    """The network that some settings describe, with the parameters of a checkpoint.

    Args:
        config: `architecture`, `detector` and `parameters`; the first is put in as data.
        num_classes: background not counted.
        checkpoint: of a run.

    Raises:
        UserError: where the settings do not describe a network, or the checkpoint is of another one.
    """
    parts = build.resolve_parts(config)
    backbone = build_backbone(parts["backbone"], **build.map_settings(config, parts["backbone"]))
    build.freeze_backbone(config, backbone)
    network = build.build_network(config, backbone, num_classes, parts)
    build.load_parameters(network, checkpoint)
    return network


def _holds_mapping(settings: object, key: str) -> bool:
    return isinstance(settings, DictConfig) and isinstance(settings.get(key), DictConfig)
