"""Order, shards and halves are functions of (seed, epoch) and lose nothing."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fna_lightning.data import EpochSampler, sample_seed, split_indices
from fna_lightning.errors import ConfigError

sizes = st.integers(1, 60)
seeds = st.integers(0, 2**32)
epochs = st.integers(0, 1000)
worlds = st.integers(1, 8)


def shares(size, seed, epoch, world, shuffle, drop_tail):
    samplers = [EpochSampler(size, seed, shuffle, rank, world, drop_tail=drop_tail) for rank in range(world)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    assert [len(sampler) for sampler in samplers] == [len(list(sampler)) for sampler in samplers]
    return [list(sampler) for sampler in samplers]


@given(sizes, seeds, epochs, worlds)
@settings(max_examples=60, deadline=None)
def test_training_shares_are_disjoint_and_equal(size, seed, epoch, world):
    parts = shares(size, seed, epoch, world, shuffle=True, drop_tail=True)
    keys = [key for part in parts for key in part]
    assert {len(part) for part in parts} == {size // world}
    assert len(set(keys)) == len(keys)
    assert {key[0] for key in keys} <= {epoch}


@given(sizes, seeds, epochs, worlds, st.booleans())
@settings(max_examples=60, deadline=None)
def test_evaluation_covers_everything_once(size, seed, epoch, world, shuffle):
    parts = shares(size, seed, epoch, world, shuffle, drop_tail=False)
    assert Counter(index for part in parts for _, index in part) == Counter(range(size))


@given(sizes, seeds, epochs, worlds)
@settings(max_examples=60, deadline=None)
def test_ranks_interleave_the_order_of_one_process(size, seed, epoch, world):
    (alone,) = shares(size, seed, epoch, 1, shuffle=True, drop_tail=True)
    parts = shares(size, seed, epoch, world, shuffle=True, drop_tail=True)
    together = [key for step in zip(*parts, strict=True) for key in step]
    assert together == alone[: len(together)]


def test_the_order_is_a_function_of_seed_and_epoch():
    sampler = EpochSampler(50, random_seed=3, shuffle=True)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append([index for _, index in sampler])
    assert orders[0] == orders[2] != orders[1]
    assert orders[0] != [index for _, index in EpochSampler(50, random_seed=4, shuffle=True)]
    assert [index for _, index in EpochSampler(5, 0, shuffle=False)] == [0, 1, 2, 3, 4]


@given(sizes, st.integers(0, 70), worlds)
@settings(max_examples=40, deadline=None)
def test_skip_holds_for_one_iteration(size, skipped, world):
    sampler = EpochSampler(size, 1, True, 0, world)
    whole = list(sampler)
    sampler.skip(skipped)
    assert len(sampler) == len(whole)
    assert list(sampler) == whole[skipped:]
    assert list(sampler) == whole


@given(st.integers(0, 300), st.floats(0.01, 0.99), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_halves_are_disjoint_and_cover(size, share, seed):
    first, second = split_indices(size, share, seed)
    assert len(first) == math.floor(share * size)
    assert sorted(first + second) == list(range(size))


def test_halves_are_those_of_the_paper():
    order = list(range(20))
    random.Random(520).shuffle(order)
    assert split_indices(20, 0.5) == (order[:10], order[10:])


@pytest.mark.parametrize("share", [0, 1, -0.5, 2])
def test_impossible_share(share):
    with pytest.raises(ConfigError, match=f"{share}; it must lie between 0 and 1"):
        split_indices(10, share)


def test_sample_seeds_differ():
    seeds = {sample_seed(s, e, i) for s in range(5) for e in range(20) for i in range(200)}
    assert len(seeds) == 5 * 20 * 200
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert sample_seed(1, 2, 3) == sample_seed(1, 2, 3) != sample_seed(1, 3, 2)
