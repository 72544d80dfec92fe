import copy
import math
import re
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fna_lightning.architectures import load_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.choices import Choices
from fna_lightning.costs import count, tabulate
from fna_lightning.detectors import FasterRCNN
from fna_lightning.supernets import MobileSpace, build_supernet

R6 = ("k3_e3", "k3_e6", "k5_e3", "k5_e6", "k7_e3", "k7_e6")


@pytest.fixture(scope="module")
def retinanet(retinanet_space, searched):
    return searched(build_supernet(retinanet_space), (800, 1088)).set_alphas(0.0)


@pytest.fixture(scope="module")
def ssdlite(ssdlite_space, searched):
    supernet = build_supernet(ssdlite_space, ("6.expand", 8))
    return searched(supernet, (320, 320), temperature=0.9).set_alphas(0.0)


def path_of(architecture, search):
    """The candidates by which a published network stands in the space, skips at a stage's end."""
    layers = []
    for number, depth in sorted(search.network.space.depths.items()):
        names = ["skip" if layer is None else str(layer) for layer in architecture.stages[number - 1].layers]
        layers += names + ["skip"] * (depth - len(names))
    return [choice.names.index(name) for choice, name in zip(search.choices, layers, strict=True)]


def test_parameters_and_alphas_of_the_paper(retinanet, ssdlite):
    assert sum(tensor.numel() for tensor in retinanet.network.parameters()) + 141 == 10_850_493
    # 656,960 of the published 11,674,522 belong to the extra layers.
    assert sum(tensor.numel() for tensor in ssdlite.network.parameters()) + 138 == 11_674_522 - 656_960
    assert sum(alpha.numel() for alpha in retinanet.alphas) == 141
    assert sum(alpha.numel() for alpha in ssdlite.alphas) == 138


@pytest.mark.parametrize(
    ("choices", "terms"),
    [
        ([0], ".253286 .506573 .295066 .590131 .357734 .715469"),
        ([1, 2, 3], ".223258 .446515 .285926 .571853 .379930 .759859 0"),
        ([12], ".110323 .220646 .120768 .241536 .136435 .272870"),
        ([13, 14, 15], ".196819 .393638 .212486 .424973 .235987 .471974 0"),
        ([20], ".199512 .399024 .206040 .412080 .215832 .431664"),
    ],
)
def test_cost_terms_of_the_paper(retinanet, choices, terms):
    expected = torch.tensor([float(term) for term in terms.split()], dtype=torch.float64)
    for number in choices:
        torch.testing.assert_close(retinanet.costs[number] / 1e9, expected, rtol=0, atol=5.1e-7)


def test_expected_costs_of_the_paper(retinanet):
    expected = retinanet.expected_cost().item() / 1e9
    assert expected == pytest.approx(4.867125, abs=5e-7)
    assert math.log10(expected) == pytest.approx(0.687273, abs=5e-7)
    assert 0.02 * math.log10(expected) == pytest.approx(0.013745, abs=6e-7)
    assert sum(costs.min().item() for costs in retinanet.costs) / 1e9 == pytest.approx(0.898253, abs=5e-7)
    assert sum(costs.max().item() for costs in retinanet.costs) / 1e9 == pytest.approx(8.391581, abs=5e-7)
    bounds = [(bound - retinanet.cost.fixed) / 1e9 for bound in retinanet.cost.bounds()]
    assert bounds == pytest.approx([0.898253, 8.391581], abs=5e-7)


@pytest.mark.parametrize(("name", "cost"), [("mobilenet_v2", 4.485062), ("fna_retinanet", 4.461317)])
def test_published_networks_inside_retinanets_space(retinanet, name, cost):
    path = path_of(load_architecture(name), retinanet)
    assert retinanet.path_cost(path) / 1e9 == pytest.approx(cost, abs=5e-7)


def test_ssdlite_costs_of_the_paper(ssdlite):
    costs = [costs / 1e9 for costs in ssdlite.costs]
    torch.testing.assert_close(
        costs[16], torch.tensor([0.031853, 0.032774, 0.034157], dtype=torch.float64), rtol=0, atol=5.1e-7
    )
    assert ssdlite.expected_cost().item() / 1e9 == pytest.approx(0.580835, abs=5e-7)
    assert math.log10(ssdlite.expected_cost().item() / 1e9) == pytest.approx(-0.2359, abs=6e-5)
    for name, cost in (("mobilenet_v2", 0.527654), ("fna_ssdlite", 0.599770)):
        path = path_of(load_architecture(name), ssdlite)
        assert ssdlite.path_cost(path) / 1e9 == pytest.approx(cost, abs=5e-7)


