"""The progress bar."""

from __future__ import annotations

from typing import cast

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar

from fna_lightning.modules.evaluation import EvaluationModule


class ProgressBar(RichProgressBar):
    """Shows loss, score and, in a search, cost and path.

    They are on the host already; Lightning's own metrics would wait for the device after every batch.
    """

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, int | str | float | dict]:
        """What the module has noted."""
        return dict(cast("EvaluationModule", pl_module).progress)
