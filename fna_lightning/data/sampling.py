"""Which samples come when: order, shards, halves and random seeds as functions of (random seed, pass, index).

Nothing here depends on how many numbers were drawn before. A resumed run therefore sees what the
uninterrupted run would have seen, and the number of workers changes nothing.
"""

from __future__ import annotations

import hashlib
import math
import posixpath
import random
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data.distributed import DistributedSampler

from fna_lightning.errors import ConfigError

_MASK = 2**64 - 1


class EpochSampler(DistributedSampler[tuple[int, int]]):
    """Yields (pass, index): one epoch's order of a data set, or this rank's share of it.

    An epoch is one pass over the data set, or several in a row, each in an order of its own. Passes are counted
    through: epoch e is made of the passes e * repeat to (e + 1) * repeat - 1, the same for any way of counting.

    It is a `DistributedSampler` in name because Lightning leaves these in place and tells them the epoch.

    Args:
        size: Number of samples.
        random_seed: Decides the order, together with the epoch.
        shuffle: A new order in every epoch, instead of 0, 1, 2...
        rank: This process, in [0, world_size).
        world_size: Number of processes.
        drop_tail: All ranks get equally many samples and the few at the end of the order are left
            out, as training needs it. Otherwise every sample comes exactly once over all ranks.
        repeat: Passes in an epoch. Over all ranks, no sample comes again before all have come.
        first_pass: Number of the first pass. Samplers whose passes are far apart give the same samples, each in
            its own order and with its own augmentation.
    """

    def __init__(
        self,
        size: int,
        random_seed: int,
        shuffle: bool,
        rank: int = 0,
        world_size: int = 1,
        *,
        drop_tail: bool = True,
        repeat: int = 1,
        first_pass: int = 0,
    ) -> None:
        super().__init__(range(size), world_size, rank, shuffle, random_seed, drop_tail)  # pyright: ignore[reportArgumentType]
        self.size = size
        self.drop_tail = drop_tail
        self.repeat = repeat
        self.first_pass = first_pass
        self._skipped = 0

    def __len__(self) -> int:
        """Samples of this rank in a whole epoch, whether or not some of this one are skipped."""
        return len(range(*self._share()))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        skipped, self._skipped = self._skipped, 0
        start = self.first_pass + self.epoch * self.repeat
        passes = range(start, start + self.repeat)
        order = np.concatenate([self._order(number) for number in passes])
        numbers = np.repeat(passes, self.size)
        share = slice(*self._share())
        return zip(numbers[share][skipped:].tolist(), order[share][skipped:].tolist(), strict=True)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this before each."""
        self.epoch = epoch

    def skip(self, num_samples: int) -> None:
        """Leave out the first `num_samples` of this rank, in the next iteration only.

        This is how a run resumes in the middle of an epoch.
        """
        self._skipped = num_samples

    def _share(self) -> tuple[int, int, int]:
        """Start, stop and step of this rank in the order of all samples."""
        total = self.size * self.repeat
        stop = total - total % self.num_replicas if self.drop_tail else total
        return self.rank, stop, self.num_replicas

    def _order(self, number: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(self.size)
        return np.random.default_rng([self.seed, number]).permutation(self.size)


def split_indices(size: int, share: float, random_seed: int = 520, fold: int = 0) -> tuple[list[int], list[int]]:
    """Split [0, size) at random into two disjoint lists, the first of floor(share * size) indices.

    FNA searches on such halves: the first trains the architecture, the second the weights. Generator
    and random seed are those of the paper's code. Folds below floor(1 / share) have disjoint first lists.

    Raises:
        ConfigError: `share` is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ConfigError(f"the architecture's share of the training set is {share}; it must lie between 0 and 1")
    indices = list(range(size))
    random.Random(random_seed).shuffle(indices)
    first = math.floor(share * size)
    start = fold * first
    return indices[start : start + first], indices[:start] + indices[start + first :]


def split_by_name(names: Sequence[str], share: float, random_seed: int) -> tuple[list[int], list[int]]:
    """Split [0, len(names)) into two ascending lists, by a hash of each name alone.

    A name is in the first with probability `share`, wherever it stands and whatever others there are: names that
    come or go move no other one. Names count alike in all ways that Unicode has to write them.

    Returns:
        The first list and the other; of two or more names none is empty, unless `share` is 1.
    """

    def place(name: str) -> float:
        content = unicodedata.normalize("NFC", name).encode(errors="surrogateescape")
        key = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
        return sample_seed(random_seed, key, 0) / 2**64

    places = np.array([place(name) for name in names])
    first = places < share
    if share == 1:
        first[:] = True
    elif len(names) > 1 and first.all() == first.any():
        first[places.argmin()], first[places.argmax()] = True, False
    return np.flatnonzero(first).tolist(), np.flatnonzero(~first).tolist()


def within_common_folder(names: Sequence[str]) -> list[str]:
    """Names relative to the innermost folder that all lie in, so that they say nothing of where a set lies."""
    folder = posixpath.commonpath([posixpath.dirname(name) for name in names]) if names else ""
    return [posixpath.relpath(name, folder) if folder else name for name in names]


def sample_seed(random_seed: int, number: int, index: int) -> int:
    """The 64-bit random seed of one sample in pass `number`: a hash, so that neighbours are unrelated."""
    state = 0
    for part in (random_seed, number, index):
        state = _splitmix(state ^ (part & _MASK))
    return state


def _splitmix(value: int) -> int:
    """The SplitMix64 generator's step from one state to its output."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
