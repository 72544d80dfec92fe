import pytest
import torch

from fna_lightning.architectures import (
    Level,
    load_architecture,
    maps_at,
    maps_named,
    published_names,
    pyramid_maps,
)
from fna_lightning.backbones import build_backbone
from fna_lightning.errors import ArchitectureError, ConfigError

MOBILE = [name for name in published_names() if load_architecture(name).kind == "mobile"]
LEVELS = (
    Level("a", 2, 8),
    Level("b.expand", 2, 16, "expand"),
    Level("b", 4, 10),
    Level("c", 4, 12),
    Level("d.expand", 4, 36, "expand"),
    Level("d", 8, 20),
    Level("e", 8, 99, "head"),
)


@pytest.mark.parametrize("output_stride", [None, 8, 16])
@pytest.mark.parametrize("name", MOBILE)
def test_levels_are_the_maps_that_a_backbone_gives(name, output_stride):
    architecture = load_architecture(name)
    levels = architecture.levels(output_stride)
    # A first layer that does not expand its input gives no expanded map.
    given = [level for level in levels if level.name != "1.expand"]
    stages = [str(number) for number in range(len(architecture.stages) + 1)]
    assert [level.name for level in levels if level.form == "stage"] == stages
    assert levels[-1].form == "head"
    with torch.device("meta"):
        names = [level.name for level in given]
        backbone = build_backbone(architecture, names, output_stride=output_stride)
        maps = backbone(torch.zeros(1, 3, 64, 64))
    assert list(backbone.out_channels) == names
    assert backbone.strides == {level.name: level.stride for level in given}
    for level in given:
        assert maps[level.name].shape == (1, level.channels, 64 // level.stride, 64 // level.stride)


def test_an_output_stride_that_cannot_be_had(mobilenet):
    with pytest.raises(ArchitectureError, match="output stride 12"):
        mobilenet.levels(12)


@pytest.mark.parametrize(
    ("strides", "names"),
    [
        ([2, 4, 8], ("a", "c", "d")),
        (["4"], ("c",)),
        (["2.expand", "4.expand"], ("b.expand", "d.expand")),
        (["last"], ("d",)),
        (["head", "last"], ("e", "d")),
        ([], ()),
    ],
)
def test_maps_at_strides(strides, names):
    assert maps_at(LEVELS, strides) == names


@pytest.mark.parametrize(
    ("strides", "words"),
    [
        ([16], r"no map '16': it has 2, 4, 8, 2\.expand, 4\.expand, head$"),
        ([4, "8.expand"], r"no map '8\.expand': it has 2, "),
        (["3"], "no map '3'"),
        (["first"], r"the stride 'first': give a number such as 16, 16\.expand"),
        (["-1"], "the stride '-1'"),
        (["4.project"], r"the stride '4\.project'"),
        (["9" * 5000], "the stride '999"),
    ],
)
def test_strides_that_a_backbone_has_not(strides, words):
    with pytest.raises(ConfigError, match=words) as caught:
        maps_at(LEVELS, strides)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


def test_no_last_convolution():
    with pytest.raises(ConfigError, match=r"no map 'head': it has 2, 4, 8, 2\.expand, 4\.expand$"):
        maps_at(LEVELS[:-1], ["head"])


@pytest.mark.parametrize(
    ("features", "names"),
    [(["b", "d"], ("b", "d")), ([-1], ("e",)), (["-2", -5], ("d", "a")), (["-2.expand"], ("d.expand",))],
)
def test_maps_by_name(features, names):
    assert maps_named(LEVELS, features) == names


@pytest.mark.parametrize("feature", ["f", -6, "a.expand", "-1.expand", "d.project", "9" * 5000])
def test_names_of_no_map(feature):
    with pytest.raises(ConfigError, match=rf"the map '{str(feature)[:40]}': .* a, b\.expand, b, c, ") as caught:
        maps_named(LEVELS, [feature])
    assert len(str(caught.value)) < 200


def test_a_pyramid_from_stride_four_on(mobilenet):
    assert pyramid_maps(LEVELS) == ("c", "d")
    assert pyramid_maps(mobilenet.levels()) == ("2", "3", "5", "7")
    assert pyramid_maps(mobilenet.levels(16)) == ("2", "3", "7")
