"""Detectors whose towers are given, by an architecture or a space of heads."""

import pytest
from small_fcos import images
from torch import nn

from fna_lightning.detectors import FCOS, RetinaNet
from fna_lightning.errors import ConfigError


class Searched(nn.Module):
    """What stands for towers of an architecture: the classes read what is made for the boxes (spec FAD 1.2)."""

    def __init__(self, width, channels, cells):
        super().__init__()
        self.box = nn.Sequential(*(nn.Conv2d(width, width, 1) for _ in range(cells)))
        self.classes = nn.Sequential(nn.Conv2d(width, channels, 1), nn.Conv2d(channels, width, 1))

    def forward(self, feature):
        box = self.box(feature)
        return box, self.classes(box) + feature


@pytest.fixture
def searched(monkeypatch):
    """Lets detectors build `Searched` of any head."""
    for name in ("fcos", "retinanet"):
        place = f"fna_lightning.detectors.{name}.build_head_towers"
        monkeypatch.setattr(place, lambda _, width, channels, cells: Searched(width, channels, cells))


@pytest.mark.usefixtures("searched")
@pytest.mark.parametrize("detector", [FCOS, RetinaNet])
def test_a_head_is_a_part(make_backbone, detector):
    plain = detector(make_backbone(), 3, fpn_channels=16)
    assert set(plain.parts()) == {"backbone"}
    network = detector(make_backbone(), 3, fpn_channels=16, head="some", tower_channels=5, tower_cells=3)
    towers = network.parts()["head"]
    assert isinstance(towers, Searched)
    assert (len(towers.box), towers.classes[0].out_channels) == (3, 5)
    outputs = network(images())
    assert outputs.logits.shape == plain(images()).logits.shape
    outputs.logits.sum().backward()
    assert all(p.grad is not None for p in towers.parameters())  # through the box tower as well
    others = [m for m in network.head.modules() if isinstance(m, nn.Conv2d) and m not in set(towers.modules())]
    assert len(others) == (3 if detector is FCOS else 2)


@pytest.mark.parametrize("detector", [FCOS, RetinaNet])
def test_a_head_that_nobody_can_build(make_backbone, detector):
    with pytest.raises(ConfigError, match="architecture: no towers of a head of kind str"):
        detector(make_backbone(), 3, head="some")
