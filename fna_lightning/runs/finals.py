"""The last few candidates of a search and the seed's network, trained briefly and compared on held-out images."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from fna_lightning.architectures import Architecture, parts_yaml
from fna_lightning.backbones import build_backbone
from fna_lightning.callbacks import LastCheckpoint
from fna_lightning.data.base import DataModule
from fna_lightning.errors import ConfigError
from fna_lightning.files import write_text
from fna_lightning.modules import ParameterAdaptation
from fna_lightning.runs import build
from fna_lightning.runs.checkpoint_io import restoring
from fna_lightning.tasks.base import Task

log = logging.getLogger(__name__)

FOLDER = "finalists"
TABLE = "finalists.csv"
SEED = "seed"
SETTINGS = ("finalists", "finalist_epochs", "finalist_repeats", "finalist_share")
"""The keys of `search` that are of finals, whatever the search."""


@dataclass(frozen=True)
class Standing:
    """Scores of one network, a training each; what they are compared by.

    Attributes:
        name: `seed`, or `finalist_1` for the search's first choice and so on.
        cost: of its searched part.
        scores: the task's monitored figure on held-out images, by repeat.
    """

    name: str
    cost: float
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the repeats."""
        return fmean(self.scores)

    def gain_over(self, other: Standing) -> tuple[float, float | None]:
        """Mean difference of scores repeat by repeat, and its standard error; None for that of a single one."""
        gains = [own - its for own, its in zip(self.scores, other.scores, strict=True)]
        error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else None
        return fmean(gains), error


class Finals:
    """Trains contenders as the weights of the search are trained, from the seed, each in a directory of its own.

    Every repeat holds another part of the training images out, none of them that on which an evolution scores, and
    has its own random seed; all contenders share both. What is finished is not trained again, what was interrupted
    goes on.

    Args:
        config: of the search.
        folder: its run directory.
        task: gives the score.
        data: the data set, read and checked.
        maps: what the detector asks of a backbone, see `build.map_settings`.

    Raises:
        ConfigError: where the training set cannot be divided so often.
    """

    def __init__(
        self, config: DictConfig, folder: Path, task: Task[Any], data: DataModule[Any], maps: Mapping[str, Any]
    ) -> None:
        search = config.search
        self._repeats, self._share = int(search.finalist_repeats), float(search.finalist_share)
        if (self._repeats + 1) * self._share > 1:
            raise ConfigError(
                f"search.finalist_share={self._share}: {self._repeats} repeats hold out as many parts of the "
                f"training images, and the search one more; give at most {1 / (self._repeats + 1):.3f}"
            )
        self._config = _training(config)
        self._folder = folder / FOLDER
        self._task = task
        self._data = data
        self._maps = maps

    @property
    def held_out(self) -> int:
        """Images that a network is scored on in one repeat."""
        return int(self._share * len(self._data.train_dataset or ()))

    def compare(self, contenders: Mapping[str, tuple[Mapping[str, Architecture], float]]) -> list[Standing]:
        """Train and score all of them.

        Args:
            contenders: name -> (architectures of the network's parts, cost).

        Returns:
            As they were given.
        """
        found = []
        for number, (name, (parts, cost)) in enumerate(contenders.items(), start=1):
            scores = tuple(self._score(name, parts, repeat) for repeat in range(self._repeats))
            found.append(Standing(name, cost, scores))
            log.info("%s (%d of %d): %.4f", name, number, len(contenders), found[-1].mean)
        write_text(self._folder.parent / TABLE, _table(found))
        return found

    def _score(self, name: str, parts: Mapping[str, Architecture], repeat: int) -> float:
        place = self._folder / f"{name}_{repeat}"
        result = place / "score.json"
        if result.is_file():
            return float(json.loads(result.read_text(encoding="utf-8"))["score"])
        config = self._config
        backbone = build.freeze_backbone(config, build_backbone(parts["backbone"], **self._maps))
        network = build.build_network(config, backbone, self._data.num_classes, parts)
        module = ParameterAdaptation(
            build.prepare_network(config, network),
            self._task,
            parts_yaml(parts),
            build.make(config.search.weights),
            build.make(config.search.schedule),
            config.random_seed + repeat,
            build.build_guard(config),
            build.build_groups(config),
        )
        held = self._data.held_out(self._share, repeat + 1)
        checkpoint = place / build.CHECKPOINTS / "last.ckpt"
        resumed = str(checkpoint) if checkpoint.is_file() else None
        place.mkdir(parents=True, exist_ok=True)
        carried = [] if resumed else [build.build_remapping(config, place)]
        saving = LastCheckpoint(checkpoint, config.trainer.checkpoint_every)
        trainer = build.build_trainer(
            config, place, [*carried, saving], gradient_clip_val=config.search.clip_weights
        )
        held.trainer = trainer
        with restoring(trainer, resumed):
            trainer.fit(module, datamodule=held, ckpt_path=resumed)
        trainer.validate(module, datamodule=held, verbose=False)
        score = module.scores[self._task.monitor]
        if trainer.is_global_zero:
            write_text(result, json.dumps({"score": score}))
            checkpoint.unlink(missing_ok=True)
        return score


def verdict(chosen: Standing, seed: Standing | None, images: int, monitor: str) -> str:
    """What to expect of the chosen network against the seed's, in a line that claims no more than was seen."""
    repeats = len(chosen.scores)
    trainings = "one training" if repeats == 1 else f"{repeats} trainings"
    where = f"{monitor} on {images} held-out training images, {trainings} each"
    if seed is None:
        return f"{where}: found {chosen.mean:.3f}; the seed's network is none of this space"
    if chosen.name == SEED:
        return f"{where}: {chosen.mean:.3f} of the seed's own network, and no finalist is better: keep it"
    gain, error = chosen.gain_over(seed)
    of_seed = f"found {chosen.mean:.3f} at {chosen.cost / 1e6:.0f} M, the seed's network {seed.mean:.3f} at "
    figures = f"{where}: {of_seed}{seed.cost / 1e6:.0f} M"
    if error is None:
        return f"{figures}; one training tells no spread (search.finalist_repeats=3)"
    spread = f"{gain:+.3f} with a standard error of {error:.3f}"
    if gain > 2 * error:
        return f"{figures}: better by {spread}"
    if gain < -2 * error:
        return f"{figures}: worse by {spread}; keep the seed's network, or search longer"
    return f"{figures}: as good as the seed's ({spread})"


def _training(config: DictConfig) -> DictConfig:
    """The settings of one contender's training."""
    own = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert isinstance(own, DictConfig)
    with open_dict(own):
        own.trainer.max_epochs = config.search.finalist_epochs
        own.trainer.check_val_every_n_epoch = config.search.finalist_epochs
        own.logger = {}
    return own


def _table(standings: Sequence[Standing]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["network", "cost", "score", "scores"])
    for each in standings:
        writer.writerow(
            [each.name, round(each.cost), f"{each.mean:.6f}", " ".join(f"{s:.6f}" for s in each.scores)]
        )
    return buffer.getvalue()
