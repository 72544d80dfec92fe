import copy
import re

import pytest
import torch

from fna_lightning.backbones import build_backbone
from fna_lightning.checkpoints import Seed
from fna_lightning.choices import Choices
from fna_lightning.errors import CheckpointError
from fna_lightning.remapping import remap
from fna_lightning.supernets import build_supernet

PATH = [2, 3, 0, 1, 2]


@pytest.fixture
def supernet(small_space, randomise):
    supernet = build_supernet(small_space, (2, 3))
    randomise(supernet)
    with torch.no_grad():
        for module in supernet.modules():
            if isinstance(module, torch.nn.BatchNorm2d) and module.affine:
                module.weight.fill_(1)
                module.bias.fill_(0)
    return supernet


@torch.no_grad()
def test_a_derived_network_computes_what_the_path_computed(supernet):
    """On batch statistics: the supernet keeps no others in its searched layers."""
    Choices(supernet).set_path(PATH)
    target = build_backbone(supernet.architecture_of(PATH), (2, 3))
    report = remap(None, target, supernet_state=supernet.state_dict())
    images = torch.randn(4, 3, 48, 64)
    expected, got = supernet.train()(images), target.train()(images)
    assert list(got) == ["2", "3"]
    for name, feature in got.items():
        torch.testing.assert_close(feature, expected[name])
    hows = {entry.target: entry.how for entry in report.entries}
    assert hows["stages.2.2.depthwise.conv.weight"] == "copied"
    assert hows["stages.2.2.depthwise.norm.weight"] == "own initialisation"
    sources = {entry.target: entry.source for entry in report.entries}
    assert sources["stages.3.0.project.conv.weight"] == "stages.3.0.candidates.k3_e3.project.conv.weight"


def test_synchronised_norms_may_be_lacking_too(supernet):
    target = torch.nn.SyncBatchNorm.convert_sync_batchnorm(build_backbone(supernet.architecture_of(PATH), (3,)))
    report = remap(None, target, supernet_state=supernet.state_dict())
    assert {entry.how for entry in report.entries if ".norm." in entry.target} == {"copied", "own initialisation"}


def test_norms_come_from_the_seed_where_both_are_given(supernet, small, randomise):
    network = randomise(build_backbone(small, (3,)), seed=9)
    seed = Seed(small, copy.deepcopy(network.state_dict()), "seed.pth")
    target = build_backbone(supernet.architecture_of(PATH), (3,))
    report = remap(seed, target, supernet_state=supernet.state_dict())
    state, trained = target.state_dict(), supernet.state_dict()
    assert torch.equal(
        state["stages.3.1.expand.conv.weight"], trained["stages.3.1.candidates.k5_e3.expand.conv.weight"]
    )
    assert torch.equal(state["stages.3.1.expand.norm.weight"], seed.state["stages.3.1.expand.norm.weight"])
    assert torch.equal(
        state["stages.3.1.expand.norm.running_var"], seed.state["stages.3.1.expand.norm.running_var"]
    )
    # Layers that are not searched are the supernet's whole, as it went on training them.
    assert torch.equal(state["stages.0.norm.running_mean"], trained["stages.0.norm.running_mean"])
    assert torch.equal(state["stages.1.0.project.conv.weight"], trained["stages.1.0.project.conv.weight"])
    assert not any(entry.how == "own initialisation" for entry in report.entries)


def test_a_network_that_was_not_found_in_the_supernet(supernet, small):
    target = build_backbone(small, (3,))
    before = copy.deepcopy(target.state_dict())
    with pytest.raises(CheckpointError, match=re.escape("stages.3.2.candidates.k3_e3.expand.conv.weight")):
        remap(None, target, supernet_state=supernet.state_dict())
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


def test_a_supernet_of_another_shape(supernet):
    target = build_backbone(supernet.architecture_of(PATH), (3,))
    state = {**supernet.state_dict(), "stages.3.1.candidates.k5_e3.project.conv.weight": torch.zeros(9, 30, 1, 1)}
    with pytest.raises(CheckpointError, match=r"stages\.3\.1\.candidates\.k5_e3\.project\.conv\.weight.*\(9, 30"):
        remap(None, target, supernet_state=state)


def test_the_supernets_tensors_are_copied(supernet):
    target = build_backbone(supernet.architecture_of(PATH), (3,))
    remap(None, target, supernet_state=supernet.state_dict())
    before = supernet.stages[0].conv.weight.detach().clone()
    with torch.no_grad():
        target.stages[0].conv.weight.zero_()
    assert torch.equal(supernet.stages[0].conv.weight, before)
