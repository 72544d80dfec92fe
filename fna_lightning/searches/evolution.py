"""DetNAS's search: a supernet trained on uniform paths, then evolution over its paths under a hard limit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

from torch import Tensor

from fna_lightning.architectures import parts_yaml
from fna_lightning.callbacks import CandidateLog, SupernetWeights, beliefs
from fna_lightning.choices import Choices
from fna_lightning.errors import ConfigError
from fna_lightning.modules import EvolutionAdaptation, EvolutionData, WeightTraining, searched_part
from fna_lightning.modules.base import OptimizerFactory, ScheduleFactory
from fna_lightning.search import Breeding, CostBins, Draw, propose
from fna_lightning.search import Evolution as Candidates
from fna_lightning.searches.base import Search, SearchJob, SearchResult, SearchSettings
from fna_lightning.settings import Count, Limit, Optimizer, Positive, PositiveAmount, Schedule, Share

log = logging.getLogger(__name__)


@dataclass
class EvolutionSettings(SearchSettings):
    """`search=evolution` and `search=random`: which candidates there are, and how they are scored (DetNAS)."""

    share: Share
    """Part of the training images that candidates are scored on; the supernet is trained on the rest."""
    generations: Positive
    """How often candidates are bred from the best so far."""
    population: Positive
    """Candidates of a generation."""
    parents: Positive
    """The best so far, from which a generation comes."""
    mutations: Count
    """Candidates of a generation that are a parent, some genes drawn anew."""
    crossovers: Count
    """Candidates of a generation that take each gene from either of two parents; the rest is drawn."""
    mutation_rate: Share
    """Probability with which a gene is drawn anew."""
    statistics_batches: Count
    """Training batches from which batch norms with statistics are estimated before a candidate is scored."""
    supernet: str | None
    """Run directory of a search of the same space whose supernet is taken; null begins with what is remapped."""
    cost_bins: list[PositiveAmount] | None
    """Edges of ranges of cost over which trained paths are drawn evenly; null draws them uniformly."""
    clip_weights: PositiveAmount | None
    """Largest L2 norm of the weights' gradient."""
    weights: Optimizer
    """Optimiser of the weights."""
    schedule: Schedule
    """Schedule of the weights' learning rate."""
    with_seed: bool = False
    """Whether the seed's own network is the first candidate, where the space has it."""
    near_seed: Annotated[float, Limit(lambda share: 0 <= share < 1, "0 or more, below 1")] = 0.0
    """Probability with which a choice of a drawn path, trained or scored, is that of the seed's own network."""
    proposals: Literal["uniform", "supernet"] = "uniform"
    """By what paths are drawn otherwise; `supernet`: the architecture parameters of the gradient search whose
    supernet is taken."""


class Evolution(Search):
    """Evolution over any choices, in the last epoch; its arguments are described by `Settings`.

    The epochs before train the supernet; with one epoch and `supernet` none does. The path of the highest score is
    the result.
    """

    Settings: ClassVar[type[SearchSettings]] = EvolutionSettings

    def __init__(
        self,
        share: float,
        generations: int,
        population: int,
        parents: int,
        mutations: int,
        crossovers: int,
        mutation_rate: float,
        statistics_batches: int,
        supernet: str | None,
        cost_bins: Sequence[float] | None,
        clip_weights: float | None,
        weights: OptimizerFactory,
        schedule: ScheduleFactory,
        with_seed: bool = False,
        near_seed: float = 0.0,
        proposals: str = "uniform",
    ) -> None:
        self._share = share
        self._generations = generations
        self._breeding = Breeding(population, parents, mutations, crossovers, mutation_rate)
        self._statistics_batches = statistics_batches
        self._with_seed = with_seed
        self._near_seed = near_seed
        self._proposals = proposals
        self._supernet = supernet
        self._cost_bins = cost_bins
        self._clip_weights = clip_weights
        self._weights = weights
        self._schedule = schedule

    def run(self, job: SearchJob) -> SearchResult:
        """Train, score, breed; sweeps compare the best score.

        Raises:
            ConfigError: for proposals of a supernet that is not given, has none, or is of another space, or near
                a network that is none of this one.
        """
        choices = Choices(searched_part(job.network))
        proposed = self._propose(choices, job)
        candidates = Candidates(
            choices.decisions,
            job.limits.allow,
            job.limits.kept_path(choices.decisions),
            self._breeding,
            self._generations,
            job.random_seed,
            [job.seed_path] if self._with_seed and job.seed_path is not None else [],
            job.limits.excess if job.limits.least else None,
            proposed,
        )
        module = EvolutionAdaptation(
            job.network,
            job.task,
            parts_yaml(job.parts),
            WeightTraining(self._weights, self._schedule, self._clip_weights, job.groups),
            candidates,
            self._statistics_batches,
            job.random_seed,
            job.guard,
            self._draw(choices, job, proposed),
        )
        data = EvolutionData(job.data, self._share, candidates)
        others = [cost for cost, _ in job.limits.limits if cost.quantity != job.cost.quantity]
        table = CandidateLog(job.folder, [job.cost, *others])
        given = [] if self._supernet is None else [SupernetWeights(self._supernet, job.folder / "remapping.csv")]
        job.fit(module, data, [*given, table])
        if not candidates.history:
            raise ConfigError("trainer.limit_train_batches: no candidate was scored in the last epoch; give more")
        if candidates.used_up:
            log.info("no path within the limits is left after %d candidates", len(candidates.history))
        ranking = candidates.ranking()
        path, score = ranking[0]
        figures = {
            "score": score,
            "candidates": float(len(candidates.history)),
            "feasible_share": candidates.feasible_share,
            job.cost.quantity: job.cost.of(path),
        }
        return SearchResult(path, figures, score, [path for path, _ in ranking[: job.finalists]])

    def _propose(self, choices: Choices, job: SearchJob) -> list[Tensor] | None:
        """Probabilities by which paths are drawn; None for uniform ones."""
        believed = None
        if self._proposals == "supernet":
            if self._supernet is None:
                raise ConfigError(
                    "search.proposals=supernet needs search.supernet=<run directory of search=bilevel>"
                )
            believed = beliefs(self._supernet, choices.sizes)
        if self._near_seed and job.seed_path is None:
            raise ConfigError(
                f"search.near_seed={self._near_seed}: the space does not have the network it begins with; give 0"
            )
        if believed is None and not self._near_seed:
            return None
        return propose(choices.sizes, self._near_seed, job.seed_path, believed)

    def _draw(self, choices: Choices, job: SearchJob, proposed: list[Tensor] | None) -> Draw | None:
        """The paths on which the supernet is trained.

        Raises:
            ConfigError: where they are to be drawn evenly over costs and by proposals at once.
        """
        if self._cost_bins is not None:
            if proposed is not None:
                raise ConfigError("search.cost_bins draws paths by their costs: leave out near_seed and proposals")
            return CostBins(job.cost, self._cost_bins)
        return None if proposed is None else partial(choices.draw, probabilities=proposed)
