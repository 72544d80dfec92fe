"""What `train.py` does: parameter adaptation of a found network, and plain training of seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import lightning as L
import yaml
from omegaconf import DictConfig

from fna_lightning.architectures import save_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.callbacks import BatchNormCalibration, Timekeeper
from fna_lightning.costs import count
from fna_lightning.modules import ParameterAdaptation
from fna_lightning.reporting.html import write_report
from fna_lightning.reporting.results import write_results
from fna_lightning.reporting.tables import print_summary, relative_path
from fna_lightning.runs import build
from fna_lightning.runs.folder import plain, quieten, run_folder, save_config
from fna_lightning.runs.samples import sample_pictures


def train(config: DictConfig) -> float:
    """Carry parameters over, train, score the last checkpoint, write the results down.

    Returns:
        The task's monitored score, for sweeps.
    """
    quieten()
    L.seed_everything(config.random_seed, workers=False, verbose=False)
    folder = run_folder()
    architecture = build.resolve_architecture(config)
    save_config(config, folder)
    task = build.make(config.task)
    remapping = build.build_remapping(config, folder)
    backbone = build_backbone(architecture, build.out_stages(config, architecture))
    data = build.build_data(config, task)
    network = build.prepare_network(config, build.build_network(config, backbone, data.num_classes))
    callbacks: list[Any] = [remapping]
    if config.checkpoint is not None:
        build.load_parameters(network, config.checkpoint)
        callbacks = []
    if config.remap.calibration_batches:
        callbacks.append(BatchNormCalibration(config.remap.calibration_batches))
    module = ParameterAdaptation(
        network,
        task,
        yaml.safe_dump(architecture.to_dict(), sort_keys=False),
        build.make(config.optimizer),
        build.make(config.schedule),
        config.random_seed,
    )
    clock = Timekeeper()
    callbacks += [clock, *build.build_checkpointing(folder, f"val/{task.monitor}")]
    trainer = build.build_trainer(config, folder, callbacks, gradient_clip_val=config.clip)
    trainer.fit(module, datamodule=data, ckpt_path=build.resume_path(config))
    trainer.validate(module, datamodule=data, verbose=False)
    scores = {
        name.removeprefix("val/"): float(v) for name, v in trainer.callback_metrics.items() if "val/" in name
    }
    if trainer.is_global_zero:
        save_architecture(architecture, folder / "architecture.yaml")
        save_architecture(architecture, folder / "architecture.txt")
        _finish(config, folder, module, scores, clock)
    return scores[task.monitor]


def _finish(
    config: DictConfig, folder: Path, module: ParameterAdaptation, scores: dict[str, float], clock: Timekeeper
) -> None:
    input_size = cast("tuple[int, int]", tuple(config.cost.input_size))
    results = write_results(
        folder,
        entry="train",
        metrics=scores,
        cost=count(module.network, input_size),
        input_size=input_size,
        seconds=clock.seconds,
        images=clock.images,
        config=plain(config),
    )
    write_report(folder, "Parameter adaptation", sample_pictures(module))
    print_summary(folder, results, f"python evaluate.py checkpoint={relative_path(folder)}")
