"""What `evaluate.py` does: score a trained network on a data set."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from fna_lightning.callbacks import EvaluationTimekeeper, PredictionFiles
from fna_lightning.checkpoints import checkpoint_of
from fna_lightning.data import DataModule
from fna_lightning.errors import ConfigError
from fna_lightning.modules import EvaluationModule
from fna_lightning.overrides import given_keys
from fna_lightning.runs import build, datasets
from fna_lightning.runs.folder import begin, conclude, save_config
from fna_lightning.runs.samples import sample_pictures
from fna_lightning.runs.trained import rebuild, settings_beside
from fna_lightning.runs.validation import check_types

log = logging.getLogger(__name__)

_OF_LOADING = ("batch_size", "num_workers", "prefetch", "check_images")  # of `data`


def evaluate(config: DictConfig) -> float:
    """Rebuild the network of a training run, score it, write the results down.

    Returns:
        The task's monitored score.

    Raises:
        ConfigError: where nothing is to be scored.
    """
    if config.trainer.limit_val_batches == 0:
        raise ConfigError("trainer.limit_val_batches=0: nothing would be scored; leave it out or give 1 or more")
    folder = begin(config)
    checkpoint = checkpoint_of(config.checkpoint)
    trained = _adopt(config, checkpoint)
    check_types(config, "evaluate")
    task = build.make(config.task)
    data = build.make(config.data)
    data.prepare_data()
    data.setup("validate")
    datasets.check_task(data, task, config)
    _match_classes(config, checkpoint, data, trained)
    datasets.warn_of_trained(data, checkpoint)
    network = rebuild(config, data.num_classes, checkpoint)
    build.prepare_network(config, network)
    module = EvaluationModule(network, task)
    clock = EvaluationTimekeeper()
    trainer = build.build_trainer(config, folder, [clock, *_prediction_files(config, folder, data)])
    save_config(config, folder)
    trainer.validate(module, datamodule=data, verbose=False)
    if trainer.is_global_zero:
        _finish(config, folder, module, data, clock)
    return module.scores[task.monitor]


def _match_classes(config: DictConfig, checkpoint: Path, data: DataModule[Any], trained: DictConfig) -> None:
    """Number the classes of `data` as the network does.

    Args:
        config: this run's settings.
        checkpoint: of the network.
        data: what is scored.
        trained: the settings of the data set that the network was trained on.

    Raises:
        ConfigError: where the two have other classes.
    """
    before = trained.get("classes")
    if before is None or isinstance(before, int):
        # Not listed in the settings, but the same where the set is.
        before = data.class_names if _same_set(config.data, trained) else None
    renamed = {str(name): str(other) for name, other in (config.get("classes") or {}).items()}
    mend = (
        "give a set with the network's, or say which is which by classes={name in the data: name in the network}"
    )
    datasets.match_classes(data, checkpoint, mend, renamed, before)


def _same_set(*settings: DictConfig) -> bool:
    """Whether two data modules differ in the way of loading alone."""
    one, other = ({str(key): value for key, value in each.items() if key not in _OF_LOADING} for each in settings)
    return one == other


def _prediction_files(config: DictConfig, folder: Path, data: DataModule[Any]) -> list[Callback]:
    """What writes predictions, where that is asked for.

    Raises:
        ConfigError: where predictions have no files of their own.
    """
    if not config.save_predictions:
        return []
    if data.label_files is None:
        raise ConfigError("save_predictions=true: only labels of pixels are written so; leave it out")
    return [PredictionFiles(folder / "predictions", data.label_files)]


def _adopt(config: DictConfig, checkpoint: Path) -> DictConfig:
    """Take network, task and data set from the training run, where the command line does not say otherwise.

    Optimiser and schedule come along for the record, `results.json`: nothing here is made of them. What the run's
    `parameters` fix is other modules.

    Returns:
        The settings of the training run's data set.

    Raises:
        CheckpointError: see `settings_beside`.
    """
    trained = settings_beside(checkpoint)
    with open_dict(config):
        for key in ("architecture", "detector", "cost", "optimizer", "schedule", "parameters"):
            config[key] = trained.get(key)
        config.task = OmegaConf.merge(trained.task, config.get("task") or {})
        given = config.get("data") or {}
        config.data = given if "_target_" in given else OmegaConf.merge(trained.data, given)
    if "data" in given_keys():
        _see_alike(config, trained.data)
    return trained.data


def _see_alike(config: DictConfig, trained: DictConfig) -> None:
    """Let the network see pictures of another set in the size of its training's, unless one is asked for.

    The size that comes with a set is one to train on: a network scores far less in another than it was trained on.
    """
    seen, other = build.make(trained), build.make(config.data)
    own, wanted = other.picture_settings, seen.picture_settings
    if seen.kind != other.kind or any(f"data.{key}" in given_keys() for key in own):
        return
    changed = {key: wanted[key] for key in own if key in config.data and own[key] != wanted[key]}
    if changed:
        config.data.update(changed)
        listed = " ".join(f"data.{key}={value}" for key, value in changed.items())
        log.info("pictures are brought to the size of the training's: %s", listed)


def _finish(
    config: DictConfig,
    folder: Path,
    module: EvaluationModule,
    data: DataModule[Any],
    clock: EvaluationTimekeeper,
) -> None:
    module.metric.save_results(folder)
    conclude(
        config,
        folder,
        title="Evaluation",
        metrics=module.scores | module.metric.class_scores(),
        objective=module.scores[module.task.monitor],
        network=module.network,
        clock=clock,
        left_out={**data.left_out, **datasets.unscored(data, module.trainer)},
        pictures=sample_pictures(module),
    )
