"""The best path under a limit, against trying every path."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fna_lightning.costs import CostTable, Term
from fna_lightning.costs.knapsack import best_path_within, cheapest_path
from fna_lightning.errors import ConfigError

whole_costs = st.lists(st.integers(0, 8), min_size=1, max_size=4)
problems = st.lists(whole_costs, min_size=1, max_size=4)


def best_by_trying_all(values, costs, limit):
    paths = product(*(range(len(row)) for row in costs))
    allowed = [p for p in paths if sum(row[i] for row, i in zip(costs, p, strict=True)) <= limit]
    return max(sum(row[i] for row, i in zip(values, p, strict=True)) for p in allowed)


def total(rows, path):
    return sum(row[index] for row, index in zip(rows, path, strict=True))


def draw_values(data, costs):
    number = st.floats(-20, 0, allow_subnormal=False)
    return [data.draw(st.lists(number, min_size=len(row), max_size=len(row))) for row in costs]


def one_each(costs):
    return [Term((number,), np.array(row, float)) for number, row in enumerate(costs)]


def solve(values, costs, limit):
    path = best_path_within([np.array(row) for row in values], one_each(costs), limit)
    assert len(path) == len(costs)
    assert all(0 <= index < len(row) for index, row in zip(path, costs, strict=True))
    return path


@given(costs=problems, budget=st.sampled_from([0, 1, 2, 4, 5, 8, 10, 16, 20, 32]), data=st.data())
@settings(max_examples=60)
def test_equals_trying_every_path(costs, budget, data):
    """The budgets divide the number of steps, so that nothing is rounded."""
    values = draw_values(data, costs)
    limit = sum(min(row) for row in costs) + budget
    path = solve(values, costs, limit)
    assert total(costs, path) <= limit
    assert total(values, path) == pytest.approx(best_by_trying_all(values, costs, limit))


@given(
    costs=st.lists(st.lists(st.integers(0, 10**9), min_size=1, max_size=4), min_size=1, max_size=4),
    budget=st.integers(0, 3 * 10**9),
    data=st.data(),
)
@settings(max_examples=60)
def test_is_within_the_limit_and_at_most_a_step_a_choice_from_the_best(costs, budget, data):
    values = draw_values(data, costs)
    cheapest = sum(min(row) for row in costs)
    path = solve(values, costs, cheapest + budget)
    assert total(costs, path) <= cheapest + budget
    rounded = budget - len(costs) * budget / 20_000
    best = best_by_trying_all(values, costs, cheapest + max(rounded, 0) - 1e-6 * (rounded > 0))
    assert total(values, path) >= best - 1e-9


@given(costs=problems, budget=st.integers(0, 20), data=st.data())
def test_is_within_the_limit_where_candidates_are_impossible(costs, budget, data):
    """A probability may be zero, even that of the only affordable candidate."""
    values = [
        data.draw(st.lists(st.sampled_from([-np.inf, -1.0]), min_size=len(r), max_size=len(r))) for r in costs
    ]
    limit = sum(min(row) for row in costs) + budget
    assert total(costs, solve(values, costs, limit)) <= limit


@pytest.mark.parametrize(("limit", "text"), [(2.9e6, "2.9 M"), (2e4, "20,000"), (0, "0"), (-1, "-1")])
def test_a_limit_below_the_cheapest_path(limit, text):
    terms = one_each([[1e6, 2e6]] * 3)
    table = CostTable("madds", 0.0, (2, 2, 2), terms)
    for ask in (table.check_limit, lambda limit: table.best_within(limit, [torch.ones(2) / 2] * 3)):
        with pytest.raises(ConfigError, match=f"a limit of {text} multiply.* cheapest path needs 3.0 M"):
            ask(limit)
    assert best_path_within([np.zeros(2)] * 3, terms, limit) is None


def test_the_cheapest_path_is_within_its_own_cost():
    assert best_path_within([np.array([0.0, -5.0])] * 3, one_each([[2.0, 1.0]] * 3), 3.0) == [1, 1, 1]


# Terms over several choices together


@st.composite
def joint_problems(draw):
    """Choices, and terms of whole costs over up to three of them in any combination."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    terms = []
    for _ in range(draw(st.integers(0, 6))):
        scope = sorted(draw(st.sets(st.integers(0, len(sizes) - 1), min_size=1, max_size=3)))
        shape = [sizes[number] for number in scope]
        numbers = draw(st.lists(st.integers(0, 8), min_size=math.prod(shape), max_size=math.prod(shape)))
        terms.append(Term(tuple(scope), np.array(numbers, float).reshape(shape)))
    return sizes, terms


def cost_of(terms, path):
    return sum(costs[tuple(path[number] for number in scope)] for scope, costs in terms)


@given(problem=joint_problems())
def test_the_cheapest_of_every_path(problem):
    sizes, terms = problem
    paths = list(product(*map(range, sizes)))
    assert cost_of(terms, cheapest_path(sizes, terms)) == min(cost_of(terms, path) for path in paths)


@given(problem=joint_problems(), budget=st.integers(0, 30), data=st.data())
@settings(max_examples=80)
def test_joint_terms_against_every_path(problem, budget, data):
    """What is found is within the budget, and no worse than all that leave a step a choice of it."""
    sizes, terms = problem
    values = draw_values(data, [[0] * size for size in sizes])
    found = best_path_within([np.array(row) for row in values], terms, budget)
    paths = list(product(*map(range, sizes)))
    rounded = budget * (1 - len(sizes) / 20_000)
    safely = [path for path in paths if cost_of(terms, path) <= rounded - 1e-6]
    if found is None:
        assert not safely
    else:
        assert cost_of(terms, found) <= budget
        assert total(values, found) >= max((total(values, path) for path in safely), default=-math.inf) - 1e-9


@given(
    costs=problems,
    budget=st.sampled_from([0, 1, 2, 4, 5, 8, 10, 16, 20, 32]),
    share=st.floats(0, 1),
    data=st.data(),
)
@settings(max_examples=100)
def test_between_two_limits_equals_trying_every_path(costs, budget, share, data):
    """Any path is found where there is one; the best of those that are clearly dear enough."""
    values = draw_values(data, costs)
    limit = sum(min(row) for row in costs) + budget
    least = share * limit
    path = best_path_within([np.array(row) for row in values], one_each(costs), limit, least)
    sums = {p: total(costs, p) for p in product(*(range(len(row)) for row in costs))}
    between = [p for p, cost in sums.items() if least <= cost <= limit]
    if not between:
        assert path is None
        return
    assert least * (1 - 1e-9) <= total(costs, path) <= limit
    clear = [p for p in between if sums[p] >= least + len(costs) * max(budget, 1e-5) / 20_000]
    if clear:
        assert total(values, path) >= max(total(values, p) for p in clear) - 1e-9


def test_a_table_gives_the_best_path_that_is_dear_enough():
    rows = [[1.0, 5.0, 9.0]] * 3
    table = CostTable("madds", 10.0, [3] * 3, one_each(rows))
    likely = [torch.tensor([0.6, 0.3, 0.1])] * 3
    assert table.best_within(40.0, likely) == [0, 0, 0]
    assert table.best_within(28.0, likely, 24.0) == [1, 1, 1]
    assert table.of(table.best_within(None, likely, 36.0)) >= 36
    assert table.best_within(100.0, likely, 50.0) == [0, 0, 0], "no path is so dear"
