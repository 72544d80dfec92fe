import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from fna_lightning.detectors import AnchorGrid, build_fpn
from fna_lightning.detectors.anchors import octave_sizes

MAPS = {"3": (8, 12), "5": (4, 6), "7": (2, 3)}


def maps():
    return {name: torch.randn(1, 4 + int(name), *size) for name, size in MAPS.items()}


def test_fpn_is_what_the_paper_draws():
    fpn, c = build_fpn([7, 9, 11], 5), maps()
    levels = fpn(c)
    assert list(levels) == ["3", "5", "7", "p6", "p7"]

    lateral = [layer[0] for layer in fpn.inner_blocks]
    output = [layer[0] for layer in fpn.layer_blocks]
    m5 = lateral[2](c["7"])
    m4 = lateral[1](c["5"]) + m5.repeat_interleave(2, -1).repeat_interleave(2, -2)
    m3 = lateral[0](c["3"]) + m4.repeat_interleave(2, -1).repeat_interleave(2, -2)
    p6 = fpn.extra_blocks.p6(c["7"])
    expected = [output[0](m3), output[1](m4), output[2](m5), p6, fpn.extra_blocks.p7(p6)]
    for level, wanted in zip(levels.values(), expected, strict=True):
        torch.testing.assert_close(level, wanted)


def test_p6_of_the_pyramid_with_relu():
    fpn, c = build_fpn([7, 9, 11], 5, p6_from_pyramid=True, p7_relu=True), maps()
    levels, extra = fpn(c), fpn.extra_blocks
    torch.testing.assert_close(levels["p6"], extra.p6(levels["7"]))
    torch.testing.assert_close(levels["p7"], extra.p7(F.relu(levels["p6"])))


def test_initialisation():
    for module in build_fpn([32, 96, 320], 64).modules():
        if isinstance(module, nn.Conv2d):
            assert not module.bias.any()
            receptive = module.kernel_size[0] * module.kernel_size[1]
            bound = (6 / (receptive * (module.in_channels + module.out_channels))) ** 0.5
            assert 0.95 * bound < module.weight.abs().max() <= bound


def test_norm_in_place_of_bias():
    fpn = build_fpn([7, 9, 11], 5, norm=True)
    assert fpn.inner_blocks[0][0].bias is None
    assert isinstance(fpn.inner_blocks[0][1], nn.BatchNorm2d)


def test_anchors_equal_torchvision_where_sizes_divide():
    strides = [8, 16, 32, 64, 128]
    sizes = octave_sizes(strides, 4, 3)
    grid = AnchorGrid(sizes, (0.5, 1.0, 2.0), strides)
    map_sizes = [(256 // stride, 384 // stride) for stride in strides]
    reference = AnchorGenerator(tuple(map(tuple, sizes)), ((0.5, 1.0, 2.0),) * 5)
    images = ImageList(torch.zeros(1, 3, 256, 384), [(256, 384)])
    expected = reference(images, [torch.zeros(1, 1, *size) for size in map_sizes])[0]
    assert torch.equal(torch.cat(grid(map_sizes)), expected)
    assert [len(level) for level in grid(map_sizes)] == [9 * h * w for h, w in map_sizes]
    assert grid.num_per_cell == (9,) * 5


def test_anchor_strides_are_the_networks_own():
    grid = AnchorGrid([[512.0]], [1.0], [128])
    (anchors,) = grid([(7, 9)])
    assert anchors[0].tolist() == [-256, -256, 256, 256]
    assert anchors[1].tolist() == [-128, -256, 384, 256]
    assert anchors[9].tolist() == [-256, -128, 256, 384]


def test_anchors_stay_exact_in_half_precision():
    grid = AnchorGrid([[32.0]], [1.0], [8]).bfloat16()
    (anchors,) = grid([(1, 170)])
    assert anchors.dtype == torch.float32
    assert anchors[-1].tolist() == [169 * 8 - 16, -16, 169 * 8 + 16, 16]
