"""Carries parameters over before training starts; used by both LightningModules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from fna_lightning.checkpoints import Seed
from fna_lightning.errors import ConfigError
from fna_lightning.modules.base import AdaptationModule
from fna_lightning.remapping import RemapReport, remap


class RemappingCallback(Callback):
    """Calls `fna_lightning.remapping.remap` once, before the first step; never on resume.

    Args:
        seed: the trained network, or None.
        strategy: a name of `fna_lightning.remapping.STRATEGIES`.
        supernet_state: of a trained supernet, or None.
        report_path: where to write what went where, as CSV; None writes nothing.
    """

    def __init__(
        self,
        seed: Seed | None,
        strategy: str = "fna",
        supernet_state: Mapping[str, Tensor] | None = None,
        report_path: Path | None = None,
    ) -> None:
        self.report: RemapReport | None = None
        self._seed = seed
        self._strategy = strategy
        self._supernet_state = supernet_state
        self._report_path = report_path

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remap, unless the run continues from a checkpoint, which has been restored by now."""
        if not isinstance(pl_module, AdaptationModule):
            raise ConfigError(f"{type(pl_module).__name__} has no backbone to remap")
        if pl_module.iteration > 0 or self.report is not None:
            return
        self.report = remap(self._seed, pl_module.backbone, self._strategy, self._supernet_state)
        rank_zero_info(str(self.report))
        if self._report_path is not None and trainer.is_global_zero:
            self.report.save(self._report_path)
