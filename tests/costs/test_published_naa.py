"""Multiply-adds and parameters of the networks of NAA's release, to the printed digit (spec NAA 5.3 and 5.4)."""

from functools import cache

import pytest
import torch

from fna_lightning.architectures import load_architecture, maps_at
from fna_lightning.backbones import Classifier, build_backbone
from fna_lightning.costs import count
from fna_lightning.detectors import YOLOF, RetinaNet, SSDLite

SIZES = {RetinaNet: (800, 1088), YOLOF: (800, 1088), SSDLite: (320, 320)}
STRIDES = {RetinaNet: [8, 16, 32], YOLOF: ["head"], SSDLite: ["16.expand", "head"]}
# Layers of blocks 2 to 7 in the order in which they were found, as kernel and expansion.
FOUND = {
    "mobilenet_v2": "36 36 | 36 36 36 | 36 36 36 36 | 36 36 36 | 36 36 36 | 36",
    "naa_retinanet": "56 - - 36 | 76 - 36 36 | 76 56 36 36 | 36 - - 76 | 76 76 76 76 | 76",
    "naa_retinanet_r2": "76 - - 36 | 76 56 56 36 | 56 56 76 36 | 36 - - 76 | 76 76 76 76 | 76",
    "naa_retinanet_r3": "56 - 56 56 | 76 - - 39 | 36 79 56 56 | 36 - - - | 76 96 96 93 | 96",
    "naa_yolof_y1": "33 - - - | 36 - 73 73 | 73 33 53 33 | 33 - - - | 76 53 - - | 33",
    "naa_yolof_y2": "56 - - - | 36 76 - - | 76 76 33 56 | 36 - - 53 | 73 - - 53 | 33",
    "naa_yolof": "56 - - 33 | 36 76 - 76 | 76 76 76 56 | 56 - - 73 | 76 73 73 53 | 33",
    "naa_ssdlite": "56 - 36 36 | 56 76 56 76 | 36 - 36 36 | 36 36 36 36 | 36 76 73 73 | 33",
}


@cache
def network_of(detector, name, classes=80):
    architecture = load_architecture(name)
    with torch.device("meta"):
        backbone = build_backbone(architecture, maps_at(architecture.levels(), STRIDES[detector]))
        return detector(backbone, classes).to("meta")


def printed(madds, params, digits):
    """Billions of multiply-adds and millions of parameters."""
    return tuple(round(value, places) for value, places in zip((madds / 1e9, params / 1e6), digits, strict=True))


def params_of(*modules):
    return sum(tensor.numel() for module in modules for tensor in module.parameters())


@pytest.mark.parametrize("name", FOUND)
def test_layers(name):
    architecture = load_architecture(name)
    assert architecture.head_width == (2048 if name == "naa_yolof_y1" else 1280)
    stages = [
        " ".join("-" if layer is None else f"{layer.kernel}{layer.expansion}" for layer in stage.layers)
        for stage in architecture.stages
    ]
    assert stages == ["31", *FOUND[name].split(" | ")]
    assert architecture.widths[:-1] == (32, 16, 24, 32, 64, 96, 160, 320)
    assert architecture.strides == (2, 1, 2, 2, 2, 1, 2, 1, 1)


