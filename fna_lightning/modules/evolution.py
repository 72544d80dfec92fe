"""A supernet trained on uniform paths, whose paths are scored in the last epoch and bred by evolution."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, cast

import torch

from fna_lightning.blocks import Network, reestimate_statistics, without_synchronisation
from fna_lightning.data.sampling import sample_seed
from fna_lightning.distributed import alone, gather_objects
from fna_lightning.errors import ConfigError
from fna_lightning.modules.evolution_data import Candidate, EvolutionData
from fna_lightning.modules.guard import StepGuard
from fna_lightning.modules.supernet import SupernetAdaptation, WeightTraining
from fna_lightning.search import Draw, Evolution
from fna_lightning.tasks.base import Metric, Task

_NOTHING_TO_FIND = -1.0
"""COCO's value of a figure that no annotation counts for; a mean over no class is not a number."""


class EvolutionAdaptation(SupernetAdaptation):
    """Trains a supernet, then scores paths of it, one an iteration on every rank (DetNAS, section 3).

    A rank scores its candidate alone, on all the images, so that scores do not depend on how many ranks there
    are. Nothing of the network changes then: statistics are estimated anew for every candidate from the same
    training batches, and put back behind it. Since candidates are iterations, they are interrupted, saved and
    resumed as any other, each as soon as it has its score.

    Args:
        network: see `SupernetAdaptation`, as for the arguments that are not named here.
        task: its losses, and the metric whose monitored figure is a candidate's score.
        architecture_text: the architectures that the space begins with, in YAML.
        weights: how the weights are trained, in all epochs but the last.
        evolution: which candidates there are.
        statistics_batches: training batches that norms with statistics are estimated from.
        random_seed: fixes the paths.
        guard: what becomes of a loss or gradient that is not finite.
        draw: gives the paths that are trained; uniform ones by default.
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
        draw: Draw | None = None,
    ) -> None:
        super().__init__(network, task, architecture_text, weights, random_seed, guard, draw)
        self.evolution = evolution
        self._statistics_batches = statistics_batches
        self._fitness: Metric[Any] | None = None

    def setup(self, stage: str) -> None:  # noqa: ARG002 - Lightning's interface
        """Let every epoch ask for its own batches: the last one's are candidates."""
        self.trainer.reload_dataloaders_every_n_epochs = 1  # pyright: ignore[reportAttributeAccessIssue]

    def training_step(self, batch: Any, index: int) -> None:
        """A weight step, or the score of a candidate."""
        if not isinstance(batch, Candidate):
            super().training_step(batch, index)
            return
        block = self.evolution.block(self.trainer.world_size)
        self.save_at_once = bool(block)
        if block:  # a small space may be used up before the budget is
            mine = self._score(block[self.global_rank]) if self.global_rank < len(block) else math.nan
            told = gather_objects((mine, self.guard.asked_to_stop()))
            for score, _ in told[: len(block)]:
                self.evolution.tell(score)
            self.guard.stopping = max(code for _, code in told)
            self.progress = self._standing()
        self.losses = {}
        self.iteration += 1

    def _standing(self) -> dict[str, Any]:
        """For the progress bar."""
        scores = [score for _, score in self.evolution.history]
        return {
            "candidate": f"{len(scores)}/{self.evolution.budget}",
            "best": max(scores),
            "mean": sum(scores) / len(scores),
            "feasible": f"{self.evolution.feasible_share:.0%}",
        }

    @torch.no_grad()
    def _score(self, path: tuple[int, ...]) -> float:
        """The monitored figure of one path on the held-out images, in full precision.

        Raises:
            ConfigError: where nothing is annotated in these images.
        """
        data = self._data()
        self._fitness = self._fitness or self.task.metric(data.held)
        self.choices.set_path(path)
        kept = [(buffer, buffer.clone()) for buffer in self.network.buffers()]
        self.network.eval()
        try:
            with alone(), without_synchronisation(self.network), torch.autocast(self.device.type, enabled=False):
                batches = map(self._moved, data.statistics_batches(self._statistics_batches))
                # What losses draw, such as proposals, is no luck of a candidate's place in the row or its rank.
                torch.manual_seed(sample_seed(self._random_seed, 0, 0))
                reestimate_statistics(self.network, batches, partial(self.task.losses, self.network))
                self._fitness.reset()
                for batch in map(self._moved, data.scored_batches()):
                    self._fitness.update(self.task.predict(self.network, batch), batch)
                score = float(self._fitness.compute()[self.task.monitor])
            if math.isnan(score) or score == _NOTHING_TO_FIND:
                raise ConfigError(
                    f"search.share={data.share}: in these training images nothing is annotated; give more of them"
                )
            return score
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
        data = self._data()
        checkpoint["held_out"] = data.share
        checkpoint["batch_size"] = data.data.batch_size

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on behind them.

        Raises:
            ConfigError: where scores would not compare with those before, or some would never be made.
        """
        super().on_load_checkpoint(checkpoint)
        now = {"processes": self.trainer.world_size, "batch_size": self._data().data.batch_size}
        for key, value in now.items() if checkpoint["scores"] else ():
            if checkpoint.get(key, value) != value:
                name = {"processes": "strategy.devices", "batch_size": "data.batch_size"}[key]
                raise ConfigError(f"{name}: {checkpoint[key]} when candidates began to be scored, now {value}")
        self.evolution.restore(checkpoint["scores"])

    def _data(self) -> EvolutionData:
        return cast("EvolutionData", self.trainer.datamodule)  # pyright: ignore[reportAttributeAccessIssue]
