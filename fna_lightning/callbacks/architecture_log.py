"""What the search thinks: architecture parameters, entropy, skips, expected cost, the current network."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger

from fna_lightning.architectures import save_architecture
from fna_lightning.architectures.mobile import SKIP
from fna_lightning.callbacks.run_log import ALPHAS, write_row
from fna_lightning.modules.architecture import ArchitectureAdaptation
from fna_lightning.supernets import Supernet


def diagnose(supernet: Supernet) -> dict[str, float]:
    """Figures that show a search that collapses, over all choices.

    Returns:
        `entropy`: mean entropy of the choices' softmax, as a part of its maximum, on [0, 1]; `skip_share`:
        mean probability of skip where there is one, on [0, 1]; `expected_madds`: of choices and fixed layers.
    """
    entropies, skips = [], []
    for choice, row in zip(supernet.choices(), supernet.probabilities(), strict=True):
        if len(row) > 1:
            entropies.append(torch.special.entr(row).sum() / torch.tensor(float(len(row))).log())
        if SKIP in choice.names:
            skips.append(row[choice.names.index(SKIP)])
    return {
        "entropy": float(torch.stack(entropies).mean()) if entropies else 0.0,
        "skip_share": float(torch.stack(skips).mean()) if skips else 0.0,
        "expected_madds": float(supernet.expected_cost().detach()) + supernet.fixed_cost,
    }


class ArchitectureLog(Callback):
    """Writes `architecture.yaml`, `.txt` and `alphas.csv`, and logs the search's state.

    Dashboards get every choice's probabilities over time; `metrics.csv` the summary figures alone.

    Args:
        folder: the run directory.
        every: iterations between two entries; an epoch's end always makes one.
    """

    def __init__(self, folder: Path, every: int = 50) -> None:
        self._folder = folder
        self._every = every
        self._recorded = -1

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say before any GPU time is spent if the target cannot be met."""
        module = cast("ArchitectureAdaptation", pl_module)
        self._derive(module, write=False)
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
            text = self._derive(module, write=True)
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
        supernet = module.supernet
        figures = diagnose(supernet)
        module.progress["cost"] = f"{figures['expected_madds'] / 1e9:.3g}G"
        write_row(trainer, module, {f"search/{name}": value for name, value in figures.items()})
        probabilities = self._named_probabilities(supernet)
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

    def _derive(self, module: ArchitectureAdaptation, *, write: bool) -> str:
        architecture = module.supernet.derive(module.objective.limit(module.supernet))
        if write:
            save_architecture(architecture, self._folder / "architecture.yaml")
            save_architecture(architecture, self._folder / "architecture.txt")
        return str(architecture)

    def _named_probabilities(self, supernet: Supernet) -> dict[str, float]:
        """`<choice>/<candidate>` -> probability."""
        places = {id(module): name for name, module in supernet.named_modules()}
        rows = zip(supernet.choices(), supernet.probabilities(), strict=True)
        return {
            f"{places[id(choice)]}/{name}": float(value)
            for choice, row in rows
            for name, value in zip(choice.names, row, strict=True)
        }


def _dashboards(trainer: L.Trainer) -> list[Logger]:
    return [logger for logger in trainer.loggers if not isinstance(logger, CSVLogger)]
