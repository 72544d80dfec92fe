import pytest
import torch
from torch import nn

from fna_lightning.architectures import Chain, Edge, HeadGenotype, TowerGenotype, load_parts
from fna_lightning.architectures.genotype import CHAINS_WITH_DILATION_3
from fna_lightning.blocks import PlainTowers, Towers, build_chain, build_towers
from fna_lightning.blocks.towers import build_edge
from fna_lightning.costs import count
from fna_lightning.errors import ConfigError

# Parameters at 96 and 128 channels (spec FAD 1.6).
PARAMS = {
    "std_conv_3x3": (83_232, 147_840),
    "std_conv_3x3+dil_conv_3x3": (93_696, 165_888),
    "std_conv_3x3+dil_conv_3x3_r3": (93_696, 165_888),
    "std_conv_3x3_x2": (166_464, 295_680),
    "std_conv_3x3_x2+dil_conv_3x3": (176_928, 313_728),
    "std_conv_3x3_x3": (249_696, 443_520),
    "sinSep_conv_3x3": (10_368, 17_920),
    "sinSep_conv_3x3+dil_conv_3x3": (20_832, 35_968),
    "sinSep_conv_3x3+dil_conv_3x3_r3": (20_832, 35_968),
    "sinSep_conv_3x3_x2": (20_736, 35_840),
    "sinSep_conv_3x3_x2+dil_conv_3x3": (31_200, 53_888),
    "sinSep_conv_3x3_x3": (31_104, 53_760),
}
# Box and class tower without the last 1x1, by channels and cells (spec FAD 4.4).
TOWERS = {
    ("fad", 96, 1): (869_088, 723_456),
    ("fad", 96, 2): (1_935_552, 1_644_288),
    ("fad", 128, 1): (1_408_128, 1_148_416),
    ("fad", 128, 2): (3_013_632, 2_494_208),
    ("fad_other", 96, 1): (1_160_736, 931_680),
    ("fad_other", 96, 2): (2_518_848, 2_060_736),
    ("fad_other", 128, 1): (1_928_064, 1_520_256),
    ("fad_other", 128, 2): (4_053_504, 3_237_888),
}
# Parameters and billions of multiply-adds of whole heads on 800x1344 pictures of 80 classes (spec FAD 6.2).
HEADS = {
    ("plain", 256): (4_920_666, 110.1),
    ("fad", 96): (4_169_498, 92.8),
    ("fad", 128): (6_097_498, 135.9),
    ("fad_other", 96): (5_169_242, 115.2),
}
every_chain = pytest.mark.parametrize("name", CHAINS_WITH_DILATION_3)


def params(module):
    return sum(parameter.numel() for parameter in module.parameters())


def head_of(name):
    return load_parts(name)["head"]


def small(name="fad", cells=2, **settings):
    return build_towers(head_of(name), **{"width": 8, "channels": 4, "cells": cells, "groups": 2, **settings})


@every_chain
def test_parameters_of_chains(name):
    assert (*(params(build_chain(Chain.parse(name), channels)) for channels in (96, 128)),) == PARAMS[name]


@every_chain
def test_what_an_output_sees_is_the_receptive_field(name):
    """An impulse's trace through weights that let nothing cancel, norms left out, as they see everything."""
    chain = Chain.parse(name)
    blocks = build_chain(chain, 4, groups=2).double()
    for module in blocks.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 0.1)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for block in blocks:
        block[-2] = nn.Identity()
    impulse = torch.zeros(1, 4, 21, 21, dtype=torch.float64)
    impulse[..., 10, 10] = 1
    trace = blocks(impulse)
    assert trace.shape == impulse.shape
    rows, columns = trace[0, 0].detach().nonzero().T
    reach = chain.receptive_field // 2
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10 - reach, 10 + reach) * 2


def test_blocks_end_in_norm_and_relu_and_have_the_published_biases():
    standard, separable = (build_chain(Chain(family, 1, 2), 64) for family in ("std", "sinSep"))
    assert [[type(layer).__name__ for layer in block] for block in separable] == [
        ["Conv2d", "Conv2d", "GroupNorm", "ReLU"]
    ] * 2
    assert [type(layer).__name__ for layer in standard[0]] == ["Conv2d", "GroupNorm", "ReLU"]
    assert standard[0][0].bias is not None
    assert separable[0][0].bias is None
    assert None not in (separable[0][1].bias, *(layer.bias for layer in separable[1][:2]))
    norm = separable[0][2]
    assert (norm.num_groups, norm.affine, norm.eps) == (32, True, 1e-5)
    assert separable[1][0].dilation == separable[1][0].padding == (2, 2)


@pytest.mark.parametrize(("name", "channels", "cells"), TOWERS)
def test_parameters_of_published_towers(name, channels, cells):
    with torch.device("meta"):
        towers = build_towers(head_of(name), 256, channels, cells)
    assert (params(towers.box.cells), params(towers.classes.cells)) == TOWERS[name, channels, cells]
    assert params(towers.box.reduce) == params(towers.classes.reduce) == 196_864


class Head(nn.Module):
    """Towers and predictions on the five levels of a picture, as FCOS has them."""

    def __init__(self, towers):
        super().__init__()
        self.towers = towers
        self.logits, self.boxes, self.centre = (nn.Conv2d(256, n, 3, padding=1) for n in (80, 4, 1))
        self.scales = nn.Parameter(torch.ones(5))

    def forward(self, images):
        for height, width in [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]:
            box, classes = self.towers(images[:, :, :height, :width])
            self.logits(classes), self.boxes(box), self.centre(box)


