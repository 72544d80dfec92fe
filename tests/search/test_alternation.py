"""Which batch trains what, and when: FNA's schedule over two disjoint halves."""

import multiprocessing

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from fna_lightning.data.sampling import EpochSampler
from fna_lightning.errors import ConfigError
from fna_lightning.search import AlternatingLoader


class Items(Dataset):
    """Gives back (half, epoch, index) of every item."""

    def __init__(self, half, size):
        self.half, self.size = half, size

    def __len__(self):
        return self.size

    def __getitem__(self, key):
        epoch, index = key
        return torch.tensor([self.half, epoch, index])


def loader(weights=12, architectures=8, warmup=1, steps=1, workers=0, batch=2, seed=5):
    def half(number, size):
        return DataLoader(
            Items(number, size),
            batch,
            sampler=EpochSampler(size, seed, True),
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )

    return AlternatingLoader(half(0, weights), half(1, architectures), warmup, steps)


def epoch(alternating, number):
    alternating.set_epoch(number)
    return list(alternating)


def indices(batches):
    return [int(index) for batch in batches if batch is not None for index in batch[:, 2]]


@pytest.mark.parametrize("steps", [1, 5])
def test_pattern(steps):
    alternating = loader(weights=24, warmup=2, steps=steps)
    for number in range(4):
        items = epoch(alternating, number)
        assert len(items) == len(alternating) == 12
        due = [item.architecture is not None for item in items]
        assert due == [number >= 2 and step % steps == 0 for step in range(12)]


def test_no_warmup():
    assert all(item.architecture is not None for item in epoch(loader(warmup=0), 0))


@pytest.mark.parametrize("architectures", [4, 8, 30])
def test_an_epoch_is_one_pass_over_the_weight_half(architectures):
    alternating = loader(weights=12, architectures=architectures, warmup=0)
    for number in range(3):
        items = epoch(alternating, number)
        assert sorted(indices(item.weight for item in items)) == list(range(12))
        assert {int(half) for item in items for half in item.weight[:, 0]} == {0}
        assert {int(half) for item in items for half in item.architecture[:, 0]} == {1}


def test_every_pass_has_an_order_of_its_own():
    alternating = loader(weights=64, architectures=16, warmup=0)
    orders = []
    for number in range(3):
        drawn = indices(item.architecture for item in epoch(alternating, number))
        passes = [drawn[start : start + 16] for start in range(0, 64, 16)]
        assert all(sorted(order) == list(range(16)) for order in passes)
        orders += map(tuple, passes)
    assert len(set(orders)) == len(orders) == 12
    weights = [tuple(indices(item.weight for item in epoch(alternating, number))) for number in range(3)]
    assert len(set(weights)) == 3


def same(items, others):
    return len(items) == len(others) and all(
        torch.equal(a.weight, b.weight)
        and (a.architecture is None) == (b.architecture is None)
        and (a.architecture is None or torch.equal(a.architecture, b.architecture))
        for a, b in zip(items, others, strict=True)
    )


def test_order_is_a_function_of_seed_and_epoch():
    first = loader()
    for number in range(3):
        epoch(first, number)
    assert same(epoch(first, 3), epoch(loader(), 3))  # whatever came before
    assert not same(epoch(first, 3), epoch(loader(seed=6), 3))
    iterator = iter(first)
    next(iterator)  # an interrupted epoch
    assert same(epoch(first, 2), epoch(loader(), 2))


def test_worker_processes_change_nothing():
    alternating = loader(workers=2)
    for number in (0, 1, 3):
        assert same(epoch(alternating, number), epoch(loader(), number))
    next(iter(alternating))
    assert same(epoch(alternating, 2), epoch(loader(), 2))
    assert len(multiprocessing.active_children()) == 4
    alternating.close()
    assert not multiprocessing.active_children()
    assert same(epoch(alternating, 1), epoch(loader(), 1))
    alternating.close()


@pytest.mark.parametrize(
    ("settings", "key"), [({"steps": 0}, "weight_steps=0"), ({"warmup": -1}, "warmup_epochs=-1")]
)
def test_impossible_schedules(settings, key):
    with pytest.raises(ConfigError, match=f"search.{key}: give"):
        loader(**settings)
