"""Which batch trains what, and when (spec FNA 3.2)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch.utils.data import DataLoader

from fna_lightning.errors import ConfigError


class EpochAware(Protocol):
    """A sampler whose order is a function of the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration."""


@dataclass
class SearchBatch:
    """What one iteration of the search is given."""

    weight: Any
    """Trains the weights; every iteration has one."""
    architecture: Any | None
    """Trains the architecture parameters, before the weights; None where it is not their turn."""


class AlternatingLoader:
    """Pairs the batches of the two halves of a training set.

    An epoch is one pass over the weight half. After `warmup_epochs` an architecture batch comes with the
    first of every `weight_steps` weight batches. The architecture half is reshuffled whenever it runs out.

    Args:
        weight_loader: batches for the weights; its sampler has `set_epoch`.
        architecture_loader: batches for the architecture parameters, likewise.
        warmup_epochs: epochs without architecture steps.
        weight_steps: weight steps per architecture step (K).

    Raises:
        ConfigError: where the numbers make no schedule.
    """

    def __init__(
        self,
        weight_loader: DataLoader[Any],
        architecture_loader: DataLoader[Any],
        warmup_epochs: int,
        weight_steps: int = 1,
    ) -> None:
        if weight_steps < 1:
            raise ConfigError(f"search.weight_steps={weight_steps}: give at least 1")
        if warmup_epochs < 0:
            raise ConfigError(f"search.warmup_epochs={warmup_epochs}: give 0 or more")
        self._weight_loader = weight_loader
        self._architecture_loader = architecture_loader
        self._warmup_epochs = warmup_epochs
        self._weight_steps = weight_steps
        self._epoch = 0
        # Lightning calls set_epoch of a loader's sampler before every epoch.
        self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._weight_loader)

    def __iter__(self) -> Iterator[SearchBatch]:
        _sampler(self._weight_loader).set_epoch(self._epoch)
        searching = self._epoch >= self._warmup_epochs
        architecture = self._architecture_batches() if searching else iter(())
        for step, batch in enumerate(self._weight_loader):
            due = searching and step % self._weight_steps == 0
            yield SearchBatch(batch, next(architecture) if due else None)

    def _architecture_batches(self) -> Iterator[Any]:
        """Endless batches; every pass over the half has an order of its own."""
        wanted = math.ceil(len(self) / self._weight_steps)
        passes = math.ceil(wanted / len(self._architecture_loader))
        number = self._epoch * passes
        while True:
            _sampler(self._architecture_loader).set_epoch(number)
            yield from self._architecture_loader
            number += 1


def _sampler(loader: DataLoader[Any]) -> EpochAware:
    return loader.sampler  # pyright: ignore[reportReturnType] - data modules use EpochSampler
