import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models import mobilenet_v2

from fna_lightning.architectures import load_architecture, parse_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.blocks import on_meta
from fna_lightning.costs import Cost, count
from fna_lightning.costs.counter import ParamsMeter

# Networks found by DenseNAS with widths of their own, as NAA's configurations carry them.
DENSENAS = {
    "D1": "[[16, 16], ['k3_e1'], 1]|[[16, 24], ['k3_e6'], 2]|[[24, 48], ['k5_e6', 'k3_e6', 'k3_e6'], 2]|"
    "[[48, 72], ['k3_e6', 'k3_e6', 'k5_e3'], 2]|[[72, 128], ['k3_e6', 'k3_e3'], 1]|"
    "[[128, 192], ['k3_e6', 'k3_e3', 'k3_e3'], 2]|[[192, 384], ['k5_e6'], 1]",
    "D2": "[[16, 16], ['k3_e1'], 1]|[[16, 24], ['k3_e6'], 2]|[[24, 48], ['k7_e6', 'k3_e3'], 2]|"
    "[[48, 72], ['k5_e6', 'k3_e6', 'k3_e3'], 2]|[[72, 128], ['k3_e6', 'k3_e3', 'k3_e3'], 1]|"
    "[[128, 160], ['k3_e6', 'k7_e3', 'k5_e6', 'k7_e3'], 2]|"
    "[[160, 176], ['k3_e3', 'k3_e6', 'k3_e6', 'k3_e6'], 1]|[[176, 384], ['k7_e6'], 1]",
}


@pytest.mark.parametrize(
    ("name", "params", "madds"),
    [("mobilenet_v2", 1_811_712, 4_847_148_800), ("fna_retinanet", 2_055_712, 4_823_403_200)],
)
def test_retinanet_backbones_of_the_paper(name, params, madds):
    assert count(build_backbone(load_architecture(name)), (800, 1088)) == Cost(madds, params)


def test_mobilenet_v2_on_imagenet():
    assert count(mobilenet_v2(), (224, 224)) == Cost(300_774_272, 3_504_872)


class SSDLiteBackbone(nn.Module):
    """Backbone up to the last 1x1 and the four extra layers of the paper's SSDLite."""

    def __init__(self, architecture):
        super().__init__()
        self.backbone = build_backbone(architecture, (8,))
        layers = []
        for wide, narrow, out in ((1280, 256, 512), (512, 128, 256), (256, 128, 256), (256, 64, 128)):
            layers += [
                *(nn.Conv2d(wide, narrow, 1, bias=False), nn.BatchNorm2d(narrow)),
                *(nn.Conv2d(narrow, narrow, 3, 2, 1, groups=narrow, bias=False), nn.BatchNorm2d(narrow)),
                *(nn.Conv2d(narrow, out, 1, bias=False), nn.BatchNorm2d(out)),
            ]
        self.extra = nn.Sequential(*layers)

    def forward(self, images):
        return self.extra(self.backbone(images)["8"])


@pytest.mark.parametrize(
    ("name", "params", "madds"),
    [("mobilenet_v2", 2_880_832, 649_763_776), ("fna_ssdlite", 3_188_160, 721_878_976)],
)
def test_ssdlite_backbones_of_the_paper(name, params, madds):
    assert count(SSDLiteBackbone(load_architecture(name)), (320, 320)) == Cost(madds, params)


