import copy
import math
from collections import Counter
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fna_lightning.architectures import load_architecture, parse_architecture
from fna_lightning.choices import Choice, Choices, LayerChoice
from fna_lightning.errors import ArchitectureError, ConfigError
from fna_lightning.supernets import MobileSpace, build_supernet

R6 = ("k3_e3", "k3_e6", "k5_e3", "k5_e6", "k7_e3", "k7_e6")


@pytest.fixture(scope="module")
def tabulated(small_space, searched):
    return searched(build_supernet(small_space, (2, 3)), (64, 64)).set_alphas(1.0)


@pytest.fixture
def search(tabulated):
    return copy.deepcopy(tabulated)


# Spaces


def test_choices_of_a_space(search):
    first, later = ("k3_e2", "k3_e3", "k5_e3"), ("k3_e2", "k3_e3", "k5_e3", "skip")
    assert [choice.names for choice in search.choices] == [first, later, later, first, later]
    assert search.choices.names == ("stages.2.0", "stages.2.1", "stages.2.2", "stages.3.0", "stages.3.1")
    assert search.choices.sizes == (3, 4, 4, 3, 4)
    assert [alpha.shape for alpha in search.alphas] == [(3,), (4,), (4,), (3,), (4,)]
    assert all(alpha.requires_grad for alpha in search.alphas)
    assert not [name for name in search.network.state_dict() if "alpha" in name]


def test_retinanets_space(retinanet_space):
    with torch.device("meta"):
        supernet = build_supernet(retinanet_space)
    names = [choice.names for choice in Choices(supernet)]
    assert names == [R6, *3 * [(*R6, "skip")]] * 5 + [R6]


def test_ssdlites_space_begins_stage_6_with_expansion_6(ssdlite_space):
    with torch.device("meta"):
        supernet = build_supernet(ssdlite_space, (7, 8))
    names = [choice.names for choice in Choices(supernet)]
    assert names[16] == ("k3_e6", "k5_e6", "k7_e6")
    assert names[:16] + names[17:] == [R6, *3 * [(*R6, "skip")]] * 4 + [(*R6, "skip")] * 3 + [R6]
    assert sum(Choices(supernet).sizes) == 138


def test_segmentations_space_is_deeper(mobilenet):
    space = MobileSpace(mobilenet, {2: 4, 3: 4, 4: 6, 5: 6, 6: 4, 7: 1})
    with torch.device("meta"):
        supernet = build_supernet(space, (7,), output_stride=16)
    depths = [sum(isinstance(layer, Choice) for layer in stage.modules()) for stage in supernet.stages]
    assert depths == [0, 0, 4, 4, 6, 6, 4, 1]
    assert sum(Choices(supernet).sizes) == 6 * 6 + 19 * 7
    dilations = [{m.dilation[0] for m in s.modules() if getattr(m, "groups", 1) > 1} for s in supernet.stages]
    assert dilations == [set(), {1}, {1}, {1}, {1}, {1}, {2}, {2}]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"depths": {}}, "searches no stage"),
        ({"depths": {0: 1}}, "stage 0: searched stages are 1 to 3"),
        ({"depths": {4: 1}}, "stage 4: searched stages are 1 to 3"),
        ({"depths": {2: 0}}, "stage 2 has depth 0"),
        ({"first_candidates": {3: ("k3_e6",)}}, "first_candidates name stage 3"),
        ({"first_candidates": {2: ()}}, "at least one"),
        ({"candidates": ()}, "at least one"),
        ({"candidates": ("k3_e3", "k3_e3")}, "each operation once"),
    ],
)
def test_impossible_spaces(small, settings, words):
    with pytest.raises(ConfigError, match=words):
        MobileSpace(small, **{"depths": {2: 2}, **settings})


@pytest.mark.parametrize("candidate", ["skip", "k4_e3", "conv"])
def test_candidates_that_are_no_operations(small, candidate):
    with pytest.raises(ArchitectureError, match=candidate.strip("k_e3")):
        MobileSpace(small, {2: 2}, (candidate,))


