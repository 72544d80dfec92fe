"""Several hard limits at once, against all paths of a small space."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fna_lightning.choices import Decisions
from fna_lightning.costs import CostTable, Limits, Term
from fna_lightning.errors import ConfigError

SIZES = (3, 2, 3, 2)
PATHS = list(itertools.product(*map(range, SIZES)))


def table(random_seed, quantity="madds"):
    """Costs of single choices and of two neighbours."""
    rng = np.random.default_rng(random_seed)
    terms = [Term((number,), rng.random(size)) for number, size in enumerate(SIZES)]
    return CostTable(quantity, 0.5, SIZES, [*terms, Term((1, 2), rng.random((2, 3)))])


@given(st.integers(0, 99))
def test_many_paths_cost_what_each_does(random_seed):
    cost = table(random_seed)
    np.testing.assert_allclose(cost.of_all(np.array(PATHS)), [cost.of(path) for path in PATHS])


@given(st.integers(0, 99), st.floats(0, 1), st.floats(0, 1))
def test_what_is_found_keeps_all_limits(random_seed, first, second):
    costs = table(random_seed), table(random_seed + 1000, "params")
    bounds = [cost.bounds() for cost in costs]
    most = [low + share * (high - low) for (low, high), share in zip(bounds, (first, second), strict=True)]
    limits = Limits(list(zip(costs, most, strict=True)))
    allowed = [path for path in PATHS if all(c.of(path) <= m for c, m in zip(costs, most, strict=True))]
    assert [path for path in PATHS if limits.allow(path)] == allowed
    try:
        assert tuple(limits.kept_path(Decisions(SIZES))) in allowed
    except ConfigError as error:
        assert "at once: raise one of them" in str(error)  # noqa: PT017 - raised for some of the limits alone
        # Between the cheapest of the one and of the other there may be a path that no weights of the two prefer.
        assert len(allowed) < len(PATHS) / 4


def test_a_limit_that_nothing_meets_is_named():
    cost = table(0)
    with pytest.raises(ConfigError, match=r"a limit of 0 multiply-adds cannot be met"):
        Limits([(cost, 0.1)]).kept_path(Decisions(SIZES))
    assert Limits().allow(PATHS[-1])
    assert Limits().kept_path(Decisions(SIZES)) == [0] * len(SIZES)


@given(st.integers(0, 99), st.floats(0, 1), st.floats(0.3, 1))
def test_a_least_cost_is_reached_where_some_path_does(random_seed, share, part):
    cost = table(random_seed)
    low, high = cost.bounds()
    most = low + share * (high - low)
    least = part * most
    limits = Limits([(cost, most)]).reaching(least, Decisions(SIZES))
    between = [path for path in PATHS if least * (1 + 1e-3) <= cost.of(path) <= most * (1 - 1e-3)]
    if between:
        assert limits.least == least
    if limits.least:
        assert least * (1 - 1e-9) <= cost.of(limits.kept_path(Decisions(SIZES))) <= most
        assert [path for path in PATHS if limits.allow(path)] == [
            path for path in PATHS if least <= cost.of(path) <= most
        ]
    else:
        assert limits.allow(limits.kept_path(Decisions(SIZES)))


@given(st.integers(0, 99), st.floats(0.3, 1), st.floats(0.3, 1))
def test_a_least_cost_beside_two_limits(random_seed, first, second):
    costs = table(random_seed), table(random_seed + 1000, "params")
    bounds = [cost.bounds() for cost in costs]
    most = [low + share * (high - low) for (low, high), share in zip(bounds, (first, second), strict=True)]
    limits = Limits(list(zip(costs, most, strict=True))).reaching(0.8 * most[0], Decisions(SIZES))
    if limits.least:
        path = limits.kept_path(Decisions(SIZES))
        assert limits.allow(path)
        assert costs[0].of(path) >= limits.least
    assert all((limits.excess(path) <= 0) == limits.allow(path) for path in PATHS)
