"""Loaders that know where they are, so that a run continues in the middle of an epoch."""

from __future__ import annotations

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Generic, TypeVar, cast

import cv2
import torch
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from fna_lightning.data.sampling import EpochSampler

T = TypeVar("T")
Self = TypeVar("Self", bound="ResumableLoader[Any]")


class ResumableLoader(ABC, Generic[T]):
    """Batches as a function of (epoch, place); the place is part of Lightning's checkpoints.

    Nothing is loaded before the first batch is asked for, because Lightning makes the iterator before it
    says which epoch it is.

    Args:
        loaders: what batches come from; their samplers are `EpochSampler`s.
    """

    def __init__(self, *loaders: DataLoader[Any]) -> None:
        self._loaders = loaders
        self._epoch = 0
        self._given = 0
        self._restored: tuple[int, int] | None = None

    @property
    def sampler(self: Self) -> Self:
        """Itself: Lightning tells a loader's sampler the epoch, before every one.

        No attribute, which would leave the loader to the collector of cycles, and its processes waiting.
        """
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration."""
        self._epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches have been given out."""
        return {"epoch": self._epoch, "batches": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next iteration of that epoch go on behind the batches given out."""
        self._restored = (state["epoch"], state["batches"])

    def __iter__(self) -> Iterator[T]:
        restored, self._restored = self._restored, None
        skipped = restored[1] if restored is not None and restored[0] == self._epoch else 0
        self._given = skipped
        for batch in self.batches(self._epoch, skipped):
            self._given += 1
            yield batch

    def close(self) -> None:
        """End the loader processes, which Lightning only finds in loaders of torch's own kind."""
        for loader in self._loaders:
            iterator, loader._iterator = loader._iterator, None
            if isinstance(iterator, _MultiProcessingDataLoaderIter):
                iterator._shutdown_workers()

    @abstractmethod
    def __len__(self) -> int:
        """Batches of a whole epoch."""

    @abstractmethod
    def batches(self, epoch: int, skipped: int) -> Iterator[T]:
        """The batches of `epoch` but the first `skipped`, which are not loaded."""


class EpochLoader(ResumableLoader[Any]):
    """One data loader, whose sampler is an `EpochSampler`."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        super().__init__(loader)
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def batches(self, epoch: int, skipped: int) -> Iterator[Any]:
        """The batches of `epoch` but the first `skipped`."""
        return epoch_batches(self.loader, epoch, skipped)


def again_and_again(loader: EpochLoader) -> Iterator[Any]:
    """The first epoch's batches without end; loaded anew, since they may be more than memory holds."""
    while True:
        yield from loader.batches(0, 0)


def epoch_batches(loader: DataLoader[Any], epoch: int, skipped: int = 0) -> Iterator[Any]:
    """The batches of `epoch` but the first `skipped`, which are not loaded."""
    sampler = cast("EpochSampler", loader.sampler)
    sampler.set_epoch(epoch)
    sampler.skip(skipped * cast("int", loader.batch_size))
    yield from loader


def start_worker(worker: int) -> None:  # noqa: ARG001 - the loader's interface
    """Keep a loader process to one thread, as there is one per core already, and to its work.

    Signals to a whole run, as terminals and schedulers send them, are for the process that trains: it writes a
    checkpoint, for which its loaders have to live. SIGTERM still ends one, for that is how its parent does it.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    os.setpgrp()
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
