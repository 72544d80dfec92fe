"""NAA's larger space, with kernels and expansions of 9: read, counted, derived and remapped."""

import math

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from fna_lightning.architectures import load_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.checkpoints import Seed
from fna_lightning.choices import Choices
from fna_lightning.costs import count, tabulate
from fna_lightning.files import CONF_DIR
from fna_lightning.remapping import remap
from fna_lightning.supernets import MobileSpace, build_supernet

SIZE = (64, 96)


@pytest.fixture(scope="module")
def space(mobilenet):
    """As conf/space/mobile_s12.yaml has it, which is conf/space/mobile.yaml with other candidates."""
    plain, larger = (OmegaConf.load(CONF_DIR / "space" / f"{name}.yaml") for name in ("mobile", "mobile_s12"))
    return instantiate(OmegaConf.merge(plain, {"candidates": larger.candidates}))(base=mobilenet)


@pytest.fixture(scope="module")
def supernet(space):
    with torch.device("meta"):
        return build_supernet(space, (3, 5, 7))


def test_as_many_networks_as_the_paper_has(supernet):
    sizes = Choices(supernet).sizes
    assert (sizes.count(12), sizes.count(13)) == (6, 15)
    assert math.prod(sizes) == pytest.approx(1.5e23, rel=0.05)


def test_what_was_found_in_it_is_a_path(supernet, space):
    """The network that the release found there."""
    found = load_architecture("naa_retinanet_r3")
    derived = supernet.architecture_of(supernet.path_of(found))
    assert [stage.operations for stage in derived.stages] == [stage.operations for stage in found.stages]
    with torch.device("meta"):
        smaller = build_supernet(MobileSpace(space.base, space.depths), (3, 5, 7))
    assert smaller.path_of(found) is None


def test_costs_are_those_of_the_derived_network(small, space):
    supernet = build_supernet(MobileSpace(small, {2: 2, 3: 1}, space.candidates), (3,))
    table = tabulate(supernet, SIZE)
    for path in (
        [11, 12, 9],
        [2, 9, 10],
        [8, 11, 11],
    ):  # k9_e9, skip, k9_e3; k3_e9, k9_e3, k9_e6; k7_e9, k9_e9 twice
        assert table.of(path) == count(build_backbone(supernet.architecture_of(path), (3,)), SIZE).madds


@torch.no_grad()
def test_the_seed_in_an_operation_of_nine(small, randomise):
    """Its kernel in the middle, its hidden channels before new ones of zero: the block computes the seed's."""
    seed = Seed(small, randomise(build_backbone(small, (3,))).state_dict(), "seed.pth")
    supernet = build_supernet(MobileSpace(small, {3: 2}, ("k3_e3", "k9_e9")), (3,))
    remap(seed, supernet, "fna")
    for layer in (0, 1):
        block = supernet.stages[3][layer].candidates["k9_e9"]
        hidden = block.depthwise.conv.out_channels // 3
        depthwise = block.depthwise.conv.weight
        assert torch.equal(depthwise[:hidden, :, 3:6, 3:6], seed.state[f"stages.3.{layer}.depthwise.conv.weight"])
        assert depthwise.count_nonzero() == hidden * 9
        assert torch.equal(block.expand.conv.weight[:hidden], seed.state[f"stages.3.{layer}.expand.conv.weight"])
        assert not block.expand.conv.weight[hidden:].any()
        assert not block.project.conv.weight[:, hidden:].any()
    images = torch.randn(2, 3, 32, 48)
    choices = Choices(supernet)
    maps = []
    for path in ([0, 0], [1, 1]):
        choices.set_path(path)
        maps.append(supernet(images)["3"])
    torch.testing.assert_close(maps[0], maps[1])