@pytest.mark.parametrize("out_stages", [(1, 2), (2,)])
def test_a_searched_stage_that_nobody_reads(small_space, out_stages):
    with pytest.raises(ConfigError, match="stage 3 is searched, but the detector reads only up to stage 2"):
        build_supernet(small_space, out_stages)


@pytest.mark.parametrize("out_stages", [(), (5,), (-1, 3)])
def test_wrong_out_stages(small_space, out_stages):
    with pytest.raises(ConfigError, match="out_stages"):
        build_supernet(small_space, out_stages)


def test_alphas_begin_small():
    alpha = torch.cat([Choice(["a"] * 10).start for _ in range(200)])
    assert alpha.std().item() == pytest.approx(1e-3, rel=0.1)
    assert abs(alpha.mean().item()) < 1e-4


def test_searched_norms_have_neither_scale_nor_statistics(small_space):
    supernet = build_supernet(small_space, (4,))
    searched = {
        norm for choice in Choices(supernet) for norm in choice.modules() if isinstance(norm, nn.BatchNorm2d)
    }
    others = {norm for norm in supernet.modules() if isinstance(norm, nn.BatchNorm2d)} - searched
    assert (len(searched), len(others)) == (3 * 15, 4)
    assert not any(norm.affine or norm.track_running_stats for norm in searched)
    assert all(norm.affine and norm.track_running_stats for norm in others)


# Execution


def candidate_outputs(choice, x):
    return [x if name == "skip" else choice.candidates[name](x) for name in choice.names]


@pytest.mark.parametrize("temperature", [1.0, 0.9])
def test_mixture_is_the_weighted_sum(small_space, searched, temperature):
    search = searched(build_supernet(small_space, (3,)), temperature=temperature).set_alphas(1.0)
    search.set_mixture()
    choice, x = search.choices[1], torch.randn(2, 8, 5, 7)
    exponentials = [math.exp(value / temperature) for value in search.alphas[1].tolist()]
    expected = sum(
        e / sum(exponentials) * y for e, y in zip(exponentials, candidate_outputs(choice, x), strict=True)
    )
    torch.testing.assert_close(choice(x), expected)


@pytest.mark.parametrize("index", range(4))
def test_a_path_is_the_candidate_alone(search, index):
    choice, x = search.choices[1], torch.randn(2, 8, 5, 7)
    search.choices.set_path([0, index, 0, 0, 0])
    assert torch.equal(choice(x), candidate_outputs(choice, x)[index])


def test_a_path_runs_and_trains_its_own_candidates_only(search):
    ran = set()
    for choice in search.choices:
        for name, candidate in choice.candidates.items():
            candidate.register_forward_hook(lambda *_, key=(choice, name): ran.add(key))
    path = [1, 3, 0, 2, 1]
    search.choices.set_path(path)
    search.network(torch.randn(2, 3, 32, 32))["3"].sum().backward()
    chosen = {(choice, choice.names[i]) for choice, i in zip(search.choices, path, strict=True)}
    assert ran == chosen
    for choice, alpha in zip(search.choices, search.alphas, strict=True):
        assert alpha.grad is None
        for name, candidate in choice.candidates.items():
            moved = [parameter.grad is not None for parameter in candidate.parameters()]
            assert all(moved) if (choice, name) in chosen else not any(moved)


def test_the_mixture_trains_every_alpha(search):
    search.choices.set_path([0] * 5)
    search.set_mixture()
    assert [choice.active for choice in search.choices] == [None] * 5
    maps = search.network(torch.randn(2, 3, 32, 32))
    assert {name: tuple(m.shape) for name, m in maps.items()} == {"2": (2, 8, 8, 8), "3": (2, 10, 4, 4)}
    maps["3"].square().sum().backward()
    assert all(alpha.grad is not None and alpha.grad.abs().max() > 0 for alpha in search.alphas)


