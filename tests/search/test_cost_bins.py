"""Paths that are drawn evenly over ranges of cost."""

from collections import Counter

import numpy as np
import pytest

from fna_lightning.costs import CostTable, Term
from fna_lightning.errors import ConfigError
from fna_lightning.search import CostBins

PLACES = 12
COST = CostTable("madds", 10.0, [4] * PLACES, [Term((n,), np.arange(4.0)) for n in range(PLACES)])
EDGES = [16, 22, 28, 34, 40]
"""Costs are 10 to 46, and 28 in the mean."""


def test_bins_are_drawn_evenly_where_uniform_paths_crowd_in_the_middle():
    draw = CostBins(COST, EDGES)
    paths = [draw(3, iteration) for iteration in range(2000)]
    bins = Counter(int(np.digitize(COST.of(path), EDGES)) for path in paths)
    assert set(bins) == {1, 2, 3, 4}
    assert all(abs(number - 500) < 100 for number in bins.values())
    uniform = np.random.default_rng(0).integers(4, size=(2000, PLACES))
    assert Counter(np.digitize(COST.of_all(uniform), EDGES).tolist())[1] < 150
    # Within a bin, every candidate of every choice comes.
    assert all(len({path[place] for path in paths}) == 4 for place in range(PLACES))


def test_a_path_is_a_function_of_random_seed_and_iteration():
    one, other = CostBins(COST, EDGES), CostBins(COST, EDGES)
    assert [one(5, n) for n in (7, 3, 3)] == [other(5, n) for n in (7, 3, 3)]
    assert one(5, 3) != one(6, 3)


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        ([20], "give the edges of the bins, ascending"),
        ([20, 20], "ascending"),
        ([1, 5, 20], "so that a bin is empty"),
        ([20, 47, 50], "so that a bin is empty"),
    ],
)
def test_what_cannot_be_is_named(edges, words):
    with pytest.raises(ConfigError, match=words):
        CostBins(COST, edges)
