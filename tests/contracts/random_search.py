"""A search without architecture parameters: paths drawn within the limit, scored by the shared weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from fna_lightning.modules import SupernetAdaptation, WeightTraining
from fna_lightning.searches import Search, SearchJob, SearchResult
from fna_lightning.settings import Built, Optimizer, Positive, Schedule


@dataclass
class RandomSettings(Built):
    """`search=random`."""

    candidates: Positive
    """Paths that are scored."""
    weights: Optimizer
    """Optimiser of the weights."""
    schedule: Schedule
    """Schedule of their learning rate."""


class RandomSearch(Search):
    """Train the supernet on uniformly drawn paths, then keep the best of some that the limit allows."""

    Settings: ClassVar[type[Built]] = RandomSettings

    def __init__(self, candidates: int, weights: Any, schedule: Any) -> None:
        self.candidates = candidates
        self.weights = WeightTraining(weights, schedule)

    def run(self, job: SearchJob) -> SearchResult:
        """The path of the smallest validation loss, over the images of all ranks."""
        module = SupernetAdaptation(job.network, job.task, "", self.weights, job.random_seed, job.guard)
        job.fit(module, job.data)
        draws = (module.choices.draw(job.random_seed, number) for number in range(1000))
        within = [path for path in draws if job.limit is None or job.cost.of(path) <= job.limit]
        paths = [job.cost.cheapest(), *within][: self.candidates]
        losses = [self._score(job, module, path) for path in paths]
        best = min(range(len(paths)), key=losses.__getitem__)
        return SearchResult(paths[best], {"loss": losses[best]}, -losses[best])

    @torch.no_grad()
    def _score(self, job: SearchJob, module: SupernetAdaptation, path: list[int]) -> float:
        module.choices.set_path(path)
        batches = [job.task.losses(job.network.eval(), batch) for batch in job.data.val_dataloader()]
        loss = torch.stack([sum(losses.values()) for losses in batches]).mean()
        return float(module.trainer.strategy.reduce(loss, reduce_op="mean"))
