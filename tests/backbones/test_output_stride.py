"""A backbone whose strides became dilations, against torchvision's without any."""

import copy
from itertools import product

import pytest
import torch

from fna_lightning.architectures import load_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.checkpoints import load_seed
from fna_lightning.choices import Choices
from fna_lightning.supernets import MobileSpace, build_supernet

# torchvision's features in each stage of FNA.
FEATURES = {4: (7, 11), 5: (11, 14), 6: (14, 17), 7: (17, 18)}


def on_phases(layers, x, rate):
    """What `layers` give on every `rate`-th pixel apart: what a dilated layer does without knowing."""
    y = None
    for phase in product(range(rate), repeat=2):
        place = (..., *(slice(start, None, rate) for start in phase))
        part = layers(x[place])
        y = part.new_empty(*part.shape[:2], *x.shape[-2:]) if y is None else y
        y[place] = part
    return y


@pytest.mark.parametrize(("output_stride", "rates"), [(16, {6: 2, 7: 2}), (8, {4: 2, 5: 2, 6: 4, 7: 4})])
@pytest.mark.parametrize("size", [(128, 192), (101, 150)])
@torch.no_grad()
def test_equals_torchvision_on_phases(torchvision_net, tmp_path, output_stride, rates, size):
    torch.save(torchvision_net.state_dict(), tmp_path / "weights.pth")
    seed = load_seed(tmp_path / "weights.pth")
    backbone = build_backbone(seed.architecture, (3, 4, 5, 6, 7), output_stride=output_stride).eval()
    backbone.load_state_dict(
        {name: value for name, value in seed.state.items() if not name.startswith("stages.8")}
    )
    images = torch.randn(2, 3, *size)
    maps = backbone(images)

    features = copy.deepcopy(torchvision_net.features)
    x = features[: FEATURES[min(rates)][0]](images)
    for number, rate in rates.items():
        first, end = FEATURES[number]
        features[first].conv[1][0].stride = (1, 1)
        x = on_phases(features[first:end], x, rate)
        assert x.std() > 0.01
        torch.testing.assert_close(maps[str(number)], x, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_candidates_equal_plain_ones_on_phases(mobilenet, randomise):
    space = MobileSpace(mobilenet, {6: 2}, ("k3_e3", "k7_e3"))
    dilated = randomise(build_supernet(space, (5, 6), output_stride=16)).eval()
    choices = Choices(dilated)
    choices.set_mixture([torch.full((size,), 1 / size) for size in choices.sizes])
    x = torch.randn(2, 96, 10, 14)
    for layer in dilated.stages[6]:
        for name, candidate in layer.candidates.items():
            if name == "skip":
                continue
            plain = copy.deepcopy(candidate)
            conv = plain.depthwise.conv
            conv.dilation, conv.padding = (1, 1), tuple(side // 2 for side in conv.kernel_size)
            # All phases side by side in the batch, so that the norms without statistics see the same pixels.
            phases = [x[..., i::2, j::2] for i, j in product(range(2), repeat=2)]
            expected = plain(torch.cat(phases)).chunk(4)
            y = candidate(x)
            for (i, j), part in zip(product(range(2), repeat=2), expected, strict=True):
                torch.testing.assert_close(y[..., i::2, j::2], part, rtol=1e-4, atol=1e-4)
        x = layer(x)


def test_published_network_has_the_same_parameters_at_every_stride():
    states = [
        build_backbone(load_architecture("fna_deeplabv3"), (2, 7), output_stride=stride).state_dict()
        for stride in (None, 16, 8)
    ]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    assert shapes[0] == shapes[1] == shapes[2]
