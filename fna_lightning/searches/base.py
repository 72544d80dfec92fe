"""What a run gives a search, and what it gets back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, ClassVar, Protocol

import lightning as L
from lightning.pytorch.callbacks import Callback

from fna_lightning.architectures import Architecture
from fna_lightning.blocks import Network
from fna_lightning.choices import Path
from fna_lightning.costs import CostTable, Limits
from fna_lightning.data.base import DataModule
from fna_lightning.modules import ParameterGroups, StepGuard
from fna_lightning.search import CostObjective
from fna_lightning.settings import Built, Count, Positive, Share
from fna_lightning.tasks.base import Task


class Fit(Protocol):
    """Trains on the devices of the run, with its checkpoints, logs and remapping; a resumed run goes on."""

    def __call__(
        self, module: L.LightningModule, data: L.LightningDataModule, callbacks: Sequence[Callback] = ()
    ) -> None:
        """Return when the module's last epoch is over."""


@dataclass(frozen=True)
class SearchJob:
    """What is searched, and by what means.

    Attributes:
        network: contains the choices.
        task: its losses and its metric.
        data: the data set, read and checked.
        parts: the architectures that the space begins with.
        cost: of the paths of `network`, or of its backbone where all choices are in there.
        limit: cost that the result must not exceed, in the unit of `cost`; None for any.
        limits: all hard limits, `limit` and `least` among them; those of other quantities only a search that
            scores candidates can keep.
        objective: the cost term that a search by gradients adds to the losses.
        groups: what the optimiser of the weights treats in its own way.
        guard: what becomes of a loss or gradient that is not finite.
        random_seed: fixes all that is drawn.
        folder: the run directory.
        fit: trains a module.
        least: cost that the result reaches, where a target was given and some path does; None for any.
        seed_path: the path of the seed's architecture, where the space has it.
        finalists: how many paths the search shall name.
    """

    network: Network
    task: Task[Any]
    data: DataModule[Any]
    parts: Mapping[str, Architecture]
    cost: CostTable
    limit: float | None
    limits: Limits
    objective: CostObjective
    groups: ParameterGroups
    guard: StepGuard
    random_seed: int
    folder: FilePath
    fit: Fit
    least: float | None = None
    seed_path: Path | None = None
    finalists: int = 0


@dataclass(frozen=True)
class SearchResult:
    """What was found.

    Attributes:
        path: of the choices of the searched part.
        metrics: figures for `results.json` and the summary.
        objective: what a sweep compares.
        ranking: paths in the order of the search's belief, `path` the first, as many as there are finalists.
    """

    path: Path
    metrics: dict[str, float]
    objective: float
    ranking: Sequence[Path] = ()


@dataclass(kw_only=True)
class SearchSettings(Built):
    """What every option of the group `search` has; the run itself sees to these: `fna_lightning.runs.finals`."""

    finalists: Count = 0
    """Of what it finds, the best that are trained briefly, from the seed as the weights are trained, and compared
    with each other and with the seed's network; 0 hands over what the search believes in."""
    finalist_epochs: Positive = 8
    """Epochs of such a training."""
    finalist_repeats: Positive = 1
    """Trainings of each, with other random seeds and held-out images."""
    finalist_share: Share = 0.2
    """Part of the training images that is held out."""


class Search(ABC):
    """One way to find a path; built by the `_target_` of the group `search`.

    Attributes:
        Settings: describes the keys of that group, see `fna_lightning.settings`.
    """

    Settings: ClassVar[type[SearchSettings]]

    @abstractmethod
    def run(self, job: SearchJob) -> SearchResult:
        """Search; every rank returns the same path.

        Raises:
            UserError: what the user can mend, before any training.
        """
