"""What the search thinks: architecture parameters, entropy, skips, expected cost, the current network."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger

from fna_lightning.architectures import SKIP, Architecture, save_parts
from fna_lightning.callbacks.run_log import ALPHAS, write_row
from fna_lightning.choices import Choices
from fna_lightning.costs import CostTable
from fna_lightning.modules.architecture import ArchitectureAdaptation
from fna_lightning.search import Alphas


def diagnose(choices: Choices, alphas: Alphas, cost: CostTable) -> dict[str, float]:
    """Figures that show a search that collapses, over all choices.

    Returns:
        `entropy`: mean entropy of the choices' softmax, as a part of its maximum, on [0, 1]; `skip_share`:
        mean probability of skip where there is one, on [0, 1]; `expected_madds`, or what else is counted: of the
        mixture, choices and fixed layers.
    """
    entropies, skips = [], []
    for choice, row in zip(choices, alphas.probabilities(), strict=True):
        if len(row) > 1:
            entropies.append(torch.special.entr(row).sum() / torch.tensor(float(len(row))).log())
        if SKIP in choice.names:
            skips.append(row[choice.names.index(SKIP)])
    return {
        "entropy": float(torch.stack(entropies).mean()) if entropies else 0.0,
        "skip_share": float(torch.stack(skips).mean()) if skips else 0.0,
        f"expected_{cost.quantity}": float(cost.expected(alphas.weights()).detach()),
    }


class ArchitectureLog(Callback):
    """Writes `architecture.yaml`, `.txt` and `alphas.csv`, and logs the search's state.

    Dashboards get every choice's probabilities over time; `metrics.csv` the summary figures alone.

    Args:
        folder: the run directory.
        parts: the architectures of all parts of the network; those that are searched give way to what is derived.
        limit: cost that the derived network never exceeds.
        every: iterations between two entries; an epoch's end always makes one.
        least: cost that the derived network reaches, where some path does.
    """

    def __init__(
        self,
        folder: Path,
        parts: Mapping[str, Architecture],
        limit: float | None,
        every: int = 50,
        least: float | None = None,
    ) -> None:
        self._folder = folder
        self._parts = parts
        self._limit = limit
        self._least = least
        self._every = every
        self._recorded = -1

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the record, unless the run continues."""
        module = cast("ArchitectureAdaptation", pl_module)
        if module.iteration == 0:
            if trainer.is_global_zero:
                (self._folder / ALPHAS).unlink(missing_ok=True)
            self._record(trainer, module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the state every so many iterations."""
        module = cast("ArchitectureAdaptation", pl_module)
        if module.iteration % self._every == 0:
            self._record(trainer, module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the state and write the network that would be derived now."""
        module = cast("ArchitectureAdaptation", pl_module)
        self._record(trainer, module)
        if trainer.is_global_zero:
            found = self._derive(module)
            save_parts(found, self._folder)
            text = "\n".join(map(str, found.values()))
            for logger in _dashboards(trainer):
                if isinstance(logger, WandbLogger):
                    logger.log_table("architecture", ["iteration", "architecture"], [[module.iteration, text]])

    def state_dict(self) -> dict[str, int]:
        """The iteration last recorded, for checkpoints."""
        return {"recorded": self._recorded}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Do not record it again."""
        self._recorded = state_dict["recorded"]

    def _record(self, trainer: L.Trainer, module: ArchitectureAdaptation) -> None:
        if not trainer.is_global_zero or module.iteration == self._recorded:
            return
        self._recorded = module.iteration
        figures = diagnose(module.choices, module.alphas, module.cost)
        expected = figures[f"expected_{module.cost.quantity}"]
        module.progress["cost"] = f"{expected / 1e9:.3g}G"
        signal = module.alphas.signal.value()
        if not math.isnan(signal):
            figures["signal"] = signal
            module.progress["signal"] = f"{signal:.1f}"
        module.alphas.signal.forget()
        write_row(trainer, module, {f"search/{name}": value for name, value in figures.items()})
        probabilities = _named_probabilities(module)
        for logger in _dashboards(trainer):
            logger.log_metrics(
                {f"alpha/{name}": value for name, value in probabilities.items()}, step=module.iteration
            )
        path = self._folder / ALPHAS
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["iteration", *probabilities])
            writer.writerow([module.iteration, *(f"{value:.6f}" for value in probabilities.values())])

    def _derive(self, module: ArchitectureAdaptation) -> dict[str, Architecture]:
        path = module.cost.best_within(self._limit, module.alphas.preferences(), self._least)
        return {**self._parts, **module.choices.derive(path)}


def _named_probabilities(module: ArchitectureAdaptation) -> dict[str, float]:
    """`<choice>/<candidate>` -> probability."""
    rows = zip(module.choices.names, module.choices, module.alphas.probabilities(), strict=True)
    return {
        f"{place}/{name}": float(value)
        for place, choice, row in rows
        for name, value in zip(choice.names, row, strict=True)
    }


def _dashboards(trainer: L.Trainer) -> list[Logger]:
    return [logger for logger in trainer.loggers if not isinstance(logger, CSVLogger)]
