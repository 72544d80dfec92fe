"""Channels of stages as a choice (spec NAA 8): slices, masks and built networks are one function."""

import pytest
import torch
from torch import nn

from fna_lightning.architectures import load_architecture, parse_architecture
from fna_lightning.backbones import Classifier, build_backbone
from fna_lightning.choices import Choices
from fna_lightning.costs import count, tabulate
from fna_lightning.detectors import FCOS, FasterRCNN, RetinaNet, SSDLite
from fna_lightning.errors import ConfigError
from fna_lightning.remapping import remap
from fna_lightning.segmenters import DeepLabV3, DeepLabV3Plus
from fna_lightning.supernets import MobileSpace, build_supernet, follow_widths

BASE = load_architecture("mobile_small")
SPACE = MobileSpace(
    BASE,
    {2: 2, 3: 1, 4: 1, 5: 2, 6: 1, 7: 1},
    ("k3_e6", "k5_e3"),
    first_candidates={6: ("k3_e6", "k5_e6")},
    norms="kept",
    widths={2: (8, 16, 24), 3: (16, 24), 4: (24, 32, 48), 5: (32, 48)},
    width_multipliers=(0.75, 1, 1.25),
)
NETWORKS = {
    "retinanet": (RetinaNet, (3, 5, 7), None, 64),
    "ssdlite": (SSDLite, ("6.expand", 8), None, 256),
    "fcos": (FCOS, (3, 5, 7), None, 64),
    "faster_rcnn": (FasterRCNN, (2, 3, 5, 7), None, 64),
    "deeplabv3": (DeepLabV3, (7,), 16, 64),
    "deeplabv3plus": (DeepLabV3Plus, (2, 7), 16, 64),
    "classifier": (Classifier, (7,), None, 64),
}


def trained_around(build, backbone, randomise):
    network = build(backbone, 3)
    follow_widths(network)
    for module in network.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0
    return randomise(network).double().train()  # norms of small maps magnify what is rounded


def output_of(network, images):
    """Everything that a network gives for these pictures, in a row."""
    found = network(images)
    values = [found] if isinstance(found, torch.Tensor) else found
    return torch.cat([value.flatten() for value in values if torch.is_tensor(value)])


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "faster_rcnn"])
@torch.no_grad()
def test_slices_masks_and_the_built_network_are_one_function(name, randomise):
    """Of whole networks, whose necks and heads follow (spec NAA 8.6, point 6)."""
    build, maps, output_stride, side = NETWORKS[name]
    searched = trained_around(build, build_supernet(SPACE, maps, output_stride=output_stride), randomise)
    choices = Choices(searched)
    images = 255 * torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for number in range(2):
        path = choices.draw(3, number)
        derived = choices.derive(path)["backbone"]
        built = trained_around(build, build_backbone(derived, maps, output_stride=output_stride), randomise)
        around = {key: value for key, value in searched.state_dict().items() if not key.startswith("backbone.")}
        own = built.state_dict()
        first = {key: value[tuple(map(slice, own[key].shape))] for key, value in around.items()}
        built.load_state_dict(first, strict=False)
        remap(None, built.backbone, supernet_state=searched.backbone.state_dict())
        choices.set_path(path)
        expected = output_of(built, images)
        torch.testing.assert_close(output_of(searched, images), expected)
        choices.set_mixture([torch.eye(size)[index] for size, index in zip(choices.sizes, path, strict=True)])
        torch.testing.assert_close(output_of(searched, images), expected)


@pytest.mark.parametrize("name", ["ssdlite", "faster_rcnn"])
@pytest.mark.parametrize("quantity", ["madds", "params"])
def test_costs_are_those_of_the_derived_network(name, quantity):
    build, maps, output_stride, side = NETWORKS[name]
    searched = build(build_supernet(SPACE, maps, output_stride=output_stride), 3)
    follow_widths(searched)
    table, choices = tabulate(searched, (side, side), quantity), Choices(searched)
    for number in range(3):
        path = choices.draw(5, number)
        backbone = build_backbone(choices.derive(path)["backbone"], maps, output_stride=output_stride)
        assert table.of(path) == getattr(count(build(backbone, 3), (side, side)), quantity)


def test_one_width_is_no_choice():
    """It equals FNA exactly, also where it is another than the base's."""
    depths, text = {2: 2, 3: 1}, "[[8, 8], ['k3_e1'], 1]|[[8, 16], ['k3_e6'], 2]|[[16, 24], ['k3_e6'], 2]"
    plain = MobileSpace(parse_architecture(text), depths, ("k3_e6",))
    other = MobileSpace(parse_architecture(text.replace("16", "32")), depths, ("k3_e6",), widths={2: [16]})
    first, second = build_supernet(plain, (3,)), build_supernet(other, (3,))
    assert {k: v.shape for k, v in first.state_dict().items()} == {
        k: v.shape for k, v in second.state_dict().items()
    }
    assert Choices(first).names == Choices(second).names


def test_paths_of_networks():
    supernet = build_supernet(SPACE, (3, 5, 7))
    choices = Choices(supernet)
    assert choices.names[:6] == tuple(f"widths.{number}" for number in range(2, 8))
    for number in range(20):
        found = choices.derive(choices.draw(2, number))["backbone"]
        again = supernet.path_of(found)
        assert again is not None
        assert choices.derive(again)["backbone"].widths == found.widths
    assert supernet.path_of(load_architecture("mobilenet_v2")) is None


def test_equal_widths_make_no_residual():
    """Stages 4 and 5 may come out equal (spec NAA, quirk 5)."""
    supernet = build_supernet(SPACE, (3, 5, 7))
    path = [0] * len(Choices(supernet))
    path[2], path[3] = 1, 0  # 32 channels each
    found = supernet.architecture_of(path)
    assert found.widths[4] == found.widths[5] == 32
    assert not found.stages[4].residual
    assert parse_architecture(str(found)) == found


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"widths": {2: []}}, "widths of stage 2 are .*: give one or more, ascending"),
        ({"widths": {2: [16, 8]}}, "ascending, each once"),
        ({"widths": {2: [4, 8]}}, "4 is no multiple of width_divisor=8"),
        ({"widths": {2: [12]}}, "12 is no multiple of width_divisor=8"),
        ({"widths": {1: [16]}}, "widths of stage 1, which is not searched"),
        ({"width_multipliers": [1, 0]}, "width_multipliers=.*: give positive numbers"),
        ({"width_multipliers": [1], "width_divisor": 0}, "width_divisor=0"),
        ({"depths": {1: 1, 2: 1}, "widths": {1: [8, 16]}}, "widths of stage 1 break the residual"),
    ],
)
def test_widths_that_cannot_be(settings, complaint):
    base = parse_architecture("[[8, 8], ['k3_e1'], 1]|[[8, 16], ['k3_e6'], 2]")
    with pytest.raises(ConfigError, match=complaint):
        MobileSpace(base, **{"depths": {2: 1}, **settings})