@pytest.mark.parametrize(
    ("name", "output_stride", "madds"),
    [
        ("mobilenet_v2", 16, 24.5217),
        ("fna_deeplabv3", 16, 24.1749),
        ("mobilenet_v2", 8, 83.281),
        ("fna_deeplabv3", 8, 79.950),
    ],
)
def test_deeplab_of_the_paper(name, output_stride, madds):
    backbone = build_backbone(load_architecture(name), (7,), output_stride=output_stride)
    pixels = (1024 // output_stride) * (2048 // output_stride)
    # Three 1x1 behind depthwise 3x3 and one without, the 1x1 on all five, the 1x1 on the mean.
    aspp = pixels * (4 * 320 * 256 + 3 * 9 * 320 + 1280 * 256) + 320 * 256
    # 19 classes, with bias.
    classifier = pixels * (256 * 19 + 19)
    total = count(backbone, (1024, 2048)).madds + aspp + classifier
    assert total / 1e9 == pytest.approx(madds, abs=6e-5 if output_stride == 16 else 6e-4)


@pytest.mark.parametrize(("name", "params"), [("mobilenet_v2", 2.5675), ("fna_deeplabv3", 2.4664)])
def test_deeplab_parameters_of_the_paper(name, params):
    backbone = count(build_backbone(load_architecture(name), (7,)), (32, 32)).params
    aspp = 4 * 320 * 256 + 3 * 9 * 320 + 320 * 256 + 1280 * 256 + 6 * 2 * 256 + 3 * 2 * 320 - 320 * 256
    head = aspp + 320 * 256 + 256 * 19 + 19
    assert (backbone + head) / 1e6 == pytest.approx(params, abs=6e-5)


@pytest.mark.parametrize(
    ("name", "out_stages", "gmadds", "mparams"),
    [("D1", (2, 3, 5, 7), 4.549, 1.835), ("D2", (2, 3, 5, 8), 5.577, 3.383)],
)
def test_densenas_networks(name, out_stages, gmadds, mparams):
    backbone = build_backbone(parse_architecture(DENSENAS[name]), out_stages)
    cost = count(backbone, (800, 1088))
    assert list(backbone.out_channels.values()) == [24, 48, 128, 384]
    assert (round(cost.madds / 1e9, 3), round(cost.params / 1e6, 3)) == (gmadds, mparams)


class Forms(nn.Module):
    """Every kind of layer that counts, some of them twice, and some that do not count."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, (3, 5), stride=(1, 2), padding=1, bias=True)
        self.grouped = nn.Conv2d(6, 6, 3, groups=3, dilation=2, padding=2)
        self.up = nn.ConvTranspose2d(6, 4, 3, stride=2, output_padding=1, groups=2)
        self.norm = nn.BatchNorm2d(4)
        self.rows = nn.Linear(4, 5)
        self.last = nn.Linear(5, 2, bias=False)

    def forward(self, x):
        x = self.grouped(self.grouped(self.first(x)).relu())
        x = self.norm(self.up(x))
        return self.last(self.rows(x.permute(0, 2, 3, 1)).mean((1, 2)))


@given(height=st.integers(3, 20), width=st.integers(3, 20))
@settings(max_examples=15)
def test_layers_of_every_form_equal_a_hook_counter(hook_count, height, width):
    network = Forms()
    assert count(network, (height, width)).madds == hook_count(network, (1, 3, height, width))


def test_biases_by_hand():
    assert count(nn.Conv2d(2, 5, 3, padding=1), (4, 6), channels=2) == Cost(24 * (9 * 2 * 5 + 5), 95)
    assert count(nn.Sequential(nn.Flatten(), nn.Linear(6, 5)), (1, 2)) == Cost(30, 35)


@given(data=st.data(), height=st.integers(1, 40), width=st.integers(1, 40), dilate=st.booleans())
def test_random_networks_equal_a_hook_counter(mobile_architectures, hook_count, data, height, width, dilate):
    architecture = data.draw(mobile_architectures())
    backbone = build_backbone(architecture, (architecture.head_stage,), output_stride=2 if dilate else None)
    cost = count(backbone, (height, width))
    assert cost.madds == hook_count(backbone, (1, 3, height, width))
    assert cost.params == sum(tensor.numel() for tensor in backbone.parameters())


def test_counting_leaves_the_network_alone(randomise, mobilenet):
    network = randomise(build_backbone(mobilenet)).train()
    network.stages[1].eval()
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    pointers = [tensor.data_ptr() for tensor in network.parameters()]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    count(network, (64, 64))
    assert [module.training for module in network.modules()] == modes
    assert [tensor.data_ptr() for tensor in network.parameters()] == pointers
    assert all(parameter.device.type == "cpu" and parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_shared_parameters_count_once():
    network = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False))
    network[1].weight = network[0].weight
    assert count(network, (2, 2)) == Cost(2 * 4 * 9, 9)


def test_text():
    assert str(Cost(4_847_148_800, 1_811_712)) == "4,847.15 M multiply-adds, 1.812 M parameters"


def test_parameters_in_lists_count():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ParameterList(
                [nn.Parameter(torch.ones(2, 3, 1, 1)), nn.Parameter(torch.ones(1, 3, 1, 1))]
            )

        def forward(self, x):
            return nn.functional.conv2d(x, torch.cat(list(self.parts)))

    with ParamsMeter(on_meta(Joined())) as meter:
        meter.run((3, 4, 4))
        assert meter.total() == 9
