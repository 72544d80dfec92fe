"""FNA's published totals to the printed digit (spec FNA, sections 7 and 9)."""

import pytest
import torch

from fna_lightning.architectures import load_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.choices import Choices
from fna_lightning.costs import count
from fna_lightning.detectors import RetinaNet, SSDLite
from fna_lightning.search import Alphas
from fna_lightning.supernets import build_supernet


@pytest.mark.parametrize(
    ("name", "params", "billions"),
    [("mobilenet_v2", 11_488_244, 133.0534), ("fna_retinanet", 11_732_244, 133.0297)],
)
def test_retinanet(name, params, billions):
    """At 800x1088."""
    cost = count(RetinaNet(build_backbone(load_architecture(name), (3, 5, 7)), num_classes=80), (800, 1088))
    assert cost.params == params
    # The printed figure is rounded or cut off, depending on the row.
    assert cost.madds / 1e9 == pytest.approx(billions, abs=1e-4)


def params_of(*modules):
    return sum(tensor.numel() for module in modules for tensor in module.parameters())


@pytest.mark.parametrize(
    ("name", "params", "madds", "printed"),
    [
        ("mobilenet_v2", 2_880_832, 649_763_776, (4_322_988, 808.22)),
        ("fna_ssdlite", 3_188_160, 721_878_976, (4_630_316, 880.33)),
    ],
)
def test_ssdlite(name, params, madds, printed):
    """At 320x320: backbone with extra layers (in the paper they are one), head, and the whole network."""
    network = SSDLite(build_backbone(load_architecture(name), ("6.expand", 8)), num_classes=80)
    whole = count(network, (320, 320))
    assert params_of(network.extras) == 656_960
    assert params_of(network.backbone, network.extras) == params
    assert params_of(network.head) == 1_442_156
    assert (whole.params, round(whole.madds / 1e6, 2)) == printed
    # The head is what the rest leaves of the whole.
    assert round((whole.madds - madds) / 1e6, 2) == 158.45


def test_ssdlite_supernet(ssdlite_space):
    """Parameters of the release's backbone in the search: architecture parameters and extra layers included."""
    network = SSDLite(build_supernet(ssdlite_space, ("6.expand", 8)), num_classes=80)
    alphas = Alphas(Choices(network))
    assert params_of(network.backbone, network.extras, alphas) == 11_674_522
    assert params_of(alphas) == 138


@pytest.mark.parametrize(("side", "anchors"), [(300, 2268), (320, 2424), (512, 6132)])
def test_ssdlite_anchors(mobilenet, side, anchors):
    network = SSDLite(build_backbone(mobilenet, ("6.expand", 8)), num_classes=20).to("meta")
    outputs = network(torch.empty(2, 3, side, side, device="meta"))
    assert sum(map(len, outputs.anchors)) == outputs.logits.shape[1] == outputs.deltas.shape[1] == anchors
    assert outputs.logits.shape[2] == 21
