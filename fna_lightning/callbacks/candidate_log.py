"""Every candidate of an evolution, as a table that grows with it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Callback

from fna_lightning.callbacks.run_log import write_row
from fna_lightning.costs import CostTable
from fna_lightning.modules.evolution import EvolutionAdaptation

CANDIDATES = "candidates.csv"


class CandidateLog(Callback):
    """Writes `candidates.csv`, a row a candidate, and its score to the loggers.

    Args:
        folder: the run directory.
        cost: of the paths.
        population: candidates of a generation.
    """

    def __init__(self, folder: Path, cost: CostTable, population: int) -> None:
        self._path = folder / CANDIDATES
        self._cost = cost
        self._population = population
        self._written = 0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the rows of all candidates that a run which goes on has scored."""
        if trainer.is_global_zero:
            with self._path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(["candidate", "generation", "path", self._cost.quantity, "score"])
            self._written = 0
            self._write(cast("EvolutionAdaptation", pl_module))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the candidate that was scored, if one was."""
        module = cast("EvolutionAdaptation", pl_module)
        if trainer.is_global_zero and self._write(module):
            scores = [score for _, score in module.evolution.history]
            figures = {"score": scores[-1], "best": max(scores), "mean": sum(scores) / len(scores)}
            write_row(trainer, module, {f"search/{name}": value for name, value in figures.items()})

    def _write(self, module: EvolutionAdaptation) -> bool:
        """Write what is not written yet; whether there was any."""
        new = list(enumerate(module.evolution.history))[self._written :]
        with self._path.open("a", newline="", encoding="utf-8") as file:
            for number, (path, score) in new:
                place = [number, number // self._population, "-".join(map(str, path))]
                csv.writer(file).writerow([*place, f"{self._cost.of(path):.0f}", f"{score:.6f}"])
        self._written += len(new)
        return bool(new)
