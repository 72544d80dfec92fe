"""Choices that are made together, against everything that could be chosen."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fna_lightning.choices import Choices, Decision, Decisions, Joint, LayerChoice, Supernet
from fna_lightning.costs import CostTable, Term
from fna_lightning.errors import ConfigError

SIZES = (2, 3, 3, 2)
PAIRS = np.array([option for option in itertools.product(range(3), range(2)) if sum(option) != 2])
COUNTED = PAIRS > 0
DECISIONS = Decisions(SIZES, [Decision((1, 3), PAIRS, COUNTED)])
PATHS = [path for path in itertools.product(*map(range, SIZES)) if path[1] + path[3] != 2]


def table(random_seed):
    rng = np.random.default_rng(random_seed)
    terms = [Term((number,), rng.random(size)) for number, size in enumerate(SIZES)]
    return CostTable("madds", 0.5, SIZES, [*terms, Term((1, 2), rng.random((3, 3)))], DECISIONS)


def rows_of(random_seed):
    generator = torch.Generator().manual_seed(random_seed)
    return [torch.rand(size, generator=generator) for size in SIZES]


def weight(path, rows):
    counted = [path[0], path[2]]
    values = [rows[0][counted[0]], rows[2][counted[1]]]
    values += [rows[number][path[number]] for number in (1, 3) if path[number] > 0]
    return float(torch.stack(values).double().prod())


def test_paths_and_genes_stand_for_each_other():
    assert DECISIONS.sizes == (2, len(PAIRS), 3)
    genes = list(itertools.product(*map(range, DECISIONS.sizes)))
    assert sorted(tuple(DECISIONS.path(each)) for each in genes) == sorted(PATHS)
    assert all(tuple(DECISIONS.genes(DECISIONS.path(each))) == each for each in genes)
    with pytest.raises(ConfigError, match="path entries 1, 3: 2, 0 do not go together"):
        DECISIONS.genes([0, 2, 0, 0])


@given(st.integers(0, 10_000))
def test_the_most_probable_path_is_the_best_of_all(random_seed):
    rows = rows_of(random_seed)
    best = max(PATHS, key=lambda path: weight(path, rows))
    assert tuple(DECISIONS.most_probable(rows)) == best
    taken = [int(row.argmax()) for row in DECISIONS.taken(rows)]
    assert tuple(taken) == best
    assert all(float(row.sum()) == 1 for row in DECISIONS.taken(rows))


@given(st.integers(0, 10_000))
def test_probabilities_of_all_paths_add_up(random_seed):
    rows = [row.softmax(0).requires_grad_() for row in rows_of(random_seed)]
    logs = [DECISIONS.log_probability(rows, path) for path in PATHS]
    assert torch.stack(logs).exp().sum().item() == pytest.approx(1)
    first, second = PATHS[:2]
    ratio = weight(first, rows) / weight(second, rows)
    assert (logs[0] - logs[1]).exp().item() == pytest.approx(ratio, rel=1e-4)
    (gradient,) = torch.autograd.grad(torch.stack(logs).exp().sum(), rows[1])
    assert gradient.abs().max() < 1e-5  # the sum is one whatever the weights of the joint choices


@given(st.integers(0, 10_000), st.floats(0.05, 1.0), st.booleans())
def test_the_best_path_within_a_limit_is_the_best_of_all(random_seed, part, with_least):
    cost, rows = table(random_seed), rows_of(random_seed)
    costs = {path: cost.of(path) for path in PATHS}
    low, high = cost.bounds()
    assert (low, high) == (pytest.approx(min(costs.values())), pytest.approx(max(costs.values())))
    assert costs[tuple(cost.cheapest())] == pytest.approx(low)
    limit = low + part * (high - low)
    least = 0.9 * limit if with_least else None
    allowed = [path for path in PATHS if costs[path] <= limit]
    reaching = [path for path in allowed if least is None or costs[path] >= least]
    found = tuple(cost.best_within(limit, rows, least))
    assert found in allowed
    best = max(weight(path, rows) for path in reaching or allowed)
    # The knapsack counts in steps: what lies on the edge of the limit it may pass over.
    if min(abs(value - edge) for value in costs.values() for edge in (limit, least or limit)) > 1e-3 * high:
        assert weight(found, rows) == pytest.approx(best)


class Pairs(Supernet):
    """Two choices of which only equal candidates go together."""

    def __init__(self):
        super().__init__()
        self.first, self.free, self.second = (
            LayerChoice({name: nn.Identity() for name in "abc"}) for _ in range(3)
        )

    def architecture_of(self, path):
        raise NotImplementedError

    def joint(self):
        equal = np.repeat(np.arange(3)[:, None], 2, axis=1)
        return [Joint([self.second, self.first], equal, np.ones_like(equal, bool))]


def test_paths_are_drawn_by_decisions():
    choices = Choices(nn.Sequential(Pairs(), LayerChoice({"x": nn.Identity(), "y": nn.Identity()})))
    assert [each.choices for each in choices.decisions] == [(0, 2), (1,), (3,)]
    drawn = [choices.draw(0, iteration) for iteration in range(3000)]
    assert all(path[0] == path[2] for path in drawn)
    assert np.mean([path[0] == 1 for path in drawn]) == pytest.approx(1 / 3, abs=0.03)
    rows = [torch.tensor([0.5, 0.25, 0.25])] * 3 + [torch.tensor([0.9, 0.1])]
    drawn = [choices.draw(0, iteration, rows) for iteration in range(3000)]
    assert np.mean([path[0] == 0 for path in drawn]) == pytest.approx(4 / 6, abs=0.03)
