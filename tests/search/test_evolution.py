"""Evolution on fitness with a known optimum, under limits, and from its scores alone."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fna_lightning.choices import Decision, Decisions
from fna_lightning.errors import ConfigError
from fna_lightning.search import Breeding, Evolution, propose

RANDOM = Breeding(mutations=0, crossovers=0)
PLACES = np.arange(20)


def finished(evolution, fitness):
    while (genes := evolution.ask()) is not None:
        evolution.tell(fitness(genes))
    return evolution


def synthetic(random_seed, breeding):
    """(part of the range between worst and best that was reached, whether it is the best) of 1000 candidates."""
    weights = np.random.default_rng(random_seed).random((20, 4))
    evolution = Evolution(Decisions([4] * 20), lambda _: True, [0] * 20, breeding, 20, random_seed)
    finished(evolution, lambda genes: weights[PLACES, list(genes)].sum())
    assert len({genes for genes, _ in evolution.history}) == len(evolution.history) == 1000
    worst, best = weights.min(axis=1).sum(), weights.max(axis=1).sum()
    return (evolution.best[1] - worst) / (best - worst)


def test_the_published_settings_find_the_optimum():
    found = [synthetic(random_seed, Breeding()) for random_seed in range(10)]
    assert min(found) >= 0.98
    assert sum(share > 1 - 1e-9 for share in found) > 5
    assert max(synthetic(random_seed, RANDOM) for random_seed in range(10)) < 0.9


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3])
def test_limits_are_never_broken(share):
    """The tightest one allows the cheapest path alone."""
    rng = np.random.default_rng(0)
    weights, costs = rng.random((2, 20, 4))
    low, high = costs.min(axis=1).sum(), costs.max(axis=1).sum()
    limit = low + share * (high - low)

    def cost(genes):
        return costs[PLACES, list(genes)].sum()

    evolution = Evolution(
        Decisions([4] * 20), lambda genes: cost(genes) <= limit, costs.argmin(axis=1), Breeding(), 4
    )
    finished(evolution, lambda genes: weights[PLACES, list(genes)].sum())
    assert all(cost(genes) <= limit for genes, _ in evolution.history)
    assert len(evolution.history) == (200 if share else 1)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 3), st.integers(0, 99))
def test_a_small_space_is_used_up_and_no_path_comes_twice(sizes, limit, random_seed):
    evolution = Evolution(
        Decisions(sizes), lambda genes: sum(genes) <= limit, [0] * len(sizes), Breeding(), 20, random_seed
    )
    finished(evolution, sum)
    wanted = [genes for genes in itertools.product(*map(range, sizes)) if sum(genes) <= limit]
    assert sorted(genes for genes, _ in evolution.history) == wanted


@given(st.lists(st.floats(), min_size=1, max_size=40), st.integers(0, 9))
def test_scores_are_the_whole_state(scores, random_seed):
    """Whatever they are, not numbers included: the search that is restored from them asks for the same."""
    small = Breeding(8, 3, 3, 2, 0.3)
    one, other = (Evolution(Decisions([3] * 6), lambda _: True, [0] * 6, small, 5, random_seed) for _ in range(2))
    for score in scores:
        one.tell(score)
    other.restore([score for _, score in one.history])
    assert other.history == one.history
    assert [other.ask(), other.best] == [one.ask(), one.best]
    ranks = sorted(range(len(one.history)), key=lambda number: (-one.history[number][1], number))
    assert one.best == one.history[ranks[0]]


@given(st.integers(1, 9), st.integers(0, 9))
def test_blocks_change_nothing(size, random_seed):
    """Candidates that are scored side by side are those that would have been one after the other."""
    small = Breeding(8, 3, 3, 2, 0.3)

    def fresh():
        return Evolution(Decisions([3] * 6), lambda genes: sum(genes) < 6, [0] * 6, small, 4, random_seed)

    def fitness(genes):
        return -sum((gene - 1.3) ** 2 * (place + 1) for place, gene in enumerate(genes))

    one, other, blocks = finished(fresh(), fitness), fresh(), 0
    while block := other.block(size):
        assert len(block) <= size
        for genes in block:
            other.tell(fitness(genes))
        blocks += 1
    assert other.history == one.history
    assert blocks == other.blocks(size) == 4 * -(-8 // size)
    assert 0 < other.feasible_share < 1


def test_what_cannot_be_is_named():
    with pytest.raises(ConfigError, match="no path keeps the limits"):
        Evolution(Decisions([2, 2]), lambda _: False, [0, 0])
    with pytest.raises(ConfigError, match=r"are more than search.population=50"):
        Breeding(mutations=30, crossovers=30)
    with pytest.raises(ConfigError, match=r"search\.population"):
        Breeding(population=0)
    with pytest.raises(ConfigError, match=r"search\.mutation_rate=2: give a probability"):
        Breeding(mutation_rate=2)
    evolution = Evolution(Decisions([1]), lambda _: True, [0])
    evolution.tell(1.0)
    with pytest.raises(RuntimeError, match="no candidate"):
        evolution.tell(1.0)


@pytest.mark.parametrize("random_seed", range(5))
def test_generations_are_counted_as_they_come(random_seed):
    """One that finds no more new paths is short."""
    breeding = Breeding(6, 2, 2, 2, 0.1)
    evolution = Evolution(Decisions([2] * 14), lambda genes: sum(genes) <= 1, [0] * 14, breeding, 9, random_seed)
    finished(evolution, sum)
    assert len(evolution.history) <= 15
    counts: dict[int, int] = {}
    for number in range(len(evolution.history)):
        generation = evolution.generation_of(number)
        counts[generation] = counts.get(generation, 0) + 1
    assert list(counts) == sorted(counts) == list(range(len(counts)))
    assert counts[0] == max(counts.values()) == 6


def test_the_first_generation_begins_with_what_is_given():
    first = [[1] * 20, [3] * 20]
    evolution = Evolution(Decisions([4] * 20), lambda _: True, [0] * 20, Breeding(), 2, 0, first)
    assert evolution.ask() == (1,) * 20
    finished(evolution, sum)
    assert [genes for genes, _ in evolution.history[:2]] == [tuple(path) for path in first]
    assert len(evolution.history) == 100


def test_a_band_of_costs_is_kept_and_paths_stay_apart():
    """Moved gene by gene, candidates differ from the refuge and from each other as drawn ones do."""
    rng = np.random.default_rng(0)
    costs = rng.random((20, 4))

    def cost(genes):
        return costs[PLACES, list(genes)].sum()

    def excess(genes):
        return max(cost(genes) / 13 - 1, 0) + max(1 - cost(genes) / 12.5, 0)

    refuge = next(genes for genes in rng.integers(4, size=(100_000, 20)) if excess(genes) <= 0)
    settings = (Decisions([4] * 20), lambda genes: excess(genes) <= 0, refuge, RANDOM, 4, 0)
    eased = finished(Evolution(*settings, excess=excess), cost)
    assert len(eased.history) == 200
    assert all(12.5 <= cost(genes) <= 13 for genes, _ in eased.history)
    moved = finished(Evolution(*settings), cost)

    def shared(evolution):
        return np.mean([np.mean(np.array(genes) == refuge) for genes, _ in evolution.history])

    assert shared(eased) < 0.35 < 0.5 < shared(moved)


def test_candidates_are_drawn_by_the_proposals():
    weights = [torch.tensor([3.0, 0.0, 1.0])] * 20
    settings = (Decisions([3] * 20), lambda _: True, [0] * 20, RANDOM, 6, 0)
    evolution = finished(Evolution(*settings, proposals=weights), sum)
    drawn = np.array([genes for genes, _ in evolution.history])
    assert len(drawn) == 300
    assert not (drawn == 1).any()
    assert np.mean(drawn == 0) == pytest.approx(0.75, abs=0.02)
    again = finished(Evolution(*settings, proposals=weights), sum)
    assert again.history == evolution.history


@pytest.mark.parametrize("near_seed", [0.0, 0.25])
def test_proposals_near_the_seed(near_seed):
    believed = [torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.1, 0.9])]
    rows = propose([3, 2], near_seed, [2, 0], believed)
    for row, before, index in zip(rows, believed, [2, 0], strict=True):
        assert float(row.sum()) == pytest.approx(1)
        expected = (1 - near_seed) * before
        expected[index] += near_seed
        assert torch.allclose(row, expected)
    assert believed[0].tolist() == [0.5, 0.5, 0.0]
    assert torch.equal(propose([3, 2], near_seed, None, None)[0], torch.full((3,), 1 / 3))


def test_genes_are_options_of_decisions():
    """Two of three choices may not both be anything but their last candidate."""
    options = np.array([option for option in itertools.product(range(3), repeat=2) if 2 in option])
    decisions = Decisions([3, 4, 3], [Decision((0, 2), options, options != 2)])
    evolution = Evolution(decisions, lambda path: path[1] < 3, [2, 0, 2], Breeding(8, 4, 3, 3, 0.3), 10, 0)
    finished(evolution, sum)
    paths = [path for path, _ in evolution.history]
    assert len(set(paths)) == len(paths) == 5 * 3  # all that there are, although the budget is 80
    assert all(2 in (path[0], path[2]) and path[1] < 3 for path in paths)
    assert evolution.best[1] == max(map(sum, paths))
