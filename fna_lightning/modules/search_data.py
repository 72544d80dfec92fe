"""Any data module, its training set divided for the search."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L

from fna_lightning.data.base import DataModule
from fna_lightning.search import AlternatingLoader


class SearchData(L.LightningDataModule):
    """Gives every iteration a batch for the weights and, where due, one for the architecture.

    Args:
        data: the data set.
        share: part of the training images that trains the architecture, in (0, 1); disjoint from the rest. 0 gives
            both all images, see `DataModule.search_dataloaders`.
        augment_weight_half: augment the weights' images too. The release trained the weights on plain images
            and the architecture on augmented ones (spec FNA, Q1).
        warmup_epochs: epochs without architecture batches.
        weight_steps: weight batches per architecture batch.
    """

    def __init__(
        self, data: DataModule, share: float, augment_weight_half: bool, warmup_epochs: int, weight_steps: int
    ) -> None:
        super().__init__()
        self.data = data
        self._share = share
        self._augment_weight_half = augment_weight_half
        self._warmup_epochs = warmup_epochs
        self._weight_steps = weight_steps
        self._loader: AlternatingLoader | None = None

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

    def prepare_data(self) -> None:
        """As the data set does."""
        self.data.prepare_data()

    def setup(self, stage: str) -> None:
        """As the data set does."""
        self.data.trainer = self.trainer
        self.data.setup(stage)

    def train_dataloader(self) -> Any:
        """Pairs of batches of the two halves."""
        loaders = self.data.search_dataloaders(self._share, self._augment_weight_half)
        self._loader = AlternatingLoader(*loaders, self._warmup_epochs, self._weight_steps)
        return self._loader

    def statistics_batches(self, number: int) -> Iterator[Any]:
        """As of the data set, of the weights' part."""
        of_weights = self.data.held_out(self._share) if self._share else self.data
        return of_weights.statistics_batches(number)

    def teardown(self, stage: str) -> None:  # noqa: ARG002 - Lightning's interface
        """End the loader processes."""
        if self._loader is not None:
            self._loader.close()
