"""ShuffleNetV2's blocks against a network written from the formulas, in all layouts."""

from itertools import product

import pytest
import torch
from torch import nn

from fna_lightning.architectures.shuffle import LAYOUTS
from fna_lightning.architectures.shuffle_encodings import CANDIDATES
from fna_lightning.blocks import Norm, ShuffleBlock
from fna_lightning.blocks.shuffle import initialise_shuffle, interleave

every_block = pytest.mark.parametrize(("layout", "operation"), list(product(LAYOUTS, CANDIDATES)))


def block(layout, operation, first=False, widths=(16, 16), **settings):
    return ShuffleBlock(operation, *widths, LAYOUTS[layout], first=first, **settings)


@every_block
@pytest.mark.parametrize("dilation", [1, 2])
@torch.no_grad()
def test_a_block_within_a_stage(layout, operation, dilation, randomise, shuffle_referee):
    module = randomise(block(layout, operation, dilation=dilation)).eval()
    x = torch.randn(2, 16, 11, 8)
    expected = shuffle_referee(module.state_dict(), layout, operation, x, dilation=dilation)
    torch.testing.assert_close(module(x), expected, rtol=1e-5, atol=1e-5)


@every_block
@pytest.mark.parametrize(("stride", "dilation"), [(2, 1), (1, 2)])
@torch.no_grad()
def test_a_stages_first_block(layout, operation, stride, dilation, randomise, shuffle_referee):
    """With its stride, and with the dilation that it turns into."""
    settings = {"stride": stride, "dilation": dilation}
    module = randomise(block(layout, operation, first=True, widths=(6, 16), **settings)).eval()
    x = torch.randn(2, 6, 11, 8)
    expected = shuffle_referee(module.state_dict(), layout, operation, x, **settings)
    assert expected.shape == (2, 16, *((6, 4) if stride == 2 else (11, 8)))
    torch.testing.assert_close(module(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("layout", "side", "main"), [("detnas", 16, 48), ("detnas_supernet", 16, 48), ("mmrazor", 32, 32)]
)
def test_widths_of_the_two_branches(layout, side, main):
    """Of the first block of the 300M setting (spec DetNAS 1.2)."""
    module = block(layout, "shuffle_3x3", first=True, widths=(16, 64), stride=2)
    assert module.side[-1].conv.out_channels == side
    assert module.main[-1].conv.out_channels == main


@every_block
@torch.no_grad()
def test_the_other_memory_format_stays_and_computes_the_same(layout, operation, randomise):
    module = randomise(nn.Sequential(block(layout, operation, True, (8, 16)), block(layout, operation))).eval()
    x = torch.randn(2, 8, 6, 7)
    expected = module(x)
    module.to(memory_format=torch.channels_last)
    y = module(x.to(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


def test_interleaving():
    a, b = torch.arange(3.0).view(1, 3, 1, 1), torch.arange(10.0, 13.0).view(1, 3, 1, 1)
    assert interleave(a, b).flatten().tolist() == [0, 10, 1, 11, 2, 12]


@every_block
def test_gradients_reach_every_parameter_and_the_input(layout, operation):
    module = nn.Sequential(block(layout, operation, True, (8, 16)), block(layout, operation))
    x = torch.randn(2, 8, 6, 6, requires_grad=True)
    before = x.detach().clone()
    module(x).square().sum().backward()
    assert torch.equal(x, before)
    assert x.grad.abs().max() > 0
    assert all(parameter.grad is not None for parameter in module.parameters())


@every_block
def test_synchronised_norms_reach_the_blocks(layout, operation):
    module = nn.SyncBatchNorm.convert_sync_batchnorm(block(layout, operation, norm=Norm(momentum=0.02)))
    norms = [each for each in module.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == (6 if operation == "xception_3x3" else 3)
    assert all(isinstance(norm, nn.SyncBatchNorm) and norm.momentum == 0.02 for norm in norms)


def test_initial_values():
    """Deviation 0.01 in the stem, elsewhere one over the input channels of a group; offsets 1e-4."""
    stem = nn.Conv2d(3, 64, 3)
    stage = nn.Sequential(nn.Conv2d(40, 200, 1), nn.Conv2d(200, 200, 5, groups=200), nn.BatchNorm2d(9))
    initialise_shuffle([stem, stage])
    assert stem.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not stem.bias.any()
    assert stage[0].weight.std().item() == pytest.approx(1 / 40, rel=0.05)
    assert stage[1].weight.std().item() == pytest.approx(1, rel=0.05)
    assert stage[2].weight.eq(1).all()
    assert stage[2].bias.eq(1e-4).all()
