"""What `train.py` does: parameter adaptation of a found network, and plain training of seeds."""

from __future__ import annotations

import math
from typing import Any

from omegaconf import DictConfig

from fna_lightning.architectures import parts_yaml, save_parts
from fna_lightning.backbones import build_backbone
from fna_lightning.callbacks import BatchNormCalibration, Timekeeper
from fna_lightning.modules import ParameterAdaptation
from fna_lightning.reporting.tables import relative_path
from fna_lightning.runs import build, datasets
from fna_lightning.runs.checkpoint_io import restoring
from fna_lightning.runs.folder import begin, conclude, next_command, save_config
from fna_lightning.runs.resume import check_same_data
from fna_lightning.runs.samples import sample_pictures


def train(config: DictConfig) -> float:
    """Carry parameters over, train, score the last checkpoint, write the results down.

    Returns:
        The task's monitored score, for sweeps; NaN where there is no validation.
    """
    folder = begin(config)
    build.check_optimizers(config)
    parts = build.resolve_parts(config)
    task = build.make(config.task)
    resumed = build.resume_path(config, folder)
    # A run that goes on has its parameters, and needs no file that they came from.
    begun_from = None if resumed else config.checkpoint
    callbacks: list[Any] = [] if resumed else [build.build_remapping(config, folder)]
    backbone = build_backbone(parts["backbone"], **build.map_settings(config, parts["backbone"]))
    build.freeze_backbone(config, backbone)
    data = datasets.build_data(config, task)
    check_same_data(config, folder, data)
    datasets.save_split(data, folder)
    if begun_from is not None:
        datasets.match_classes(data, begun_from, "to train another set's, give the run as seed.weights instead")
    network = build.build_network(config, backbone, data.num_classes, parts)
    datasets.check_batch(config, network, data)
    network = build.prepare_network(config, network)
    if begun_from is not None:
        build.load_parameters(network, begun_from)
        callbacks = []
    if config.remap.calibration_batches:
        callbacks.append(BatchNormCalibration(config.remap.calibration_batches))
    guard = build.build_guard(config)
    module = ParameterAdaptation(
        network,
        task,
        parts_yaml(parts),
        build.make(config.optimizer),
        build.make(config.schedule),
        config.random_seed,
        guard,
        build.build_groups(config),
    )
    clock = Timekeeper()
    scored = config.trainer.limit_val_batches != 0
    callbacks += [clock, *build.build_recording(config, folder, f"val/{task.monitor}" if scored else None)]
    trainer = build.build_trainer(config, folder, callbacks, gradient_clip_val=config.clip)
    save_config(config, folder)
    save_parts(parts, folder)
    with restoring(trainer, resumed):
        trainer.fit(module, datamodule=data, ckpt_path=resumed)
    if scored:
        trainer.validate(module, datamodule=data, verbose=False)
    scores = module.scores or {task.monitor: math.nan}
    if trainer.is_global_zero:
        conclude(
            config,
            folder,
            title="Parameter adaptation",
            metrics=scores,
            objective=scores[task.monitor],
            network=module.network,
            clock=clock,
            left_out={**datasets.left_out(data, guard), **(datasets.unscored(data, trainer) if scored else {})},
            pictures=sample_pictures(module) if scored else None,
            next_command=next_command(config, folder) or f"python evaluate.py checkpoint={relative_path(folder)}",
        )
    return scores[task.monitor]
