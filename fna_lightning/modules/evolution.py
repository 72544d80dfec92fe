"""A supernet trained on uniform paths, whose paths are scored in the last epoch and bred by evolution."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch

from fna_lightning.blocks import Network, reestimate_statistics
from fna_lightning.data.sampling import sample_seed
from fna_lightning.modules.evolution_data import Candidate, EvolutionData
from fna_lightning.modules.guard import StepGuard
from fna_lightning.modules.supernet import SupernetAdaptation, WeightTraining
from fna_lightning.search import Evolution
from fna_lightning.tasks.base import Metric, Task


class EvolutionAdaptation(SupernetAdaptation):
    """Trains a supernet, then scores paths of it one an iteration (DetNAS, section 3).

    All ranks score one candidate together, each on its share of the images. Nothing of the network changes then:
    statistics are estimated anew for every candidate from the same training batches, and put back behind it.
    Since candidates are iterations, they are interrupted, saved and resumed as any other.

    Args:
        network: see `SupernetAdaptation`, as for the arguments that are not named here.
        task: its losses, and the metric whose monitored figure is a candidate's score.
        architecture_text: the architectures that the space begins with, in YAML.
        weights: how the weights are trained, in all epochs but the last.
        evolution: which candidates there are.
        statistics_batches: training batches, of every rank, that norms with statistics are estimated from.
        random_seed: fixes the paths.
        guard: what becomes of a loss or gradient that is not finite.
    """

    def __init__(
        self,
        network: Network,
        task: Task[Any],
        architecture_text: str,
        weights: WeightTraining,
        evolution: Evolution,
        statistics_batches: int,
        random_seed: int,
        guard: StepGuard | None = None,
    ) -> None:
        super().__init__(network, task, architecture_text, weights, random_seed, guard)
        self.evolution = evolution
        self._statistics_batches = statistics_batches
        self._fitness: Metric[Any] | None = None

    def setup(self, stage: str) -> None:  # noqa: ARG002 - Lightning's interface
        """Let every epoch ask for its own batches: the last one's are candidates."""
        self.trainer.reload_dataloaders_every_n_epochs = 1  # pyright: ignore[reportAttributeAccessIssue]

    def training_step(self, batch: Any, index: int) -> None:
        """A weight step on a path that is drawn uniformly, or a candidate's score."""
        if not isinstance(batch, Candidate):
            super().training_step(batch, index)
            return
        path = self.evolution.ask()
        if path is not None:  # a small space may be used up before the budget is
            self.evolution.tell(self._score(path))
            best = self.evolution.best[1]
            self.progress = {"candidate": f"{len(self.evolution.history)}/{self.evolution.budget}", "best": best}
        self.losses = {}
        self.iteration += 1

    @torch.no_grad()
    def _score(self, path: tuple[int, ...]) -> float:
        """The monitored figure of one path on the held-out images, in full precision."""
        data = cast("EvolutionData", self.trainer.datamodule)  # pyright: ignore[reportAttributeAccessIssue]
        self._fitness = self._fitness or self.task.metric(data.held)
        self.choices.set_path(path)
        kept = [(buffer, buffer.clone()) for buffer in self.network.buffers()]
        self.network.eval()
        try:
            with torch.autocast(self.device.type, enabled=False):
                batches = map(self._moved, data.statistics_batches(self._statistics_batches))
                # What losses draw, such as proposals, is no luck of a candidate's place in the row.
                torch.manual_seed(sample_seed(self._random_seed, 0, self.global_rank))
                reestimate_statistics(self.network, batches, partial(self.task.losses, self.network))
                self._fitness.reset()
                for batch in map(self._moved, data.scored_batches()):
                    self._fitness.update(self.task.predict(self.network, batch), batch)
                return float(self._fitness.compute()[self.task.monitor])
        finally:
            for buffer, value in kept:
                buffer.copy_(value)
            self.network.train()

    def _moved(self, batch: Any) -> Any:
        return self.trainer.strategy.batch_to_device(batch, self.device)

    def _epochs(self) -> int:
        """The last epoch trains nothing."""
        return max(1, super()._epochs() - 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the scores, which are the whole state of the evolution."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["scores"] = [score for _, score in self.evolution.history]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on behind them."""
        super().on_load_checkpoint(checkpoint)
        self.evolution.restore(checkpoint["scores"])
