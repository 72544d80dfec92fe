"""Any data module for a search that trains a supernet first and scores its paths then."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import lightning as L
from torch.utils.data import DataLoader

from fna_lightning.data.base import DataModule
from fna_lightning.data.loading import EpochLoader, ResumableLoader, again_and_again
from fna_lightning.errors import ConfigError
from fna_lightning.search import Evolution


class Candidate:
    """What an iteration is given that scores a path instead of training one."""

    def __len__(self) -> int:
        return 0  # images that are trained on


class CandidateLoader(ResumableLoader[Candidate]):
    """A place in the last epoch for every candidate, or as many of them as there are ranks.

    Args:
        number: of places.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def __len__(self) -> int:
        return self._number

    def batches(self, epoch: int, skipped: int) -> Iterator[Candidate]:  # noqa: ARG002 - the same in every epoch
        """The places but the first `skipped`."""
        return (Candidate() for _ in range(skipped, self._number))


class EvolutionData(L.LightningDataModule):
    """Batches of the weights' part of the training set in all epochs but the last, which is for candidates.

    Args:
        data: the data set.
        share: part of the training images that candidates are scored on, in (0, 1); disjoint from the rest.
        evolution: which candidates there are.
    """

    def __init__(self, data: DataModule[Any], share: float, evolution: Evolution) -> None:
        super().__init__()
        self.data = data
        self._share = share
        self._evolution = evolution
        self._held: DataModule[Any] | None = None
        self._weights: EpochLoader | None = None
        self._statistics: EpochLoader | None = None
        self._scored: DataLoader[Any] | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """As in the data set."""
        return self.data.class_names

    def totals(self) -> dict[str, dict[str, int]]:
        """As of the data set."""
        return self.data.totals()

    def fingerprints(self) -> dict[str, int]:
        """As of the data set."""
        return self.data.fingerprints()

    @property
    def share(self) -> float:
        """Part of the training images that candidates are scored on."""
        return self._share

    @property
    def held(self) -> DataModule[Any]:
        """The training set in its two parts, of which every rank reads the whole; known after `setup`."""
        if self._held is None:
            raise RuntimeError("the parts are known after setup()")
        return self._held

    def prepare_data(self) -> None:
        """As the data set does."""
        self.data.prepare_data()

    def setup(self, stage: str) -> None:
        """Read the data set and divide its training set.

        Raises:
            ConfigError: where no image is left to score candidates on.
        """
        self.data.setup(stage)
        self._held = self.data.held_out(self._share)
        self._held.trainer = None
        total = len(self.data.train_dataset or ())
        if not int(self._share * total):
            raise ConfigError(f"search.share={self._share}: of {total} training images that is none; give more")

    def train_dataloader(self) -> Any:
        """What the present epoch needs."""
        trainer = self.trainer
        if trainer is not None and trainer.current_epoch >= (trainer.max_epochs or 1) - 1:
            return CandidateLoader(self._evolution.blocks(trainer.world_size))
        return self.weight_batches()

    def weight_batches(self) -> EpochLoader:
        """Shuffled and augmented, of this rank's share of the weights' part."""
        if self._weights is None:
            shared = copy.copy(self.held)
            shared.trainer = self.trainer
            self._weights = shared.train_dataloader()
        return self._weights

    def statistics_batches(self, number: int) -> Iterator[Any]:
        """The first `number` batches of the weights' part in the order of its first epoch, again and again.

        They are the same on every rank, as all that scores depend on: whichever rank scores a candidate.
        """
        self._statistics = self._statistics or self.held.train_dataloader()
        return itertools.islice(again_and_again(self._statistics), number)

    def scored_batches(self) -> DataLoader[Any]:
        """All images that candidates are scored on."""
        self._scored = self._scored or self.held.val_dataloader()
        return self._scored

    def teardown(self, stage: str) -> None:  # noqa: ARG002 - Lightning's interface
        """End the loader processes."""
        for loader in (self._weights, self._statistics):
            if loader is not None:
                loader.close()
