import re

import pytest

from fna_lightning.architectures import ResNetArchitecture, load_architecture, maps_at, parse_architecture
from fna_lightning.errors import ArchitectureError, ConfigError

TEXTS = {
    "resnet50": "resnet(bottleneck, [3, 4, 6, 3], 1x64d)",
    "resnet101": "resnet(bottleneck, [3, 4, 23, 3], 1x64d)",
    "resnext101_64x4d": "resnet(bottleneck, [3, 4, 23, 3], 64x4d)",
}


@pytest.mark.parametrize(("name", "text"), TEXTS.items())
def test_published_ones(name, text):
    architecture = load_architecture(name)
    assert str(architecture) == text
    assert parse_architecture(text) == architecture
    assert [level.channels for level in architecture.levels()] == [64, 256, 512, 1024, 2048]
    assert [level.stride for level in architecture.levels()] == [2, 4, 8, 16, 32]


@pytest.mark.parametrize(
    ("output_stride", "strides"), [(32, [8, 16, 32]), (16, [8, 16, 16]), (8, [8] * 3), (4, [4] * 3)]
)
def test_strides_turn_into_dilations(output_stride, strides):
    levels = load_architecture("resnet50").levels(output_stride)
    assert [level.stride for level in levels[2:]] == strides
    assert maps_at(levels, [strides[0]]) == (str(1 + len(strides) if len(set(strides)) == 1 else 2),)


def test_the_least_of_a_file():
    given = {"kind": "resnet", "block": "basic", "depths": [2, 2, 2, 2]}
    assert ResNetArchitecture.from_dict(given) == ResNetArchitecture("basic", (2, 2, 2, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block": "wide"}, "block 'wide': give basic or bottleneck"),
        ({"depths": [1, 2, 3]}, "depths [1, 2, 3]: give four positive numbers"),
        ({"depths": [1, 0, 1, 1]}, "depths [1, 0, 1, 1]: give four positive numbers"),
        ({"depths": [1, "2", 1, 1]}, "depths [1, '2', 1, 1]: give four positive numbers"),
        ({"depths": "1111"}, "depths is '1111'"),
        ({"groups": 0}, "groups 0: give a positive number"),
        ({"width_per_group": -4}, "width_per_group -4: give a positive number"),
        ({"groups": 2, "block": "basic"}, "basic blocks have groups 1"),
        ({"stem": 3}, "unknown keys: 'stem'"),
    ],
)
def test_what_is_refused(change, message):
    given = {"block": "bottleneck", "depths": [1, 1, 1, 1], **change}
    with pytest.raises(ArchitectureError, match=re.escape(message)):
        ResNetArchitecture.from_dict(given)


@pytest.mark.parametrize("text", ["resnet()", "resnet(basic, [1, 1, 1], 1x64d)", "resnet(basic, [1, 1, 1, 1])"])
def test_texts_that_are_none(text):
    with pytest.raises(ArchitectureError, match="write resnet"):
        parse_architecture(text)


def test_output_strides_that_cannot_be_had():
    with pytest.raises(ArchitectureError, match="output stride 12 cannot be had: give 4, 8, 16 or 32"):
        load_architecture("resnet50").levels(12)
    with pytest.raises(ArchitectureError, match="basic blocks have no dilation"):
        ResNetArchitecture("basic", (1, 1, 1, 1)).levels(16)
    with pytest.raises(ConfigError, match="the backbone has no map 'head': it has 2, 4, 8, 16, 32"):
        maps_at(load_architecture("resnet50").levels(), ["head"])