@pytest.mark.parametrize("path", [[0] * 4, [0] * 6, [3, 0, 0, 0, 0], [0, 4, 0, 0, 0], [0, 0, 0, 0, -1]])
def test_paths_that_do_not_exist(search, path):
    search.choices.set_path([1] * 5)
    with pytest.raises(ConfigError, match="path"):
        search.choices.set_path(path)
    with pytest.raises(ConfigError, match="path"):
        search.choices.derive(path)
    assert [choice.active for choice in search.choices] == [1] * 5


# Expected cost


def test_expected_cost_is_the_mean_of_the_path_costs(search):
    rows = [torch.softmax(alpha.detach().double(), 0).tolist() for alpha in search.alphas]
    mean = sum(
        math.prod(row[i] for row, i in zip(rows, path, strict=True)) * search.path_cost(path)
        for path in product(*(range(len(row)) for row in rows))
    )
    assert search.expected_cost().item() == pytest.approx(mean, rel=1e-6)


def test_gradient_of_the_expected_cost(search):
    alphas = search.alphas
    for alpha in alphas:
        alpha.data = alpha.data.double()
    gradients = torch.autograd.grad(search.expected_cost(), alphas)
    step = 1e-5
    for alpha, gradient, costs in zip(alphas, gradients, search.costs, strict=True):
        p = torch.softmax(alpha.detach(), 0)
        torch.testing.assert_close(gradient, p * (costs - (p * costs).sum()))
        for index in range(len(alpha)):
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    alpha[index] += sign * step
                    values.append(search.expected_cost().item())
                    alpha[index] -= sign * step
            difference = (values[0] - values[1]) / (2 * step)
            assert gradient[index].item() == pytest.approx(difference, rel=1e-5, abs=1e-2)


def test_gradient_of_the_cost_term(search):
    """lambda log_tau(cost): its gradient is (lambda / ln tau) p_o (c_o - sum p c) / cost, in any unit of cost."""
    alphas = search.alphas
    cost = search.expected_cost()
    gradients = torch.autograd.grad(0.02 * torch.log10(cost / 1e9), alphas)
    for alpha, gradient, costs in zip(alphas, gradients, search.costs, strict=True):
        p = torch.softmax(alpha.detach().double(), 0)
        expected = 0.02 / math.log(10) * p * (costs - (p * costs).sum()) / cost.item()
        torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=1e-9)


def test_sampled_paths_cost_what_is_expected(search):
    costs = torch.tensor([search.path_cost(search.draw(5, i, "probability")) for i in range(3000)])
    error = costs.std().item() / math.sqrt(len(costs))
    assert abs(costs.mean().item() - search.expected_cost().item()) / error < 4


# Sampling


@pytest.mark.parametrize("policy", ["uniform", "probability"])
def test_a_path_is_a_function_of_seed_and_iteration(search, policy):
    other = copy.deepcopy(search)
    forward = [search.draw(1, i, policy) for i in range(50)]
    torch.rand(7)
    other.choices.set_path([0] * 5)
    other.network(torch.randn(1, 3, 32, 32))
    assert [other.draw(1, i, policy) for i in reversed(range(50))] == forward[::-1]
    # Other seeds draw other paths, and not the same ones later.
    later = [search.draw(2, i, policy) for i in range(50)]
    assert sum(path == other for path, other in zip(forward[1:], later, strict=False)) < 10
    assert sum(path == other for path, other in zip(forward, later, strict=True)) < 10
    assert len({tuple(path) for path in forward}) > 25


@pytest.mark.parametrize("policy", ["uniform", "probability"])
def test_sampling_leaves_random_state_and_path_alone(search, policy):
    search.choices.set_path([1] * 5)
    state = torch.get_rng_state()
    search.draw(3, 4, policy)
    assert torch.equal(torch.get_rng_state(), state)
    assert [choice.active for choice in search.choices] == [1] * 5


