"""Carries parameters over before training starts, of a supernet and of what is derived from it alike."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from fna_lightning.blocks import Network
from fna_lightning.checkpoints import Seed
from fna_lightning.errors import ConfigError
from fna_lightning.modules.base import AdaptationModule
from fna_lightning.remapping import RemapReport, differences, remap, seed_network, strategy_named, with_moments

log = logging.getLogger(__name__)

_COMPARED = 2
"""Batches on which maps are compared."""


class RemappingCallback(Callback):
    """Calls `fna_lightning.remapping.remap` once, before the first step; never on resume.

    Args:
        seed: the trained network, or None.
        strategy: a name of `fna_lightning.remapping.STRATEGIES`.
        supernet_state: tensors of the network that was searched, the backbone's under `backbone.`; or None.
        report_path: where to write what went where, as CSV; None writes nothing.
        batches: of training, on which the seed's network runs beside the target: a strategy that refits takes its
            moments from them, and the first show how far the maps are from the seed's; 0 leaves both out.
        grow: see `fna_lightning.remapping.remap`.
    """

    def __init__(
        self,
        seed: Seed | None,
        strategy: str = "fna",
        supernet_state: Mapping[str, Tensor] | None = None,
        report_path: Path | None = None,
        batches: int = 0,
        grow: str | None = None,
    ) -> None:
        self.report: RemapReport | None = None
        self._seed = seed
        self._strategy = strategy
        self._supernet_state = supernet_state
        self._report_path = report_path
        self._batches = batches
        self._grow = grow

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remap, unless the run continues from a checkpoint, which has been restored by now.

        A seed reaches the backbone; the other parts are those of the supernet where it has them.
        """
        if not isinstance(pl_module, AdaptationModule):
            raise ConfigError(f"{type(pl_module).__name__} has no backbone to remap")
        if pl_module.iteration > 0 or self.report is not None:
            return
        network = pl_module.network
        report = self._remapped_backbone(trainer, network)
        for name, part in network.parts().items():
            state = None if part is network.backbone else self._state_of(network, part)
            if state:
                report += remap(None, part, self._strategy, state).under(name)
        self.report = report
        if trainer.is_global_zero:
            log.info("%s", self.report)
            if self._report_path is not None:
                self.report.save(self._report_path)

    def _remapped_backbone(self, trainer: L.Trainer, network: Network) -> RemapReport:
        """Fill the backbone, with the seed's network beside it where there is one."""
        seed, target = self._seed, network.backbone
        state = self._state_of(network, target)
        rule = strategy_named(self._strategy, self._grow)
        beside = seed_network(seed, target) if self._batches and rule is not None and seed is not None else None
        if seed is None or beside is None or rule is None:
            return remap(seed, target, self._strategy, state, self._grow)
        count = self._batches if rule.refit else min(self._batches, _COMPARED)
        images = list(_images(trainer, network, count))
        if rule.refit:
            seed = with_moments(seed, beside, images)
        report = remap(seed, target, self._strategy, state, self._grow)
        return replace(report, differences=differences(seed, beside, target, images[:_COMPARED]))

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


@torch.no_grad()
def _images(trainer: L.Trainer, network: Network, number: int) -> Iterator[Tensor]:
    """The images of training batches, normalised; the same on every rank."""
    data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    device = next(network.parameters()).device
    for batch in data.statistics_batches(number):
        yield network.normalize(batch.images.to(device))
