"""What networks of every kind say of batches that their norms cannot be trained on."""

from functools import partial

import pytest
import torch
from torch import nn

from fna_lightning.architectures import load_architecture
from fna_lightning.backbones import Classifier, build_backbone
from fna_lightning.detectors import RetinaNet, SSDLite
from fna_lightning.errors import ConfigError
from fna_lightning.segmenters import DeepLabV3, DeepLabV3Plus

KINDS = {
    "classifier": partial(Classifier, num_classes=2),
    "retinanet": partial(RetinaNet, num_classes=2, fpn_channels=8, head_depth=1),
    "ssdlite": partial(SSDLite, num_classes=2),
    "deeplabv3": partial(DeepLabV3, num_classes=2, channels=8),
    "deeplabv3plus": partial(DeepLabV3Plus, num_classes=2, channels=8),
}


@pytest.fixture(params=KINDS)
def network(request):
    backbone = build_backbone(load_architecture("mobile_small"), ("2", "3", "5", "7"))
    return KINDS[request.param](backbone)


@pytest.mark.parametrize("synchronised", [False, True])
def test_one_small_picture_is_too_few_to_train(network, synchronised):
    if synchronised:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    words = (
        r"^data\.batch_size=1: a picture of 32x20 \(height x width\) .* one value per channel.*; give 2 or more$"
    )
    with pytest.raises(ConfigError, match=words):
        network(torch.zeros(1, 3, 32, 20))
    network(torch.zeros(2, 3, 32, 20))
    network.eval()(torch.zeros(1, 3, 32, 20))


def test_other_errors_are_not_touched(network):
    network.normalize.forward = lambda _: (_ for _ in ()).throw(ValueError("another"))
    with pytest.raises(ValueError, match=r"^another$"):
        network(torch.zeros(1, 3, 32, 32))
