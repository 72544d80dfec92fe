"""What `search.py` does: architecture adaptation, from a seed to `architecture.yaml`."""

from __future__ import annotations

from typing import Any, cast

from omegaconf import DictConfig

from fna_lightning.architectures import architecture_yaml, save_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.callbacks import ArchitectureLog, Timekeeper, diagnose
from fna_lightning.costs import tabulate
from fna_lightning.errors import ConfigError
from fna_lightning.modules import ActivePathStrategy, ArchitectureAdaptation, SearchData, SearchOptimizers
from fna_lightning.runs import build
from fna_lightning.runs.folder import begin, conclude, save_config, training_command
from fna_lightning.search import GIGA, CostObjective
from fna_lightning.supernets import build_supernet


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
    if str(config.trainer.precision) not in ("32", "32-true", "bf16-mixed"):
        # Before Lightning is asked: on a CPU it would take bf16-mixed in silence.
        raise ConfigError(
            f"trainer.precision={config.trainer.precision}: the search runs in 32-true or bf16-mixed"
        )
    folder = begin(config)
    architecture = build.resolve_architecture(config)
    task = build.make(config.task)
    remapping = build.build_remapping(config, folder)
    maps = build.map_settings(config, architecture)
    supernet = build_supernet(
        build.make(config.space)(architecture), **maps, temperature=config.search.temperature
    )
    tabulate(supernet, cast("tuple[int, int]", tuple(config.cost.input_size)))
    data = build.build_data(config, task)
    network = build.prepare_network(config, build.build_network(config, supernet, data.num_classes))
    module = ArchitectureAdaptation(
        network,
        task,
        architecture_yaml(architecture),
        CostObjective(config.cost.weight, config.cost.log_base, config.cost.target),
        _optimizers(config),
        config.search.warmup_epochs,
        config.random_seed,
        build.build_guard(config),
    )
    options = config.search
    halves = SearchData(
        data, options.share, options.augment_weight_half, options.warmup_epochs, options.weight_steps
    )
    clock = Timekeeper()
    callbacks = [
        remapping,
        *build.build_recording(config, folder, None),
        ArchitectureLog(folder, options.log_every),
        clock,
    ]
    trainer = build.build_trainer(config, folder, callbacks, **_strategy(config))
    save_config(config, folder)
    trainer.fit(module, datamodule=halves, ckpt_path=build.resume_path(config, folder))
    figures = diagnose(supernet)
    if trainer.is_global_zero:
        found = supernet.architecture_of(supernet.best_path(module.objective.limit(supernet)))
        save_architecture(found, folder / "architecture.yaml")
        save_architecture(found, folder / "architecture.txt")
        conclude(
            config,
            folder,
            title="Architecture search",
            metrics=figures,
            objective=figures["expected_madds"] / GIGA,
            network=build_backbone(found, **maps),
            clock=clock,
            left_out=build.left_out(data, module),
            next_command=training_command(folder),
        )
    return figures["expected_madds"] / GIGA


def _optimizers(config: DictConfig) -> SearchOptimizers:
    options = config.search
    return SearchOptimizers(
        weights=build.make(options.weights),
        architecture=build.make(options.architecture),
        schedule=build.make(options.schedule),
        clip_weights=options.clip_weights,
        clip_architecture=options.clip_architecture,
        groups=build.build_groups(config),
    )


def _strategy(config: DictConfig) -> dict[str, Any]:
    """A path leaves most parameters without gradient, which plain DDP refuses."""
    return {"strategy": ActivePathStrategy()} if config.strategy.strategy == "ddp" else {}
