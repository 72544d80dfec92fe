"""FNA's search: weights on sampled paths, architecture parameters on the mixture of all."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from fna_lightning.architectures import parts_yaml
from fna_lightning.callbacks import ArchitectureLog, diagnose
from fna_lightning.errors import ConfigError
from fna_lightning.modules import AlphaTraining, ArchitectureAdaptation, SearchData, WeightTraining
from fna_lightning.modules.base import OptimizerFactory, ScheduleFactory
from fna_lightning.search import GIGA, Derivation, likely_paths
from fna_lightning.searches.base import Search, SearchJob, SearchResult, SearchSettings
from fna_lightning.settings import Count, Limit, Optimizer, Positive, PositiveAmount, Schedule

log = logging.getLogger(__name__)


@dataclass
class BilevelSettings(SearchSettings):
    """`search=bilevel`: how the two kinds of steps alternate (FNA, section 3.3)."""

    share: Annotated[float, Limit(lambda share: 0 <= share < 1, "between 0 and 1, or 0 for no split")]
    """Part of the training images that is the architecture's; with 0 weights and architecture both see all of
    them, each in an order of its own, as in FAD's release."""
    augment_weight_half: bool
    """Whether the weights' images are augmented."""
    warmup_epochs: Count
    """Epochs without architecture steps."""
    weight_steps: Positive
    """Weight steps per architecture step."""
    temperature: PositiveAmount
    """Of the softmax over the architecture parameters."""
    clip_weights: PositiveAmount | None
    """Largest L2 norm of the weights' gradient."""
    clip_architecture: PositiveAmount | None
    """Largest L2 norm of the architecture parameters' gradient."""
    log_every: Positive
    """Iterations between two records of the architecture parameters."""
    weights: Optimizer
    """Optimiser of the weights."""
    schedule: Schedule
    """Schedule of the weights' learning rate."""
    architecture: Optimizer
    """Optimiser of the architecture parameters."""
    paths: Annotated[int, Limit(lambda number: number == 0 or number >= 2, "0, or 2 or more")] = 0
    """Drawn paths whose losses give the gradient of the architecture parameters; 0 takes that of the mixture of
    all, as published."""
    weights_on: Literal["paths", "mixture"] = "paths"
    """What weight steps train: a drawn path (FNA), or the mixture of all candidates by the architecture
    parameters, in the epochs without architecture steps as well (DARTS, FAD)."""
    order: Literal[1, 2] = 1
    """Of the mixture's gradient: 2 takes it through the weights' next step, of the mixture and by SGD, as DARTS
    does; four passes in place of one."""
    derive: Derivation = "probability"
    """What the derivation compares across choices that are decided together: their probabilities (DARTS), or the
    parameters themselves (FAD). A choice by itself has the same best candidate."""


class Bilevel(Search):
    """Gradient search over any choices; its arguments are described by `Settings`.

    The most probable path within the limit is the result, at the end and, on record, at the end of every epoch.
    """

    Settings: ClassVar[type[SearchSettings]] = BilevelSettings

    def __init__(
        self,
        share: float,
        augment_weight_half: bool,
        warmup_epochs: int,
        weight_steps: int,
        temperature: float,
        clip_weights: float | None,
        clip_architecture: float | None,
        log_every: int,
        weights: OptimizerFactory,
        schedule: ScheduleFactory,
        architecture: OptimizerFactory,
        paths: int = 0,
        weights_on: Literal["paths", "mixture"] = "paths",
        order: Literal[1, 2] = 1,
        derive: Derivation = "probability",
    ) -> None:
        self._share = share
        self._augment_weight_half = augment_weight_half
        self._warmup_epochs = warmup_epochs
        self._weight_steps = weight_steps
        self._temperature = temperature
        self._clip_weights = clip_weights
        self._clip_architecture = clip_architecture
        self._log_every = log_every
        self._weights = weights
        self._schedule = schedule
        self._architecture = architecture
        self._paths = paths
        self._weights_on: Literal["paths", "mixture"] = weights_on
        self._order: Literal[1, 2] = order
        self._derive: Derivation = derive

    def run(self, job: SearchJob) -> SearchResult:
        """Train weights and architecture parameters in turns; sweeps compare the expected cost in 1e9.

        Raises:
            ConfigError: where more than one cost is limited, or settings exclude each other.
        """
        if len(job.limits.limits) > (job.limit is not None):
            raise ConfigError("cost.limits: search=bilevel keeps one limit, cost.limit of cost.quantity")
        module = ArchitectureAdaptation(
            job.network,
            job.task,
            parts_yaml(job.parts),
            job.cost,
            WeightTraining(self._weights, self._schedule, self._clip_weights, job.groups),
            AlphaTraining(
                self._architecture,
                job.objective,
                self._clip_architecture,
                self._warmup_epochs,
                self._temperature,
                self._paths,
                self._weights_on,
                self._order,
                self._derive,
            ),
            job.random_seed,
            job.guard,
        )
        halves = SearchData(
            job.data, self._share, self._augment_weight_half, self._warmup_epochs, self._weight_steps
        )
        if self._share == 0:
            log.info("search.share=0: weights and architecture parameters are trained on the same images")
        job.fit(module, halves, [ArchitectureLog(job.folder, job.parts, job.limit, self._log_every, job.least)])
        figures = diagnose(module.choices, module.alphas, job.cost)
        ranking = likely_paths(
            job.cost, module.alphas.preferences(), job.limit, job.least, max(job.finalists, 1), job.random_seed
        )
        return SearchResult(ranking[0], figures, figures[f"expected_{job.cost.quantity}"] / GIGA, ranking)
