"""Networks as SSDLite reads them: the last 1x1 convolution, and a map inside stage 6."""

import copy

import pytest
import torch

from fna_lightning.architectures import load_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.checkpoints import Seed
from fna_lightning.choices import Choices
from fna_lightning.errors import CheckpointError
from fna_lightning.remapping import remap
from fna_lightning.supernets import build_supernet

MAPS = ("6.expand", 8)


@pytest.fixture(scope="module")
def seed(mobilenet, randomise):
    network = randomise(build_backbone(mobilenet, (8,)))
    return Seed(mobilenet, copy.deepcopy(network.state_dict()), "random.pth")


@torch.no_grad()
def test_the_seed_itself(seed, mobilenet):
    plain, exposed = build_backbone(mobilenet, (8,)).eval(), build_backbone(mobilenet, MAPS).eval()
    assert {entry.how for entry in remap(seed, exposed).entries} == {"copied"}
    remap(seed, plain)
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(exposed(images)["8"], plain(images)["8"])


@torch.no_grad()
def test_round_trip_through_the_supernet(seed, ssdlite_space):
    """Seed to supernet, search (here: set) to the published network, and to it from the supernet and the seed."""
    supernet = build_supernet(ssdlite_space, MAPS)
    remap(seed, supernet)
    for part in ("conv.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"):
        assert torch.equal(supernet.state_dict()[f"stages.8.{part}"], seed.state[f"stages.8.{part}"])
    for name in ("k3_e6", "k5_e6", "k7_e6"):  # which differ behind the expansion alone
        weight = supernet.state_dict()[f"stages.6.0.candidates.{name}.expand.conv.weight"]
        assert torch.equal(weight, seed.state["stages.6.0.expand.conv.weight"])

    published = load_architecture("fna_ssdlite")
    layers = [str(layer or "skip") for stage in published.stages[1:] for layer in stage.layers]
    choices = Choices(supernet)
    path = [choice.names.index(name) for choice, name in zip(choices, layers, strict=True)]
    assert choices.derive(path) == {"backbone": published}

    target = build_backbone(published, MAPS)
    report = remap(seed, target, supernet_state=supernet.state_dict())
    assert "own initialisation" not in {entry.how for entry in report.entries}
    straight = build_backbone(published, MAPS)
    remap(seed, straight)
    # Nothing was trained in between, so both ways lead to the same network.
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, straight.state_dict()[name]), name


def test_a_seed_without_the_last_convolution(seed, mobilenet):
    state = {name: tensor for name, tensor in seed.state.items() if not name.startswith("stages.8.")}
    with pytest.raises(CheckpointError, match=r"short\.pth: lacks the tensor stages\.8\.conv\.weight"):
        remap(Seed(mobilenet, state, "short.pth"), build_backbone(mobilenet, MAPS))
