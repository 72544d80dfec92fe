"""What `search.py` does: architecture adaptation, from a seed to `architecture.yaml`."""

from __future__ import annotations

from typing import Any, cast

import lightning as L
import yaml
from omegaconf import DictConfig

from fna_lightning.architectures import save_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.callbacks import ArchitectureLog, Timekeeper, diagnose
from fna_lightning.costs import count, tabulate
from fna_lightning.errors import ConfigError
from fna_lightning.modules import ArchitectureAdaptation, SearchData, SearchOptimizers
from fna_lightning.reporting.html import write_report
from fna_lightning.reporting.results import write_results
from fna_lightning.reporting.tables import print_summary
from fna_lightning.runs import build
from fna_lightning.runs.folder import plain, quieten, run_folder, save_config, training_command
from fna_lightning.search import CostObjective
from fna_lightning.supernets import Supernet, build_supernet


def search(config: DictConfig) -> float:
    """Search, derive, write the results down.

    Returns:
        The expected multiply-adds at the end, in 1e9.

    Raises:
        UserError: what the user can mend, before any training.
    """
    if config.compile:
        raise ConfigError(
            "compile=true: the search's network changes with every path; compile in train.py instead"
        )
    quieten()
    L.seed_everything(config.random_seed, workers=False, verbose=False)
    folder = run_folder()
    architecture = build.resolve_architecture(config)
    save_config(config, folder)
    task = build.make(config.task)
    remapping = build.build_remapping(config, folder)
    stages = build.out_stages(config, architecture)
    supernet = build_supernet(
        build.make(config.space)(architecture), stages, temperature=config.search.temperature
    )
    input_size = cast("tuple[int, int]", tuple(config.cost.input_size))
    tabulate(supernet, input_size)
    data = build.build_data(config, task)
    network = build.prepare_network(config, build.build_network(config, supernet, data.num_classes))
    module = ArchitectureAdaptation(
        network,
        task,
        yaml.safe_dump(architecture.to_dict(), sort_keys=False),
        CostObjective(config.cost.weight, config.cost.log_base, config.cost.target),
        _optimizers(config.search),
        config.search.warmup_epochs,
        config.random_seed,
    )
    options = config.search
    halves = SearchData(
        data, options.share, options.augment_weight_half, options.warmup_epochs, options.weight_steps
    )
    clock = Timekeeper()
    callbacks = [
        remapping,
        ArchitectureLog(folder, options.log_every),
        clock,
        *build.build_checkpointing(folder, None),
    ]
    trainer = build.build_trainer(config, folder, callbacks, **_strategy(config))
    trainer.fit(module, datamodule=halves, ckpt_path=build.resume_path(config))
    figures = diagnose(supernet)
    if trainer.is_global_zero:
        _finish(config, module, clock, figures)
    return figures["expected_madds"] / 1e9


def _optimizers(options: Any) -> SearchOptimizers:
    return SearchOptimizers(
        weights=build.make(options.weights),
        architecture=build.make(options.architecture),
        schedule=build.make(options.schedule),
        clip_weights=options.clip_weights,
        clip_architecture=options.clip_architecture,
    )


def _strategy(config: DictConfig) -> dict[str, Any]:
    """A path leaves most parameters without gradient, which plain DDP refuses."""
    return {"strategy": "ddp_find_unused_parameters_true"} if config.strategy.strategy == "ddp" else {}


def _finish(
    config: DictConfig, module: ArchitectureAdaptation, clock: Timekeeper, figures: dict[str, float]
) -> None:
    folder = run_folder()
    supernet: Supernet = module.supernet
    path = supernet.best_path(module.objective.limit(supernet))
    derived = supernet.architecture_of(path)
    save_architecture(derived, folder / "architecture.yaml")
    save_architecture(derived, folder / "architecture.txt")
    input_size = cast("tuple[int, int]", tuple(config.cost.input_size))
    stages = [int(name) for name in module.backbone.out_channels]
    results = write_results(
        folder,
        entry="search",
        metrics=figures,
        cost=count(build_backbone(derived, stages), input_size),
        input_size=input_size,
        seconds=clock.seconds,
        images=clock.images,
        config=plain(config),
    )
    write_report(folder, "Architecture search")
    print_summary(folder, results, training_command(folder))
