"""Which batch trains what, and when (spec FNA 3.2)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader

from fna_lightning.data.loading import ResumableLoader, epoch_batches
from fna_lightning.errors import ConfigError


@dataclass
class SearchBatch:
    """What one iteration of the search is given."""

    weight: Any
    """Trains the weights; every iteration has one. A second-order architecture step looks ahead to it."""
    architecture: Any | None
    """Trains the architecture parameters, before the weights; None where it is not their turn."""


class AlternatingLoader(ResumableLoader[SearchBatch]):
    """Pairs the batches of the two halves of a training set, or of two passes over all of it.

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
        super().__init__(weight_loader, architecture_loader)
        self._weight_loader = weight_loader
        self._architecture_loader = architecture_loader
        self._warmup_epochs = warmup_epochs
        self._weight_steps = weight_steps

    def __len__(self) -> int:
        return len(self._weight_loader)

    def batches(self, epoch: int, skipped: int) -> Iterator[SearchBatch]:
        """The pairs of `epoch` but the first `skipped`."""
        searching = epoch >= self._warmup_epochs
        architecture = self._architecture_batches(epoch, math.ceil(skipped / self._weight_steps))
        weights = epoch_batches(self._weight_loader, epoch, skipped)
        for step, batch in enumerate(weights, start=skipped):
            due = searching and step % self._weight_steps == 0
            yield SearchBatch(batch, next(architecture) if due else None)

    def _architecture_batches(self, epoch: int, skipped: int) -> Iterator[Any]:
        """Endless batches; every pass over the half has an order of its own."""
        length = len(self._architecture_loader)
        passes = math.ceil(math.ceil(len(self) / self._weight_steps) / length)
        done, rest = divmod(skipped, length)
        for number in itertools.count(epoch * passes + done):
            yield from epoch_batches(self._architecture_loader, number, rest)
            rest = 0
