"""What `search.py` does: build what is searched, run the search of the settings, conclude with what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig, OmegaConf
from torch import nn

from fna_lightning.architectures import Parts, save_parts
from fna_lightning.backbones import build_backbone
from fna_lightning.blocks import Network
from fna_lightning.callbacks import Timekeeper
from fna_lightning.choices import Choices, Supernet, ValueChoice
from fna_lightning.costs import CostTable, Limits, tabulate
from fna_lightning.errors import ConfigError
from fna_lightning.modules import ActivePathStrategy, searched_part
from fna_lightning.runs import build, datasets
from fna_lightning.runs.checkpoint_io import restoring
from fna_lightning.runs.finals import SEED, Finals, verdict
from fna_lightning.runs.finals import SETTINGS as FINALS
from fna_lightning.runs.folder import begin, conclude, next_command, save_config
from fna_lightning.runs.resume import check_same_data
from fna_lightning.search import CostObjective
from fna_lightning.searches import SearchJob, SearchResult
from fna_lightning.supernets import build_supernet

TARGET_SHARES = (0.97, 0.95)
"""Of `cost.target`, that a result costs at least: the first that some path of the space reaches."""

_NOT_COMPARED = (
    "Whether it is better than the seed's network no training has shown: search.finalists=4 compares them."
)

_Size = tuple[int, int]


def search(config: DictConfig) -> float:
    """Search, derive, write the results down.

    Returns:
        What the search gives sweeps to compare.

    Raises:
        UserError: what the user can mend, before any training.
    """
    _check(config)
    folder = begin(config)
    build.check_optimizers(config)
    parts = build.resolve_parts(config)
    task = build.make(config.task)
    fit = _Fit(config, folder)
    spaces = build.build_spaces(config, parts)
    maps = build.map_settings(config, parts["backbone"])
    space = spaces.get("backbone")
    backbone = build_backbone(parts["backbone"], **maps) if space is None else build_supernet(space, **maps)
    build.freeze_backbone(config, backbone)
    data = datasets.build_data(config, task)
    check_same_data(config, folder, data)
    datasets.save_split(data, folder)
    network = build.build_network(config, backbone, data.num_classes, {**parts, **spaces})
    datasets.check_batch(config, network, data)
    _check_widths(config, network)
    network = build.prepare_network(config, network)
    guard = build.build_guard(config)
    cost, limit, limits = _count(config, network)
    searched = searched_part(network)
    finals = Finals(config, folder, task, data, maps) if config.search.get("finalists") else None
    job = SearchJob(
        network=network,
        task=task,
        data=data,
        parts=parts,
        cost=cost,
        limit=limit,
        least=limits.least or None,
        limits=limits,
        objective=CostObjective(config.cost.weight, config.cost.log_base, config.cost.target),
        groups=build.build_groups(config),
        guard=guard,
        random_seed=config.random_seed,
        seed_path=_seed_path(searched, parts),
        finalists=config.search.get("finalists", 0),
        folder=folder,
        fit=fit,
    )
    own = [str(key) for key in config.search if key not in FINALS]
    result = build.make(cast("DictConfig", OmegaConf.masked_copy(config.search, own))).run(job)
    remark = _NOT_COMPARED
    if finals is not None:
        result, remark = _compare(finals, job, searched, result)
    if fit.is_first_rank:
        found = parts | Choices(searched).derive(result.path)
        save_parts(found, folder)
        backbone = build.freeze_backbone(config, build_backbone(found["backbone"], **maps))
        alone = list(spaces) == ["backbone"]
        counted = backbone if alone else build.build_network(config, backbone, data.num_classes, found)
        conclude(
            config,
            folder,
            title="Architecture search",
            metrics=result.metrics,
            objective=result.objective,
            network=counted,
            clock=fit.clock,
            left_out=datasets.left_out(data, guard),
            next_command=next_command(config, folder),
            remark=remark,
        )
    return result.objective


def _seed_path(searched: nn.Module, parts: Parts) -> list[int] | None:
    """The path of the networks that the search begins with; None where not all that is searched has one."""
    found: list[int] = []
    for supernet in (module for module in searched.modules() if isinstance(module, Supernet)):
        paths = [path for each in parts.values() if (path := supernet.path_of(each)) is not None]
        if not paths:
            return None
        found += paths[0]
    return found or None


def _compare(
    finals: Finals, job: SearchJob, searched: nn.Module, result: SearchResult
) -> tuple[SearchResult, str]:
    """The result whose path is the best finalist's, and what may be expected of it."""
    ranking = [tuple(path) for path in result.ranking]
    seed_path = None if job.seed_path is None else tuple(job.seed_path)
    paths = {} if seed_path is None else {SEED: seed_path}
    paths |= {f"finalist_{number}": path for number, path in enumerate(ranking, start=1) if path != seed_path}
    choices = Choices(searched)
    standings = finals.compare(
        {name: ({**job.parts, **choices.derive(path)}, job.cost.of(path)) for name, path in paths.items()}
    )
    seed = next((standing for standing in standings if standing.name == SEED), None)
    # The seed's network is handed over where the search itself ranks it, and nothing is better.
    allowed = [standing for standing in standings if paths[standing.name] in ranking]
    chosen = max(allowed, key=lambda each: each.mean)
    metrics = {**result.metrics, "finalist_score": chosen.mean, job.cost.quantity: chosen.cost}
    if seed is not None:
        metrics |= {"seed_score": seed.mean}
    remark = verdict(chosen, seed, finals.held_out, job.task.monitor)
    return replace(result, path=paths[chosen.name], metrics=metrics), remark


