"""What tests know of searched heads: towers on the levels of a small pyramid, and paths that are genotypes."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fna_lightning.blocks import build_towers
from fna_lightning.choices import Choices


class _Pyramid(nn.Module):
    """A convolution, levels of its map, and the towers on each."""

    def __init__(self, head, cells, channels, levels):
        super().__init__()
        self.levels = levels
        self.stem = nn.Conv2d(3, 8, 1)
        self.head = build_towers(head, 8, channels, cells, 2)

    def forward(self, images):
        level = self.stem(images)
        outputs = []
        for _ in range(self.levels):
            outputs += self.head(level)
            level = F.max_pool2d(level, 2, ceil_mode=True)
        return torch.cat([output.flatten(2) for output in outputs], 2)


@pytest.fixture(scope="session")
def pyramid():
    """pyramid(head) -> a network whose `head` are the towers of a space or a genotype."""

    def build(head, cells=1, channels=4, levels=2):
        torch.manual_seed(1)
        return _Pyramid(head, cells, channels, levels)

    return build


@pytest.fixture(scope="session")
def genotype_paths():
    """(supernet, number) -> some of its paths that are genotypes."""

    def draw(supernet, number):
        return [Choices(supernet).draw(1, iteration) for iteration in range(number)]

    return draw
