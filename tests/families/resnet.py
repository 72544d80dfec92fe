"""ResNets: torchvision's, and a small one."""

import pytest
from torchvision import models

from fna_lightning.architectures import ResNetArchitecture


@pytest.fixture(scope="session")
def small_resnet():
    """One bottleneck a stage, two groups of eight channels."""
    return ResNetArchitecture("bottleneck", (1, 2, 1, 1), 2, 8)


@pytest.fixture(scope="session")
def torchvision_small_resnet(randomise):
    """`small_resnet` built by torchvision, with random weights and statistics, in eval mode; not to be changed."""
    return randomise(models.ResNet(models.resnet.Bottleneck, [1, 2, 1, 1], groups=2, width_per_group=8)).eval()
