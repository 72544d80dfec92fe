import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fna_lightning.architectures import load_architecture, maps_at, published_names
from fna_lightning.backbones import build_backbone
from fna_lightning.blocks import Norm
from fna_lightning.errors import ArchitectureError, ConfigError

SHUFFLE = [name for name in published_names() if load_architecture(name).kind == "shuffle"]


@given(data=st.data(), height=st.integers(1, 33), width=st.integers(1, 33))
@settings(max_examples=20)
@torch.no_grad()
def test_every_stage_equals_the_formulas(shuffle_architectures, shuffle_referee, randomise, data, height, width):
    """Layer after layer, whatever the layout; the stem and the tail are plain convolutions."""
    architecture = data.draw(shuffle_architectures)
    backbone = randomise(build_backbone(architecture, range(len(architecture.stages) + 2))).eval()
    x = torch.randn(1, 3, height, width)
    maps = backbone(x)
    assert list(maps) == [level.name for level in architecture.levels()]
    x = maps["0"]
    for number, stage in enumerate(architecture.stages, start=1):
        for index, operation in enumerate(stage.layers):
            state = backbone.stages[number][index].state_dict()
            x = shuffle_referee(state, architecture.layout, operation, x, stride=2 if index == 0 else 1)
        torch.testing.assert_close(maps[str(number)], x, rtol=1e-4, atol=1e-4)
    h, w = height, width
    for level in architecture.levels():
        h, w = (h, w) if level.form == "head" else (math.ceil(h / 2), math.ceil(w / 2))
        assert maps[level.name].shape == (1, level.channels, h, w)


def test_stem_and_tail(shuffle_small, randomise):
    backbone = randomise(build_backbone(shuffle_small, (0, 3, 4))).eval()
    stem, tail = backbone.stages[0], backbone.stages[4]
    assert (stem.conv.kernel_size, stem.conv.stride, tail.conv.kernel_size) == ((3, 3), (2, 2), (1, 1))
    with torch.no_grad():
        maps = backbone(torch.randn(2, 3, 32, 32) * 100)
    assert all(maps[name].min() == 0 and maps[name].max() > 6 for name in ("0", "4"))  # ReLU, and not up to 6


@pytest.mark.parametrize("layout", ["detnas", "mmrazor"])
def test_biases_of_stem_and_tail(layout):
    backbone = build_backbone(load_architecture("mmrazor_spos_300m" if layout == "mmrazor" else SHUFFLE[0]), (5,))
    biased = [name for name, _ in backbone.named_parameters() if name.endswith("conv.bias")]
    assert biased == ([] if layout == "mmrazor" else ["stages.0.conv.bias", "stages.5.conv.bias"])


@pytest.mark.parametrize("name", SHUFFLE)
def test_maps_of_the_detectors(name):
    architecture = load_architecture(name)
    assert maps_at(architecture.levels(), [4, 8, 16, 32, "last", "head"]) == ("1", "2", "3", "4", "4", "5")
    with torch.device("meta"):
        backbone, images = build_backbone(architecture), torch.empty(1, 3, 800, 1088)
    assert list(backbone.strides.values()) == [4, 8, 16, 32]
    assert [tuple(feature.shape[1:]) for feature in backbone(images).values()] == [
        (stage.width, 800 // stride, 1088 // stride)
        for stage, stride in zip(architecture.stages, (4, 8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize("layout", ["detnas", "detnas_supernet", "mmrazor"])
@torch.no_grad()
def test_dilation_is_the_stage_on_phases(layout, randomise):
    """Behind its first block a dilated stage computes on every second pixel what the plain one computes."""
    architecture = replace(load_architecture("mmrazor_spos_300m"), layout=layout)
    plain = randomise(build_backbone(architecture, (3, 4))).eval()
    dilated = build_backbone(architecture, (3, 4), output_stride=16).eval()
    dilated.load_state_dict(plain.state_dict())
    assert dilated.strides == {"3": 16, "4": 16}
    images = torch.randn(1, 3, 192, 160)
    expected, maps = plain(images), dilated(images)
    assert torch.equal(maps["3"], expected["3"])
    first, *others = plain.stages[4]
    # With stride 1 each phase of the input is a picture of its own, to which dilation is unknown.
    for module in first.modules():
        if getattr(module, "stride", None) == (2, 2):
            module.stride = (1, 1)
    for phase in product(range(2), repeat=2):
        place = (..., slice(phase[0], None, 2), slice(phase[1], None, 2))
        y = first(maps["3"][place])
        for layer in others:
            y = layer(y)
        torch.testing.assert_close(maps["4"][place], y, rtol=1e-4, atol=1e-4)


def test_impossible_output_stride(shuffle_small):
    with pytest.raises(ArchitectureError, match="output stride 12 cannot be had"):
        build_backbone(shuffle_small, output_stride=12)


@pytest.mark.parametrize("out_stages", [(), (5,), (1, 5), (-1, 2)])
def test_wrong_out_stages(shuffle_small, out_stages):
    with pytest.raises(ConfigError, match=r"out_stages.*from 0 .* to 4"):
        build_backbone(shuffle_small, out_stages)


def test_no_expanded_maps(shuffle_small):
    with pytest.raises(ConfigError, match=r"there is no map 2\.expand: blocks of kind shuffle do not expand"):
        build_backbone(shuffle_small, ("2.expand", 3))
    with pytest.raises(ConfigError, match=r"no map '16\.expand': it has 2, 4, 8, 16, head"):
        maps_at(shuffle_small.levels(), ["16.expand"])


def test_norm_settings_reach_every_norm(shuffle_small):
    backbone = build_backbone(shuffle_small, (4,), norm=Norm(eps=1e-3, momentum=0.01))
    norms = [module for module in backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 2 + 3 * 2 + (3 + 6) + (3 + 3) + (6 + 3)
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
