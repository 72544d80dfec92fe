"""The map inside a stage's first layer, which SSDLite reads."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fna_lightning.architectures import load_architecture, parse_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.blocks import MapName
from fna_lightning.checkpoints import load_seed
from fna_lightning.errors import ConfigError


@pytest.mark.parametrize(("text", "name"), [(6, (6, True)), ("6", (6, True)), ("-3.expand", (-3, False))])
def test_names(text, name):
    parsed = MapName.parse(text)
    assert parsed == name
    assert str(parsed) == str(text)


@pytest.mark.parametrize("text", ["", "six", "6.", "6.project", "6.expand.0", "6.5", " 6", "1e3", None])
def test_what_is_no_name(text, mobilenet):
    with pytest.raises(ConfigError, match=r"give the number of a stage such as 6, or 6\.expand"):
        build_backbone(mobilenet, (text, 8))


def test_names_sort_as_maps_are_computed():
    names = ["7", "6", "6.expand", "5"]
    assert list(map(str, sorted(map(MapName.parse, names)))) == ["5", "6.expand", "6", "7"]


@pytest.mark.parametrize("name", ["mobilenet_v2", "fna_ssdlite"])
@torch.no_grad()
def test_equals_what_a_hook_sees_and_is_computed_once(name, randomise):
    backbone = randomise(build_backbone(load_architecture(name), ("6.expand", 8))).eval()
    seen = []
    backbone.stages[6][0].expand.register_forward_hook(lambda *arguments: seen.append(arguments[-1].clone()))
    maps = backbone(torch.randn(2, 3, 64, 96))
    assert len(seen) == 1
    assert list(maps) == list(backbone.out_channels) == ["6.expand", "8"]
    assert maps["6.expand"].shape == (2, 576, 4, 6)
    assert maps["6.expand"].max() > 0
    assert torch.equal(maps["6.expand"], seen[0])
    assert backbone.out_channels == {"6.expand": 576, "8": 1280}
    assert backbone.strides == {"6.expand": 16, "8": 32}


@torch.no_grad()
def test_equals_torchvision(torchvision_net, tmp_path):
    torch.save(torchvision_net.state_dict(), tmp_path / "weights.pth")
    seed = load_seed(tmp_path / "weights.pth")
    backbone = build_backbone(seed.architecture, ("6.expand", 8)).eval()
    backbone.load_state_dict(seed.state)
    images = torch.randn(1, 3, 65, 96)
    x = torchvision_net.features[:14](images)
    maps = backbone(images)
    assert torch.equal(maps["6.expand"], torchvision_net.features[14].conv[0](x))
    assert torch.equal(maps["8"], torchvision_net.features(images))


@torch.no_grad()
def test_the_other_maps_stay_as_they_are(mobilenet):
    plain, exposed = build_backbone(mobilenet, (5, 6, 7)), build_backbone(mobilenet, (7, "6.expand", 6, 5))
    exposed.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 64, 64)
    expected, maps = plain(images), exposed(images)
    assert list(maps) == ["5", "6.expand", "6", "7"]
    assert all(torch.equal(maps[name], expected[name]) for name in expected)


def test_gradients_flow_through_both(mobilenet):
    backbone = build_backbone(mobilenet, ("6.expand", 8))
    (gradient,) = torch.autograd.grad(
        backbone(torch.randn(2, 3, 64, 64))["6.expand"].square().sum(), backbone.stages[6][0].expand.conv.weight
    )
    assert gradient.abs().max() > 0
    sum(value.square().sum() for value in backbone(torch.randn(2, 3, 64, 64)).values()).backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


@given(data=st.data(), height=st.integers(1, 33), width=st.integers(1, 33))
@settings(max_examples=20)
@torch.no_grad()
def test_any_architecture(mobile_architectures, data, height, width):
    architecture = data.draw(mobile_architectures())
    number = data.draw(st.integers(1, len(architecture.stages)))
    first = architecture.stages[number - 1].layers[0]
    assume(first is not None and first.expansion > 1)
    backbone = build_backbone(architecture, (number, f"{number}.expand")).eval()
    feature = backbone(torch.randn(1, 3, height, width))[f"{number}.expand"]
    for stride in architecture.strides[:number]:
        height, width = math.ceil(height / stride), math.ceil(width / stride)
    assert feature.shape == (1, first.expansion * architecture.in_widths[number - 1], height, width)
    assert feature.shape[1] == backbone.out_channels[f"{number}.expand"]
    assert backbone.strides[f"{number}.expand"] == math.prod(architecture.strides[:number])


@pytest.mark.parametrize("name", ["0.expand", "1.expand", "8.expand"])
def test_stages_that_do_not_expand(mobilenet, name):
    with pytest.raises(ConfigError, match=f"{name}: the first layer of stage {name[0]} does not expand"):
        build_backbone(mobilenet, (name, 8))


def test_a_first_layer_that_is_skipped_does_not_expand():
    architecture = parse_architecture("[[4, 4], ['skip', 'k3_e6'], 1]")
    with pytest.raises(ConfigError, match="does not expand"):
        build_backbone(architecture, ("1.expand", 1))


@pytest.mark.parametrize("out_stages", [("6.expand",), (5, "7.expand")])
def test_nothing_read_behind_it(mobilenet, out_stages):
    with pytest.raises(ConfigError, match=r"nothing reads what follows .\.expand .*name (6|7) or a later"):
        build_backbone(mobilenet, out_stages)


@pytest.mark.parametrize("out_stages", [("-1.expand", 8), ("9.expand", 8), ("6.expand", 9)])
def test_numbers_out_of_range(mobilenet, out_stages):
    with pytest.raises(ConfigError, match=r"out_stages.*from 0 .* to 8"):
        build_backbone(mobilenet, out_stages)