@pytest.mark.parametrize(
    ("detector", "name", "backbone", "whole"),
    [
        (RetinaNet, "mobilenet_v2", (4.847, 1.812), (133.05, 11.49)),
        (RetinaNet, "fna_retinanet", (4.823, 2.056), (133.03, 11.73)),
        (RetinaNet, "naa_retinanet", (5.159, 2.234), (133.37, 11.91)),
        (RetinaNet, "naa_retinanet_r2", (5.595, 2.268), (133.80, 11.94)),
        (RetinaNet, "naa_retinanet_r3", (5.393, 2.076), (133.60, 11.75)),
        (RetinaNet, "naa_densenas", (4.549, 1.835), (132.89, 11.69)),
        (RetinaNet, "naa_densenas_c", (5.577, 3.383), (133.91, 13.24)),
        (YOLOF, "naa_yolof_y1", (2.834, 1.412), (20.38, 22.06)),
        (YOLOF, "naa_yolof_y2", (3.460, 1.264), (20.67, 21.52)),
        (YOLOF, "naa_yolof", (4.611, 1.794), (21.82, 22.05)),
        (YOLOF, "mobilenet_v2", (5.195, 2.224), (22.40, 22.48)),
    ],
)
def test_at_800x1088(detector, name, backbone, whole):
    network = network_of(detector, name)
    parts = count(network.backbone, SIZES[detector])
    assert printed(parts.madds, parts.params, (3, 3)) == backbone
    cost = count(network, SIZES[detector])
    assert printed(cost.madds, cost.params, (2, 2)) == whole


@pytest.mark.parametrize(
    ("name", "backbone", "whole"),
    [
        ("naa_ssdlite", (0.777, 2.831), (0.936, 4.27)),
        ("fna_ssdlite", (0.722, 3.188), (0.880, 4.63)),
        ("mobilenet_v2", (0.650, 2.881), (0.808, 4.32)),
    ],
)
def test_ssdlite(name, backbone, whole):
    """The release's backbone has the extra layers in it; what remains is the head, whose cost is FNA's."""
    network = network_of(SSDLite, name)
    cost = count(network, SIZES[SSDLite])
    assert printed(cost.madds, cost.params, (3, 2)) == whole
    head = count(network_of(SSDLite, "fna_ssdlite"), SIZES[SSDLite]).madds - 721_878_976  # as published
    assert printed(cost.madds - head, params_of(network.backbone, network.extras), (3, 3)) == backbone


@pytest.mark.parametrize(("name", "encoder"), [("naa_yolof", (3.51, 4.14)), ("naa_yolof_y1", (3.84, 4.53))])
def test_parts_of_yolof(name, encoder):
    """On maps of 25 x 34, which together with the backbone make up the whole."""
    network = network_of(YOLOF, name)
    neck = count(_Given(network.encoder, network.encoder.project[0][0].in_channels), SIZES[YOLOF])
    head = count(_Given(network.head, 512), SIZES[YOLOF])
    assert printed(neck.madds, neck.params, (2, 2)) == encoder
    assert printed(head.madds, head.params, (2, 2)) == (13.70, 16.12)
    backbone, whole = count(network.backbone, SIZES[YOLOF]), count(network, SIZES[YOLOF])
    assert backbone.madds + neck.madds + head.madds == whole.madds
    assert backbone.params + neck.params + head.params == whole.params


class _Given(torch.nn.Module):
    """A part, run on the last map of as many channels."""

    def __init__(self, part, channels):
        super().__init__()
        self.part, self.channels = part, channels

    def forward(self, images):
        return self.part(images.new_empty(len(images), self.channels, 25, 34))


def test_densenas_c():
    """With tail and classifier at 224x224: 361 M as published."""
    architecture = load_architecture("naa_densenas_c")
    assert architecture.levels()[-1].channels == 1984
    with torch.device("meta"):
        network = Classifier(build_backbone(architecture, maps_at(architecture.levels(), ["head"])), 1000)
    assert round(count(network, (224, 224)).madds / 1e6, 1) == 360.8


@pytest.mark.parametrize(
    ("name", "maps", "widths"),
    [("naa_densenas", "2 3 5 7", [24, 48, 128, 384]), ("naa_densenas_c", "2 3 5 8", [24, 48, 128, 384])],
)
def test_maps_of_densenas(name, maps, widths):
    levels = load_architecture(name).levels()
    assert maps_at(levels, [4, 8, 16, 32]) == tuple(maps.split())
    assert [level.channels for level in levels if level.name in maps.split()] == widths
    with torch.device("meta"):
        stages = build_backbone(load_architecture(name)).stages
    assert [stage[0].residual for stage in stages[1:]] == [True] + [False] * (
        len(stages) - 2
    )  # 16 -> 16 comes first
