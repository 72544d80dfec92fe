"""FNA's published figures of DeepLab to the printed digit (spec FNA, sections 7 and 9)."""

import re

import pytest

from fna_lightning.architectures import load_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.costs import count
from fna_lightning.segmenters import DeepLabV3, DeepLabV3Plus
from fna_lightning.supernets import MobileSpace, build_supernet

CITYSCAPES = (1024, 2048)
CLASSES = 19
DEPTHS = {2: 4, 3: 4, 4: 6, 5: 6, 6: 4, 7: 1}


def segmenter(kind, name, output_stride):
    maps = (7,) if kind is DeepLabV3 else (2, 7)
    return kind(build_backbone(load_architecture(name), maps, output_stride=output_stride), CLASSES)


@pytest.mark.parametrize(
    ("name", "output_stride", "millions", "billions"),
    [
        ("mobilenet_v2", 16, 2.5675, 24.5217),
        ("mobilenet_v2", 8, 2.5675, 83.281),
        ("fna_deeplabv3", 16, 2.4664, 24.1749),
        ("fna_deeplabv3", 8, 2.4664, 79.950),
    ],
)
def test_deeplabv3(name, output_stride, millions, billions):
    cost = count(segmenter(DeepLabV3, name, output_stride), CITYSCAPES)
    assert round(cost.params / 1e6, 4) == millions
    assert round(cost.madds / 1e9, 4 if output_stride == 16 else 3) == billions


def test_parts_of_the_separable_head():
    network = segmenter(DeepLabV3, "mobilenet_v2", 16)
    assert round(sum(tensor.numel() for tensor in network.aspp.parameters()) / 1e6, 4) == 0.7509
    assert round(count(network.aspp, (64, 128), 320).madds / 1e9, 4) == 5.4396
    assert round(count(network.classifier, (64, 128), 256).madds / 1e9, 4) == 0.0400


@pytest.mark.parametrize(("output_stride", "madds", "printed"), [(16, 210.0756, 210.11), (8, 313.8367, 313.87)])
def test_deeplabv3plus(output_stride, madds, printed):
    """The paper's head has the parameters that FNA prints, but not quite its multiply-adds.

    At both output strides they are short by the same number at stride 4: 225 to 292 a pixel, what is lost in
    printing considered. A bias in one 3x3 of the decoder would meet it, although a batch norm takes it away again;
    so would a twentieth class. The head was never published, and nothing tells which it is.
    """
    network = segmenter(DeepLabV3Plus, "fna_deeplabv3", output_stride)
    cost = count(network, CITYSCAPES)
    assert round(cost.params / 1e6, 2) == 5.71
    assert round(cost.madds / 1e9, 4) == madds
    network.decoder[0][0].bias = network.decoder[0][1].bias
    assert round(count(network, CITYSCAPES).madds / 1e9, 2) == printed


def expected_costs(output_stride, height, width):
    """Stage by stage the closed form of spec FNA 3.3, by candidate's name; strides end at `output_stride`."""
    widths, strides = (16, 24, 32, 64, 96, 160, 320), (2, 2, 2, 1, 2, 1)
    height, width, reached = height // 2, width // 2, 2
    for depth, c_in, c_out, stride in zip(DEPTHS.values(), widths[:-1], widths[1:], strides, strict=True):
        stride = stride if reached * stride <= output_stride else 1
        reached *= stride
        for layer in range(depth):
            before = height * width
            if layer == 0:
                height, width = height // stride, width // stride
            c = c_in if layer == 0 else c_out
            costs = {} if layer == 0 else {"skip": 0}
            for name in (f"k{k}_e{e}" for k in (3, 5, 7) for e in (3, 6)):
                k, e = map(int, re.findall(r"\d", name))
                costs[name] = before * c * e * c + height * width * k * k * e * c + height * width * e * c * c_out
            yield costs


@pytest.fixture(scope="module", params=[16, 8])
def strided(request, mobilenet, searched):
    """FNA's space for segmentation at an output stride, and that stride."""
    supernet = build_supernet(MobileSpace(mobilenet, DEPTHS), (7,), output_stride=request.param)
    return searched(supernet, CITYSCAPES), request.param


def test_candidates_equal_the_closed_form(strided):
    search, output_stride = strided
    expected = expected_costs(output_stride, *CITYSCAPES)
    for choice, own, costs in zip(search.choices, search.costs, expected, strict=True):
        assert dict(zip(choice.names, own.tolist(), strict=True)) == costs


def test_candidates_are_dilated(strided):
    search, output_stride = strided
    dilated = {16: {6: 2, 7: 2}, 8: {4: 2, 5: 2, 6: 4, 7: 4}}[output_stride]
    for number in DEPTHS:
        kernels = [m for m in search.network.stages[number].modules() if getattr(m, "kernel_size", (1,))[0] > 1]
        assert len(kernels) == 6 * DEPTHS[number]
        assert {kernel.dilation[0] for kernel in kernels} == {dilated.get(number, 1)}


@pytest.mark.parametrize("name", ["mobilenet_v2", "fna_deeplabv3"])
def test_paths_cost_what_their_networks_do(strided, name):
    search, output_stride = strided
    network, layers = load_architecture(name), []
    for number, depth in DEPTHS.items():
        found = [str(layer) for layer in network.stages[number - 1].operations]
        layers += found + ["skip"] * (depth - len(found))
    path = [choice.names.index(layer) for choice, layer in zip(search.choices, layers, strict=True)]
    backbone = build_backbone(network, (7,), output_stride=output_stride)
    assert search.cost.of(path) == count(backbone, CITYSCAPES).madds
