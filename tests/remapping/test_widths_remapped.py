"""Parameters over channel widths: growth that learns, one order for a whole stream (spec NAA 3.4, 8.4)."""

import pytest
import torch

from fna_lightning.architectures import load_architecture, parse_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.checkpoints import Seed
from fna_lightning.choices import Choices
from fna_lightning.errors import ConfigError
from fna_lightning.remapping import remap
from fna_lightning.supernets import MobileSpace, build_supernet

TEXT = "[[8, 8], ['k3_e1'], 1]|[[8, 12], ['k3_e6', 'k3_e6'], 2]|[[12, 16], ['k3_e6', 'k3_e6'], 2]"
WIDE = "[[8, 8], ['k3_e1'], 1]|[[8, 20], ['k3_e9', 'k5_e6'], 2]|[[20, 16], ['k3_e6', 'k7_e9'], 2]"
MAPS = (3,)


@pytest.fixture
def seed(randomise):
    architecture = parse_architecture(TEXT)
    return Seed(architecture, randomise(build_backbone(architecture, (1, 2, 3, 4))).state_dict())


@pytest.fixture
def images():
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def network_of(seed):
    network = build_backbone(seed.architecture, MAPS)
    network.load_state_dict({name: seed.state[name] for name in network.state_dict()})
    return network


def gradients(network, images):
    network.train()(images)["3"].square().sum().backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("strategy", ["fna", "width_bn", "width_l1", "preserving"])
def test_growth_by_copies_keeps_the_function_and_learns(seed, images, strategy):
    """Of kernels, expansions and channels of a stage; copies learn apart from one another."""
    target = build_backbone(parse_architecture(WIDE), MAPS)
    report = remap(seed, target, strategy, grow="duplicate")
    torch.testing.assert_close(
        target.eval()(images)["3"], network_of(seed).eval()(images)["3"], rtol=1e-4, atol=1e-5
    )
    assert not any(entry.dead for entry in report.entries)
    found = {name: each for name, each in gradients(target, images).items() if each.dim() > 1}
    for name, gradient in found.items():
        assert (gradient.flatten(2).abs().amax(dim=2) > 0).all(), name
    rows = target.get_parameter("stages.2.0.project.conv.weight").grad.flatten(1)
    assert torch.cdist(rows, rows).add(torch.eye(20)).min() > 1e-6


@pytest.mark.parametrize(("grow", "dead"), [(None, True), ("zero", True), ("duplicate", False), ("random", False)])
def test_what_is_dead_is_reported(seed, images, grow, dead):
    """As published, new channels between remapped layers get no gradient at all (spec NAA 3.4)."""
    target = build_backbone(parse_architecture(WIDE), MAPS)
    report = remap(seed, target, "fna", grow=grow)
    found = {entry.target: entry.dead for entry in report.entries if entry.dead}
    assert ("never learn" in str(report)) == bool(found) == dead
    grads = gradients(target, images)
    for name, gradient in grads.items():
        if name.endswith("conv.weight") and "depthwise" not in name:
            still = int((gradient.flatten(1).abs().amax(dim=1) == 0).sum())
            assert still == found.get(name, 0) or "project" in name, name
    if dead:
        assert found["stages.2.0.expand.conv.weight"] == 3 * 8
        assert found["stages.2.0.project.conv.weight"] == 20 - 12


@pytest.mark.parametrize("strategy", ["fna", "width_bn", "preserving"])
def test_the_seeds_path_in_a_supernet_of_widths_is_the_seed(seed, images, strategy):
    space = MobileSpace(
        seed.architecture,
        {2: 2, 3: 2},
        ("k3_e6", "k5_e6", "k3_e9"),
        norms="kept",
        widths={2: (8, 12, 16), 3: (16, 24)},
        width_divisor=4,
    )
    supernet = build_supernet(space, MAPS)
    remap(seed, supernet, strategy, grow="duplicate")
    choices = Choices(supernet)
    path = supernet.path_of(seed.architecture)
    choices.set_path(path)
    found, expected = supernet.eval()(images)["3"], network_of(seed).eval()(images)["3"]
    # The channels of the stage come in another order where they are ranked.
    order, expected_order = (maps.sum((0, 2, 3)).argsort() for maps in (found, expected))
    torch.testing.assert_close(found[:, order], expected[:, expected_order], rtol=1e-4, atol=1e-4)
    wider = [*path]
    wider[0] = 2
    choices.set_path(wider)
    torch.testing.assert_close(supernet(images)["3"], found, rtol=1e-4, atol=1e-4)
    supernet.train()(images)["3"].square().sum().backward()
    first = supernet.get_parameter("stages.3.0.candidates.k3_e6.expand.conv.weight").grad
    assert (first[:96].flatten(1).abs().amax(dim=0) > 0).all(), "what reads new channels learns at once"


def test_narrow_prefixes_keep_what_is_important(seed):
    """The channels of a searched stage are in the order of their norms' scales, over all that write them."""
    space = MobileSpace(seed.architecture, {2: 2}, ("k3_e6",), norms="kept", widths={2: (8, 12)}, width_divisor=4)
    supernet = build_supernet(space, MAPS)
    remap(seed, supernet, "width_bn")
    state = supernet.state_dict()
    layers = ("stages.2.0.candidates.k3_e6", "stages.2.1.candidates.k3_e6")
    worth = sum(state[f"{layer}.project.norm.weight"].abs() for layer in layers)
    assert torch.equal(worth, worth.sort(descending=True).values)


def test_another_seeds_widths(randomise):
    """A seed of width 0.5 in the supernet and in a network of the full width."""
    full = load_architecture("mobile_small")
    data = full.to_dict()
    data["stem_width"] = 8
    for stage in data["stages"]:
        stage["width"] //= 2
    half = type(full).from_dict(data)
    seed = Seed(half, randomise(build_backbone(half, (7, 8))).state_dict())
    target = build_backbone(full, (7,))
    remap(seed, target, "preserving")
    images = torch.rand(2, 3, 64, 64)
    old = build_backbone(half, (7,))
    old.load_state_dict({name: seed.state[name] for name in old.state_dict()})
    found = target.eval()(images)["7"]
    torch.testing.assert_close(found[:, :48], old.eval()(images)["7"], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found[:, 48:], found[:, :48])


def test_a_growth_that_is_none(seed):
    with pytest.raises(ConfigError, match=r"remap\.grow=copies: give one of zero, duplicate, random"):
        remap(seed, build_backbone(seed.architecture, MAPS), grow="copies")
