"""Data sets addressed by (pass, index): what a sample is, how it is drawn, and what several make together."""

from __future__ import annotations

import copy
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset

from fna_lightning.data.augmentation.transforms import Pipeline
from fna_lightning.data.batches import Batch
from fna_lightning.data.sampling import sample_seed

SampleT = TypeVar("SampleT")
PipelineT = TypeVar("PipelineT", bound=Pipeline)
_LOOKED_AT = 200  # samples

Self = TypeVar("Self", bound="EpochDataset[Any, Any]")


class EpochDataset(Dataset[SampleT], ABC, Generic[SampleT, PipelineT]):
    """Samples addressed by (pass over the set, index), so that augmentation is a function of the two.

    Args:
        transform: Applied to every sample.
        random_seed: The run's, from which each sample's is derived.
    """

    class_names: tuple[str, ...]
    """What the labels 0, 1, 2... stand for."""
    source: Path
    """The file or folder that says what is in the set."""

    def __init__(self, transform: PipelineT, random_seed: int) -> None:
        self.transform = transform
        self.random_seed = random_seed

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def path(self, index: int) -> Path:
        """The image file of sample `index`."""

    def name(self, index: int) -> str:
        """What the picture of sample `index` is called within its set, wherever that lies."""
        return self.path(index).name

    def listed(self) -> Iterator[Path]:
        """The files of all samples, those that were left out as well."""
        return map(self.path, range(len(self)))

    @abstractmethod
    def truth(self, index: int) -> Any:
        """What is annotated in sample `index`, classes by their names, to be compared with another's."""

    @abstractmethod
    def load(self, index: int, random_seed: int) -> SampleT:
        """Read sample `index` and transform it under `random_seed`."""

    @abstractmethod
    def collate(self, samples: Sequence[SampleT]) -> Batch:
        """Put samples into one batch."""

    @abstractmethod
    def renumber(self, order: Sequence[int], names: Sequence[str]) -> None:
        """Let label k be the class that has been label order[k], and call it names[k]."""

    @abstractmethod
    def part(self: Self, indices: Sequence[int]) -> Self:
        """The samples `indices`, ascending, as a set of their own."""

    def __getitem__(self, key: tuple[int, int]) -> SampleT:
        number, index = key
        return self.load(index, sample_seed(self.random_seed, number, index))

    def totals(self) -> dict[str, int]:
        """What there is, counted: title -> number; for people to read."""
        return {"images": len(self)}

    def fingerprint(self) -> int:
        """Of what is in the set, wherever it lies: names and lengths of files, what is annotated in them.

        In a large set of samples evenly over it, as files may have to be read.
        """
        indices = np.unique(np.linspace(0, len(self) - 1, min(len(self), _LOOKED_AT)).round().astype(int))
        found = 0
        for index in indices.tolist():
            path = self.path(index)
            length = path.stat().st_size if path.exists() else 0
            found = zlib.crc32(repr((path.name, length, self.truth(index))).encode(errors="replace"), found)
        return found

    def with_transform(self: Self, transform: Pipeline) -> Self:
        """The same samples under another transform; nothing is read again."""
        other = copy.copy(self)
        other.transform = transform
        return other


class EpochSubset(Dataset[SampleT]):
    """A part of a data set; a sample keeps its random seed.

    Args:
        dataset: The whole.
        indices: The part.
    """

    def __init__(self, dataset: EpochDataset[SampleT, Any], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = torch.tensor(indices, dtype=torch.int64)
        self.collate = dataset.collate

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: tuple[int, int]) -> SampleT:
        number, position = key
        return self.dataset[number, int(self.indices[position])]
