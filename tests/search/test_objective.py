"""The cost term against the closed form of FNA's equation 6."""

import math

import pytest
import torch

from fna_lightning.errors import ConfigError
from fna_lightning.search import CostObjective
from fna_lightning.supernets import build_supernet


@pytest.fixture
def search(small_space, searched):
    return searched(build_supernet(small_space, [3]), (32, 48)).set_alphas(1.0)


def value_of(objective, search):
    return objective(search.cost, search.parameters.weights())


def closed_form(search, weight, base):
    """Value and gradients: (lambda / ln tau) p_o (c_o - sum p c) / cost."""
    rows = [torch.softmax(alpha.detach().double(), 0) for alpha in search.alphas]
    means = [(row * costs).sum() for row, costs in zip(rows, search.costs, strict=True)]
    cost = sum(means)
    scale = weight / math.log(base)
    gradients = [
        scale * row * (costs - mean) / cost for row, mean, costs in zip(rows, means, search.costs, strict=True)
    ]
    return scale * math.log(cost / 1e9), gradients


@pytest.mark.parametrize(("weight", "base"), [(0.02, 10), (0.15, 10), (9e-3, 45), (1.0, 0.5)])
def test_value_and_gradient(search, weight, base):
    term = value_of(CostObjective(weight, base), search)
    term.backward()
    value, gradients = closed_form(search, weight, base)
    assert term.item() == pytest.approx(value, rel=1e-6)
    for alpha, gradient in zip(search.alphas, gradients, strict=True):
        torch.testing.assert_close(alpha.grad.double(), gradient, rtol=1e-4, atol=1e-9)


def test_published_value_at_uniform_alpha(retinanet_space, searched):
    """Spec FNA, section 9: 4.867125 G, logarithm .687273, term .013745."""
    search = searched(build_supernet(retinanet_space), (800, 1088)).set_alphas(0.0)
    assert search.expected_cost().item() / 1e9 == pytest.approx(4.867125, abs=5e-7)
    assert value_of(CostObjective(1.0), search).item() == pytest.approx(0.687273, abs=5e-7)
    assert value_of(CostObjective(0.02), search).item() == pytest.approx(0.013745, abs=5e-7)


def cost_of_the_most_probable(search):
    return search.cost.of([int(alpha.argmax()) for alpha in search.alphas])


def test_target_is_where_the_pull_ends(search):
    """Of the network that would be derived, whatever the mixture costs."""
    total = cost_of_the_most_probable(search)
    assert total != pytest.approx(search.expected_cost().item() + search.cost.fixed, rel=1e-3)
    assert value_of(CostObjective(1.0, target=total), search).item() == pytest.approx(0, abs=1e-9)
    assert value_of(CostObjective(1.0, target=total / 10), search).item() == pytest.approx(1, abs=1e-6)
    assert value_of(CostObjective(1.0, target=total * 10), search).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("factor", "sign"), [(0.8, -1), (1.25, 1)])
def test_target_pushes_from_both_sides(search, factor, sign):
    """Dearer than the target the cost falls, cheaper than it the cost rises."""
    before = search.expected_cost().item()
    value_of(CostObjective(1.0, target=factor * cost_of_the_most_probable(search)), search).backward()
    for alpha in search.alphas:
        alpha.data -= 0.05 * alpha.grad
    assert (search.expected_cost().item() - before) * sign > 0


def test_a_limit_counts_what_stays(search):
    target = sum(search.cost.of([index] * 5) for index in (0, 2)) / 2
    assert search.cost.fixed > 0
    assert search.cost.of(search.best_path(target)) <= target


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"log_base": 0}, r"cost.log_base=0: "),
        ({"log_base": 1.0}, r"cost.log_base=1.0: "),
        ({"log_base": -10}, r"cost.log_base=-10: "),
        ({"target": 0}, r"cost.target=0: give multiply-adds"),
        ({"target": -3e9}, r"cost.target=-3000000000.0"),
    ],
)
def test_impossible_settings(settings, match):
    with pytest.raises(ConfigError, match=match):
        CostObjective(0.02, **settings)