@pytest.mark.parametrize("policy", ["uniform", "probability"])
def test_frequencies_of_sampled_candidates(search, policy):
    number = 4000
    paths = [search.draw(11, i, policy) for i in range(number)]
    for position, alpha in enumerate(search.alphas):
        size = len(alpha)
        expected = [1 / size] * size if policy == "uniform" else torch.softmax(alpha.detach(), 0).tolist()
        counts = Counter(path[position] for path in paths)
        assert set(counts) <= set(range(size))
        for index, p in enumerate(expected):
            assert abs(counts[index] - number * p) < 4.5 * math.sqrt(number * p * (1 - p))


def test_layers_are_sampled_independently(search):
    pairs = Counter(tuple(search.draw(2, i)[1:3]) for i in range(4000))
    assert len(pairs) == 16
    assert all(abs(count - 250) < 4.5 * math.sqrt(250 * 15 / 16) for count in pairs.values())


# Derivation


def test_the_largest_alpha_wins_and_skips_stay_in_place(search):
    with torch.no_grad():
        for alpha, index in zip(search.alphas, [2, 3, 1, 0, 3], strict=True):
            alpha.zero_()[index] = 1
    assert search.best_path() == [2, 3, 1, 0, 3]
    (found,) = search.choices.derive(search.best_path()).items()
    assert found[0] == "backbone"
    assert str(found[1]) == (
        "[[8, 6], ['k3_e1'], 1]|\n[[6, 8], ['k5_e3', 'skip', 'k3_e3'], 2]|\n[[8, 10], ['k3_e2', 'skip'], 2]"
    )


def test_the_first_of_equals_wins(search):
    with torch.no_grad():
        for alpha in search.alphas:
            alpha.zero_()
        search.alphas[1][2:] = 1
    assert search.best_path() == [0, 2, 0, 0, 0]


def test_what_is_not_searched_stays(mobilenet):
    space = MobileSpace(load_architecture("fna_retinanet"), {4: 2})
    supernet = build_supernet(space, (7,))
    found = parse_architecture(str(supernet.architecture_of([5, 6])))
    assert found.stages[3].layers == (*load_architecture("fna_retinanet").stages[3].layers[2:3], None)
    assert [s for i, s in enumerate(found.stages) if i != 3] == [
        s for i, s in enumerate(space.base.stages) if i != 3
    ]
    assert mobilenet.widths == found.widths


@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
def test_a_derived_path_is_the_most_probable_within_the_limit(tabulated, seed, share):
    limited = copy.deepcopy(tabulated).set_alphas(2.0, seed)
    rows = [torch.log_softmax(alpha.detach().double(), 0).tolist() for alpha in limited.alphas]
    paths = list(product(*(range(len(row)) for row in rows)))
    costs = {path: limited.path_cost(path) for path in paths}
    cheapest, dearest = min(costs.values()), max(costs.values())
    limit = cheapest + share * (dearest - cheapest)

    def log_probability(path):
        return sum(row[i] for row, i in zip(rows, path, strict=True))

    found = limited.best_path(limit + limited.cost.fixed)
    assert limited.path_cost(found) <= limit
    within = [path for path in paths if costs[path] <= limit - 5 * (limit - cheapest) / 20_000]
    assert log_probability(found) >= max(map(log_probability, within or [min(costs, key=costs.get)])) - 1e-5


def test_a_limit_that_is_met_changes_nothing(search):
    best = search.best_path()
    assert search.best_path(search.cost.of(best)) == best


def test_a_limit_holds_where_probabilities_vanish(search):
    """Alphas so far apart that the dear candidates' softmax is exactly one."""
    with torch.no_grad():
        for alpha, costs in zip(search.alphas, search.costs, strict=True):
            alpha.zero_()[costs.argmax()] = 500
    limit = search.cost.fixed + sum(costs.min().item() for costs in search.costs)
    assert search.cost.of(search.best_path(limit)) == limit
    with pytest.raises(ConfigError, match="cannot be met"):
        search.best_path(limit - 1)


def test_copies_share_nothing(search):
    other = Choices(copy.deepcopy(search.network))
    other.set_path([2] * 5)
    assert [choice.active for choice in search.choices] == [None] * 5
    assert not {id(c) for c in other} & {id(c) for c in search.choices}
    assert all(isinstance(choice, LayerChoice) for choice in other)
