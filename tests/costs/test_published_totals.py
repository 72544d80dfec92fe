"""FNA's published totals for RetinaNet at 800x1088, to the printed digit (spec FNA, sections 7 and 9)."""

import pytest

from fna_lightning.architectures import load_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.costs import count
from fna_lightning.detectors import RetinaNet


@pytest.mark.parametrize(
    ("name", "params", "billions"),
    [("mobilenet_v2", 11_488_244, 133.0534), ("fna_retinanet", 11_732_244, 133.0297)],
)
def test_retinanet(name, params, billions):
    cost = count(RetinaNet(build_backbone(load_architecture(name), (3, 5, 7)), num_classes=80), (800, 1088))
    assert cost.params == params
    # The printed figure is rounded or cut off, depending on the row.
    assert cost.madds / 1e9 == pytest.approx(billions, abs=1e-4)
