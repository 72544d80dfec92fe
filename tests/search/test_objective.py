"""The cost term against the closed form of FNA's equation 6."""

import math

import pytest
import torch

from fna_lightning.costs import tabulate
from fna_lightning.errors import ConfigError
from fna_lightning.search import CostObjective
from fna_lightning.supernets import build_supernet


@pytest.fixture
def supernet(small_space):
    supernet = build_supernet(small_space, [3])
    tabulate(supernet, (32, 48))
    for alpha in supernet.alphas():
        torch.nn.init.normal_(alpha)
    return supernet


def closed_form(supernet, weight, base):
    """Value and gradients: (lambda / ln tau) p_o (c_o - sum p c) / cost."""
    rows = [torch.softmax(choice.alpha.detach().double(), 0) for choice in supernet.choices()]
    means = [(row * choice.costs).sum() for row, choice in zip(rows, supernet.choices(), strict=True)]
    cost = sum(means)
    scale = weight / math.log(base)
    gradients = [
        scale * row * (choice.costs - mean) / cost
        for row, mean, choice in zip(rows, means, supernet.choices(), strict=True)
    ]
    return scale * math.log(cost / 1e9), gradients


@pytest.mark.parametrize(("weight", "base"), [(0.02, 10), (0.15, 10), (9e-3, 45), (1.0, 0.5)])
def test_value_and_gradient(supernet, weight, base):
    term = CostObjective(weight, base)(supernet)
    term.backward()
    value, gradients = closed_form(supernet, weight, base)
    assert term.item() == pytest.approx(value, rel=1e-6)
    for alpha, gradient in zip(supernet.alphas(), gradients, strict=True):
        torch.testing.assert_close(alpha.grad.double(), gradient, rtol=1e-4, atol=1e-9)


def test_published_value_at_uniform_alpha(retinanet_space):
    """Spec FNA, section 9: 4.867125 G, logarithm .687273, term .013745."""
    supernet = build_supernet(retinanet_space)
    tabulate(supernet, (800, 1088))
    for alpha in supernet.alphas():
        torch.nn.init.zeros_(alpha)
    assert supernet.expected_cost().item() / 1e9 == pytest.approx(4.867125, abs=5e-7)
    assert CostObjective(1.0)(supernet).item() == pytest.approx(0.687273, abs=5e-7)
    assert CostObjective(0.02)(supernet).item() == pytest.approx(0.013745, abs=5e-7)


def test_target_is_where_the_pull_ends(supernet):
    total = supernet.expected_cost().item() + supernet.fixed_cost
    assert CostObjective(1.0, target=total)(supernet).item() == pytest.approx(0, abs=1e-9)
    assert CostObjective(1.0, target=total / 10)(supernet).item() == pytest.approx(1, abs=1e-6)
    assert CostObjective(1.0, target=total * 10)(supernet).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("factor", "sign"), [(0.8, -1), (1.25, 1)])
def test_target_pushes_from_both_sides(supernet, factor, sign):
    """Dearer than the target the cost falls, cheaper than it the cost rises."""
    before = supernet.expected_cost().item()
    CostObjective(1.0, target=factor * (before + supernet.fixed_cost))(supernet).backward()
    for alpha in supernet.alphas():
        alpha.data -= 0.05 * alpha.grad
    assert (supernet.expected_cost().item() - before) * sign > 0


def test_limit_leaves_out_what_stays(supernet):
    assert CostObjective(1.0).limit(supernet) is None
    assert supernet.fixed_cost > 0
    assert CostObjective(1.0, target=5e6).limit(supernet) == 5e6 - supernet.fixed_cost


def test_derived_network_never_exceeds_the_target(supernet):
    costs = [supernet.path_cost([0] * 5), supernet.path_cost([2] * 5)]
    target = supernet.fixed_cost + sum(costs) / 2
    path = supernet.best_path(CostObjective(1.0, target=target).limit(supernet))
    assert supernet.path_cost(path) + supernet.fixed_cost <= target


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
