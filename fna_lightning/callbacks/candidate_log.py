"""Every candidate of an evolution, as a table that grows with it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

from fna_lightning.callbacks.run_log import write_row
from fna_lightning.costs import CostTable
from fna_lightning.modules.evolution import EvolutionAdaptation

CANDIDATES = "candidates.csv"


class CandidateLog(Callback):
    """Writes `candidates.csv`, a row a candidate, and the standing of the search to the loggers.

    Dashboards get the whole table at the end.

    Args:
        folder: the run directory.
        costs: of the paths, a column each; the first is what the report draws scores against.
    """

    def __init__(self, folder: Path, costs: Sequence[CostTable]) -> None:
        self._path = folder / CANDIDATES
        self._costs = costs
        self._head = ["candidate", "generation", "path", *(cost.quantity for cost in costs), "score"]
        self._written = 0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the rows of all candidates that a run which goes on has scored."""
        if trainer.is_global_zero:
            with self._path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(self._head)
            self._written = 0
            self._write(cast("EvolutionAdaptation", pl_module))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the candidates that were scored, if any were."""
        module = cast("EvolutionAdaptation", pl_module)
        if trainer.is_global_zero and (new := self._write(module)):
            scores = [score for _, score in module.evolution.history]
            figures = {
                "score": max(scores[-new:]),
                "best": max(scores),
                "mean": sum(scores) / len(scores),
                "feasible_share": module.evolution.feasible_share,
            }
            write_row(trainer, module, {f"search/{name}": value for name, value in figures.items()})

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give dashboards the table."""
        rows = self._rows(cast("EvolutionAdaptation", pl_module), 0)
        for logger in trainer.loggers if trainer.is_global_zero and rows else ():
            if isinstance(logger, WandbLogger):
                logger.log_table("candidates", self._head, rows)
            elif isinstance(logger, TensorBoardLogger):
                lines = [self._head, ["---"] * len(self._head), *rows]
                logger.experiment.add_text("candidates", "\n".join(" | ".join(map(str, line)) for line in lines))

    def _rows(self, module: EvolutionAdaptation, first: int) -> list[list[Any]]:
        return [
            [
                *(number, module.evolution.generation_of(number), "-".join(map(str, path))),
                *(round(cost.of(path)) for cost in self._costs),
                score,
            ]
            for number, (path, score) in enumerate(module.evolution.history[first:], start=first)
        ]

    def _write(self, module: EvolutionAdaptation) -> int:
        """Write what is not written yet; how much that was."""
        new = self._rows(module, self._written)
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(new)
        self._written += len(new)
        return len(new)