@pytest.mark.parametrize(("name", "channels"), HEADS)
def test_size_of_whole_heads(name, channels):
    with torch.device("meta"):
        towers = PlainTowers(256, 4) if name == "plain" else build_towers(head_of(name), 256, channels, 2)
        head = Head(towers)
    assert params(head) == HEADS[name, channels][0]
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = None  # which costs count, and the published figures do not
    assert round(count(head, (100, 168), 256).madds / 1e9, 1) == HEADS[name, channels][1]


def test_the_wiring_of_the_towers():
    """Input 0 of the class tower is what the box tower gives, and input 1 the level (spec FAD 1.2)."""
    chain = "sinSep_conv_3x3"
    one = TowerGenotype(((Edge(chain, 0),),), (2,))
    other = TowerGenotype(((Edge(chain, 1),),), (2,))
    towers = build_towers(HeadGenotype(one, other), 8, 4, 1, 2)
    feature = torch.randn(2, 8, 6, 5)
    box, classes = towers(feature)
    assert torch.equal(box, towers.box.reduce(towers.box.cells[0].nodes[0][0](feature)))
    assert torch.equal(classes, towers.classes.reduce(towers.classes.cells[0].nodes[0][0](feature)))
    towers = build_towers(HeadGenotype(one, one), 8, 4, 1, 2)
    box, classes = towers(feature)
    assert torch.equal(classes, towers.classes.reduce(towers.classes.cells[0].nodes[0][0](box)))
    classes.square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in towers.box.reduce.parameters())


def test_a_second_cell_reads_the_level_and_the_first():
    towers = small(cells=3)
    for tower in (towers.box, towers.classes):
        first, second, third = tower.cells
        assert [type(layer).__name__ for layer in first.inputs] == ["Identity", "Identity"]
        assert [type(layer).__name__ for layer in second.inputs] == ["Identity", "Sequential"]
        assert [type(layer).__name__ for layer in third.inputs] == ["Sequential", "Sequential"]
        assert third.inputs[0][0].weight.shape == (8, 24, 1, 1)
    seen = []
    for cell in towers.classes.cells:
        cell.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    outputs = []
    for cell in towers.classes.cells:
        cell.register_forward_hook(lambda _m, _i, output: outputs.append(output))
    feature = torch.randn(1, 8, 4, 4)
    box, _ = towers(feature)
    assert [x is y for x, y in zip(seen[0], (box, feature), strict=True)] == [True, True]
    assert [x is y for x, y in zip(seen[1], (feature, outputs[0]), strict=True)] == [True, True]
    assert [x is y for x, y in zip(seen[2], (outputs[0], outputs[1]), strict=True)] == [True, True]


def test_nodes_add_and_some_are_given_out():
    graph = TowerGenotype(
        ((Edge("std_conv_3x3", 0), Edge("std_conv_3x3_x2", 1)), (Edge("std_conv_3x3", 2),)), (3,)
    )
    cell = build_towers(HeadGenotype(graph, graph), 8, 4, 1, 2).box.cells[0]
    first, second = torch.randn(2, 1, 8, 5, 5)
    node = cell.nodes[0][0](first) + cell.nodes[0][1](second)
    assert torch.equal(cell(first, second), cell.nodes[1][0](node))


@pytest.mark.parametrize("cells", [1, 2])
@pytest.mark.parametrize("channels", [4, 8])
def test_every_level_keeps_its_shape(cells, channels):
    towers = small(cells=cells, channels=channels)
    assert isinstance(towers, Towers)
    for size in ((6, 4), (3, 2), (1, 1)):
        assert [x.shape for x in towers(torch.randn(2, 8, *size))] == [(2, 8, *size)] * 2


def test_edges_of_full_width_have_no_convolutions_around():
    edge = build_edge(Chain("std"), 64, 64)
    assert params(edge) == 9 * 64**2 + 3 * 64
    assert [name for name, _ in build_edge(Chain("std"), 64, 32).named_children()] == ["reduce", "chain", "expand"]
    assert params(build_edge(Chain("std"), 256, 96)) == 83_232 + 512 * 96 + 96 + 256


def test_initialisation():
    """The class tower's last convolution is small, all else is the framework's (spec FAD 5.2)."""
    towers = build_towers(head_of("fad"), 256, 96, 1)
    assert towers.classes.reduce.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not towers.classes.reduce.bias.any()
    assert towers.box.reduce.weight.abs().max().item() == pytest.approx(768**-0.5, rel=0.01)
    assert towers.box.reduce.bias.any()
    plain = PlainTowers(256, 2)
    for branch in (plain.box, plain.classes):
        convolution, norm, relu, *_ = branch
        assert convolution.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert not convolution.bias.any()
        assert (norm.num_groups, type(relu), len(branch)) == (32, nn.ReLU, 6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"channels": 6, "groups": 4}, "6 channels: group norms of 4 groups want a multiple of 4"),
        ({"width": 6, "groups": 4}, "6 channels: group norms"),
        ({"channels": 0}, "0 channels"),
        ({"cells": 0}, "0 cells: a tower needs one or more"),
    ],
)
def test_towers_that_cannot_be(settings, words):
    with pytest.raises(ConfigError, match=words):
        small(**settings)


def test_a_head_of_no_kind():
    with pytest.raises(TypeError, match="no towers for str"):
        build_towers("fad", 8, 4, 1)
