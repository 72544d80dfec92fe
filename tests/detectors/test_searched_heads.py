"""Detectors whose towers are given, by an architecture or a space of heads."""

import pytest
import torch
from small_fcos import images
from torch import nn

from fna_lightning.architectures import load_architecture
from fna_lightning.blocks import Towers
from fna_lightning.choices import Choices
from fna_lightning.detectors import FCOS, RetinaNet
from fna_lightning.supernets import TowerSpace

HEADS = {"published": load_architecture("fad"), "searched": TowerSpace(2)}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("detector", [FCOS, RetinaNet])
def test_a_head_is_a_part(make_backbone, detector, head):
    plain = detector(make_backbone(), 3, fpn_channels=16)
    assert set(plain.parts()) == {"backbone"}
    network = detector(make_backbone(), 3, fpn_channels=16, head=head, tower_channels=8, tower_cells=1)
    towers = network.parts()["head"]
    assert isinstance(towers, Towers)
    choices = Choices(network)
    if len(choices):
        choices.set_mixture([torch.full((size,), 1 / size) for size in choices.sizes])
    outputs = network(images())
    assert outputs.logits.shape == plain(images()).logits.shape
    outputs.logits.sum().backward()
    assert all(p.grad is not None for p in towers.parameters())  # through the box tower as well
    others = [m for m in network.head.modules() if isinstance(m, nn.Conv2d) and m not in set(towers.modules())]
    assert len(others) == (3 if detector is FCOS else 2)
