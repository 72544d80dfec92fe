"""Carries parameters over before training starts, of a supernet and of what is derived from it alike."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from fna_lightning.blocks import Network
from fna_lightning.checkpoints import Seed
from fna_lightning.errors import ConfigError
from fna_lightning.modules.base import AdaptationModule
from fna_lightning.remapping import RemapReport, remap

log = logging.getLogger(__name__)


class RemappingCallback(Callback):
    """Calls `fna_lightning.remapping.remap` once, before the first step; never on resume.

    Args:
        seed: the trained network, or None.
        strategy: a name of `fna_lightning.remapping.STRATEGIES`.
        supernet_state: tensors of the network that was searched, the backbone's under `backbone.`; or None.
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
        """Remap, unless the run continues from a checkpoint, which has been restored by now.

        A seed reaches the backbone; the other parts are those of the supernet where it has them.
        """
        if not isinstance(pl_module, AdaptationModule):
            raise ConfigError(f"{type(pl_module).__name__} has no backbone to remap")
        if pl_module.iteration > 0 or self.report is not None:
            return
        network = pl_module.network
        report = remap(self._seed, network.backbone, self._strategy, self._state_of(network, network.backbone))
        for name, part in network.parts().items():
            state = None if part is network.backbone else self._state_of(network, part)
            if state:
                report += remap(None, part, self._strategy, state).under(name)
        self.report = report
        if trainer.is_global_zero:
            log.info("%s", self.report)
            if self._report_path is not None:
                self.report.save(self._report_path)

    def _state_of(self, network: Network, part: nn.Module) -> dict[str, Tensor] | None:
        """The supernet's tensors of one part of `network`, by their names in there."""
        if self._supernet_state is None:
            return None
        start = next(f"{name}." for name, module in network.named_modules() if module is part)
        return {
            name.removeprefix(start): tensor
            for name, tensor in self._supernet_state.items()
            if name.startswith(start)
        }
