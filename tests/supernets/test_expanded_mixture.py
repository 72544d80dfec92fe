"""The expanded map of a layer that is searched."""

import math

import pytest
import torch

from fna_lightning.backbones import build_backbone
from fna_lightning.choices import Choices
from fna_lightning.errors import ConfigError
from fna_lightning.remapping import remap
from fna_lightning.supernets import MobileSpace, build_supernet

NAMES = ("k3_e3", "k5_e3", "k7_e3")


@pytest.fixture
def space(small):
    """Two layers of stage 3 are searched, the first among blocks of one expansion."""
    return MobileSpace(small, {2: 2, 3: 2}, ("k3_e2", "k3_e3", "k5_e3"), first_candidates={3: NAMES})


@pytest.fixture
def search(space, searched):
    return searched(build_supernet(space, ("3.expand", 4)), temperature=0.9).set_alphas(1.0)


@pytest.fixture
def supernet(search):
    return search.network


def hooked(supernet):
    """Per candidate of stage 3's first layer, what it is given and what its expansion and its end return."""
    seen = {name: [] for name in NAMES}
    for name, candidate in supernet.stages[3][0].candidates.items():
        candidate.expand.register_forward_hook(lambda *given, name=name: seen[name].append(given[-1]))
        candidate.project.register_forward_hook(lambda *given, name=name: seen[name].append(given[-1]))
    return seen


def test_the_mixture_by_hand(search, supernet):
    seen, given = hooked(supernet), []
    supernet.stages[3][1].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    search.set_mixture()
    maps = supernet(torch.randn(2, 3, 48, 32))
    exponentials = [math.exp(value / 0.9) for value in search.alphas[2].tolist()]
    weights = [value / sum(exponentials) for value in exponentials]
    assert [len(calls) for calls in seen.values()] == [2, 2, 2]  # nothing is computed twice
    expanded = sum(w * seen[name][0] for w, name in zip(weights, NAMES, strict=True))
    output = sum(w * seen[name][1] for w, name in zip(weights, NAMES, strict=True))
    torch.testing.assert_close(maps["3.expand"], expanded)
    torch.testing.assert_close(given[0], output)
    assert maps["3.expand"].shape == (2, 24, 12, 8)
    assert supernet.out_channels == {"3.expand": 24, "4": 1280}
    assert supernet.strides == {"3.expand": 4, "4": 8}


def test_the_expanded_map_trains_alpha(search, supernet):
    search.set_mixture()
    supernet(torch.randn(2, 3, 32, 32))["3.expand"].square().sum().backward()
    moved = [alpha.grad is not None and alpha.grad.abs().max() > 0 for alpha in search.alphas]
    assert moved == [True, True, True, False]  # the last layer lies behind the map


@pytest.mark.parametrize("index", range(3))
def test_a_path_is_the_candidate_alone(search, supernet, index):
    seen = hooked(supernet)
    search.choices.set_path([0, 1, index, 3])
    maps = supernet(torch.randn(2, 3, 32, 32))
    assert [len(calls) for calls in seen.values()] == [2 * (number == index) for number in range(3)]
    assert torch.equal(maps["3.expand"], seen[NAMES[index]][0])


@torch.no_grad()
def test_a_derived_network_has_the_paths_maps(search, supernet):
    """Derive, remap, and compare on batch statistics, the last 1x1 included."""
    for alpha, index in zip(search.alphas, [1, 3, 2, 0], strict=True):
        alpha.zero_()[index] = 1
    path = search.best_path()
    assert path == [1, 3, 2, 0]
    search.choices.set_path(path)
    target = build_backbone(search.choices.derive(path)["backbone"], ("3.expand", 4))
    report = remap(None, target, supernet_state=supernet.state_dict())
    images = torch.randn(3, 3, 48, 64)
    expected, maps = supernet.train()(images), target.train()(images)
    assert list(maps) == ["3.expand", "4"]
    for name, feature in maps.items():
        torch.testing.assert_close(feature, expected[name])
    sources = {entry.target: entry.source for entry in report.entries}
    assert sources["stages.3.0.expand.conv.weight"] == "stages.3.0.candidates.k7_e3.expand.conv.weight"
    assert sources["stages.4.norm.running_var"] == "stages.4.norm.running_var"


@pytest.mark.parametrize(
    ("settings", "mend"),
    [
        ({}, r"expansions \[2, 3\]: give space\.first_candidates=\{3: \[k3_e3, k5_e3\]\}"),
        (
            {"first_candidates": {3: ("k3_e1", "k7_e4")}},
            r"\[1, 4\]: give space\.first_candidates=\{3: \[k7_e4\]\}",
        ),
        ({"first_candidates": {3: ("k3_e1", "k5_e1")}}, "the first layer of stage 3 does not expand its input"),
    ],
)
def test_candidates_of_several_expansions(small, settings, mend):
    space = MobileSpace(small, {3: 2}, ("k3_e2", "k3_e3", "k5_e3"), **settings)
    with pytest.raises(ConfigError, match=mend) as error:
        build_supernet(space, ("3.expand", 3))
    assert "\n" not in str(error.value)


def test_a_stage_that_is_not_searched(small):
    supernet = build_supernet(MobileSpace(small, {2: 2}, NAMES), ("3.expand", 3))
    seen = []
    supernet.stages[3][0].expand.register_forward_hook(lambda *given: seen.append(given[-1]))
    Choices(supernet).set_path([0, 0])
    maps = supernet(torch.randn(2, 3, 32, 32))
    assert torch.equal(maps["3.expand"], seen[0])
    assert maps["3"].shape == (2, 10, 4, 4)


def test_ssdlites_supernet(ssdlite_space):
    with torch.device("meta"):
        supernet = build_supernet(ssdlite_space, ("6.expand", 8))
        choices = Choices(supernet)
        choices.set_mixture([torch.ones(size) for size in choices.sizes])
        maps = supernet(torch.empty(2, 3, 320, 320))
    assert {name: tuple(value.shape) for name, value in maps.items()} == {
        "6.expand": (2, 576, 20, 20),
        "8": (2, 1280, 10, 10),
    }