class _Fit:
    """The run's trainer around the module of a search, see `fna_lightning.searches.base.Fit`."""

    def __init__(self, config: DictConfig, folder: Path) -> None:
        self.clock = Timekeeper()
        self.is_first_rank = True
        self._config = config
        self._folder = folder
        self._resumed = build.resume_path(config, folder)
        # A run that goes on has its parameters, and needs no file that they came from.
        self._remapping = [] if self._resumed else [build.build_remapping(config, folder)]

    def __call__(
        self, module: L.LightningModule, data: L.LightningDataModule, callbacks: Sequence[Callback] = ()
    ) -> None:
        config, folder = self._config, self._folder
        # A path leaves most parameters without gradient, which plain DDP refuses.
        options: dict[str, Any] = {"strategy": ActivePathStrategy()} if config.strategy.strategy == "ddp" else {}
        recording = build.build_recording(config, folder, None)
        trainer = build.build_trainer(
            config, folder, [*self._remapping, *recording, *callbacks, self.clock], **options
        )
        self.is_first_rank = trainer.is_global_zero
        save_config(config, folder)
        with restoring(trainer, self._resumed):
            trainer.fit(module, datamodule=data, ckpt_path=self._resumed)


def _check(config: DictConfig) -> None:
    if config.compile:
        raise ConfigError(
            "compile=true: the search's network changes with every path; compile in train.py instead"
        )
    if str(config.trainer.precision) not in ("32", "32-true", "bf16-mixed"):
        # Before Lightning is asked: on a CPU it would take bf16-mixed in silence.
        raise ConfigError(
            f"trainer.precision={config.trainer.precision}: the search runs in 32-true or bf16-mixed"
        )


def _check_widths(config: DictConfig, network: Network) -> None:
    """Complain of settings that would replace the norms whose channels a path takes slices of."""
    if not any(isinstance(choice, ValueChoice) for choice in Choices(network)):
        return
    for group, key in (
        ("parameters", "frozen_norms"),
        ("parameters", "frozen_stages"),
        ("strategy", "sync_batchnorm"),
    ):
        if config[group].get(key):
            raise ConfigError(
                f"{group}.{key}={config[group][key]}: cannot be had where widths are searched; leave it out"
            )


def _count(config: DictConfig, network: Network) -> tuple[CostTable, float | None, Limits]:
    """What the paths cost, its hard limit, and all hard limits.

    They are of the backbone where all choices are in there, else of the whole.

    Raises:
        ConfigError: where no path keeps the limits.
    """
    settings = config.cost
    size = cast("_Size", tuple(settings.get("limit_size") or settings.input_size))
    backbone = network.backbone
    counted = backbone if searched_part(network) is backbone else network
    cost = tabulate(counted, size, settings.get("quantity", "madds"))
    limit = settings.get("limit") or settings.target
    limits = [] if limit is None else [(cost, float(limit))]
    for quantity, most in (settings.get("limits") or {}).items():
        if most is not None:
            limits.append((tabulate(counted, size, quantity), float(most)))
    kept = Limits(limits)
    kept.kept_path(cost.decisions)
    for share in TARGET_SHARES if settings.target else ():
        kept = kept if kept.least else kept.reaching(share * min(settings.target, limit), cost.decisions)
    return cost, limit, kept