@pytest.mark.parametrize("name", ["mobilenet_v2", "fna_ssdlite"])
def test_path_and_fixed_cost_are_ssdlites_backbone(ssdlite, name):
    """The expanded map that the head reads costs nothing besides, and the last stages count once (Q5)."""
    backbone = build_backbone(load_architecture(name), ("6.expand", 8))
    path = path_of(load_architecture(name), ssdlite)
    assert ssdlite.cost.of(path) == count(backbone, (320, 320)).madds


def closed_form(name, height, width, c_in, c_out, stride):
    if name == "skip":
        return 0
    kernel, expansion = map(int, re.fullmatch(r"k(\d)_e(\d)", name).groups())
    after = math.ceil(height / stride) * math.ceil(width / stride)
    expand = height * width * c_in * expansion * c_in if expansion > 1 else 0
    return expand + after * expansion * c_in * (kernel**2 + c_out)


@given(height=st.integers(1, 200), width=st.integers(1, 200))
@settings(max_examples=4)
def test_candidates_equal_the_closed_form(small, height, width):
    space = MobileSpace(small, {2: 2, 3: 3}, ("k3_e1", *R6))
    supernet = build_supernet(space, (3,))
    cost = tabulate(supernet, (height, width))
    h, w = math.ceil(height / 2), math.ceil(width / 2)
    choices = iter(zip(Choices(supernet), cost.terms, strict=True))
    for number, (c_in, c_out) in ((2, (6, 8)), (3, (8, 10))):
        for layer in range(space.depths[number]):
            (choice, term), stride = next(choices), 2 if layer == 0 else 1
            inputs = c_in if layer == 0 else c_out
            assert term.costs.tolist() == [closed_form(n, h, w, inputs, c_out, stride) for n in choice.names]
            h, w = math.ceil(h / stride), math.ceil(w / stride)


@given(seed=st.integers(0, 10**6), height=st.integers(1, 70), width=st.integers(1, 70), dilate=st.booleans())
@settings(max_examples=6)
def test_path_and_fixed_cost_make_the_whole_network(small_space, seed, height, width, dilate):
    stride = 4 if dilate else None
    supernet = build_supernet(small_space, (3, 4), output_stride=stride)
    cost = tabulate(supernet, (height, width))
    path = Choices(supernet).draw(seed, 0)
    backbone = build_backbone(supernet.architecture_of(path), (3, 4), output_stride=stride)
    assert cost.of(path) == count(backbone, (height, width)).madds


def test_path_and_fixed_cost_at_the_papers_size(retinanet):
    path = path_of(load_architecture("fna_retinanet"), retinanet)
    assert retinanet.cost.of(path) == 4_823_403_200


def test_stages_that_are_not_searched_are_fixed_cost(small):
    supernet = build_supernet(MobileSpace(small, {3: 2}), (3,))
    cost = tabulate(supernet, (32, 48))
    path = [1, 0]
    total = count(build_backbone(supernet.architecture_of(path), (3,)), (32, 48)).madds
    assert cost.of(path) == total


def test_tabulating_changes_nothing(small_space):
    supernet = build_supernet(small_space, (3,))
    choices = Choices(supernet)
    choices.set_path([2, 3, 1, 0, 2])
    supernet.train()
    before = copy.deepcopy(supernet.state_dict())
    first = tabulate(supernet, (64, 64))
    assert [choice.active for choice in choices] == [2, 3, 1, 0, 2]
    assert all(module.training for module in supernet.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())
    assert not any(module._forward_pre_hooks for module in supernet.modules())
    assert {buffer.device.type for buffer in first.buffers()} == {"cpu"}
    assert not first.state_dict()
    second = tabulate(supernet, (32, 32))
    assert all((new.costs < old.costs).any() for new, old in zip(second.terms, first.terms, strict=True))


def test_a_whole_network_counts_its_box_head_once_a_proposal(small_space):
    """In what no choice has a part in, and so within every limit."""
    build = partial(FasterRCNN, num_classes=2, fpn_channels=8, box_width=8, test_proposals=30)
    network = build(build_supernet(small_space, [2, 3]))
    for quantity in ("madds", "params"):
        table = tabulate(network, (64, 64), quantity)
        for path in (table.cheapest(), [size - 1 for size in table.sizes]):
            (architecture,) = Choices(network).derive(path).values()
            cost = count(build(build_backbone(architecture, [2, 3])), (64, 64))
            assert table.of(path) == getattr(cost, quantity)
            assert cost.shares[0].number == 30
