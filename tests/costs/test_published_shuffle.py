"""Multiply-adds and parameters of DetNAS's networks against the values of its specification (section 5)."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fna_lightning.architectures import load_architecture, parse_architecture, published_names
from fna_lightning.backbones import Classifier, build_backbone
from fna_lightning.costs import count, tabulate
from fna_lightning.supernets import ShuffleSpace, build_supernet

SIZE = (224, 224)
MILLION = 1e6

# The authors' layout: body and whole multiply-adds in millions, whole parameters in millions.
AUTHORS = {
    "detnas_coco_fpn_300m": (288.08, 321.22, 3.533),
    "detnas_coco_fpn_300m_1019": (299.94, 333.07, 3.541),
    "detnas_coco_retinanet_300m": (291.21, 324.34, 3.725),
    "detnas_voc_fpn_300m": (316.39, 349.52, 3.651),
    "detnas_voc_retinanet_300m": (327.49, 360.63, 3.479),
    "mmrazor_coco_fpn_300m": (292.79, 325.92, 3.350),
    "mmrazor_spos_300m": (283.89, 317.02, 3.355),
    "0": (262.71, 295.84, 3.157),
    "1": (280.52, 313.65, 3.214),
    "2": (307.24, 340.37, 3.300),
    "3": (325.69, 358.83, 3.873),
    "detnas_coco_fpn_1_3g": (1269.18, 1318.37, 10.426),
    "detnas_coco_fpn_3_8g": (3937.83, 4085.87, 31.445),
}
# mmrazor's layout in mmrazor's own unit: backbone counted and parameters, classifier counted and parameters.
MMRAZOR = {
    "detnas_coco_fpn_300m": (298.497, 1.849, 332.236, 3.532),
    "detnas_coco_fpn_300m_1019": (311.292, 1.857, 345.031, 3.539),
    "detnas_coco_retinanet_300m": (302.611, 2.041, 336.350, 3.724),
    "detnas_voc_fpn_300m": (328.775, 1.967, 362.514, 3.650),
    "detnas_voc_retinanet_300m": (340.237, 1.795, 373.976, 3.478),
    "mmrazor_coco_fpn_300m": (303.474, 1.666, 337.213, 3.349),
    "mmrazor_spos_300m": (293.806, 1.671, 327.544, 3.354),
    "0": (272.446, 1.473, 306.185, None),
    "1": (290.259, 1.530, 323.998, None),
    "2": (316.977, 1.616, 350.716, None),
    "3": (340.174, 2.189, 373.913, None),
}


def named(name, layout):
    """A published network, or that of one operation throughout, in `layout`."""
    whole = parse_architecture(str([int(name)] * 20)) if name in "0123" else load_architecture(name)
    return replace(whole, layout=layout)


class Elements:
    """What runs of a network's convolutions, norms, activations and linear layer, by hooks on a real run."""

    def __init__(self, network):
        self.macs = self.biases = self.norms = self.activations = 0
        self.first_norm = None
        handles = [module.register_forward_hook(self._note) for module in network.modules()]
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, *SIZE))
        for handle in handles:
            handle.remove()

    def _note(self, module, _, output):
        if isinstance(module, nn.Conv2d):
            self.macs += module.weight[0].numel() * output.numel()
            self.biases += output.numel() if module.bias is not None else 0
        elif isinstance(module, nn.Linear):
            self.macs += module.weight.numel()
        elif isinstance(module, nn.BatchNorm2d):
            self.norms += output.numel()
            self.first_norm = self.first_norm or output.numel()
        elif isinstance(module, nn.ReLU):
            self.activations += output.numel()


def params_of(network):
    return sum(parameter.numel() for parameter in network.parameters()) / MILLION


def test_all_of_them_are_here():
    known = {name for name in published_names() if load_architecture(name).kind == "shuffle"}
    bases = {"shufflenet_300m", "shufflenet_1_3g", "shufflenet_3_8g", "shufflenet_small"}
    assert known - bases - {"spos_300m"} == {name for name in AUTHORS if len(name) > 1}


@pytest.mark.parametrize("name", AUTHORS)
def test_in_the_authors_layout(name):
    architecture = named(name, "detnas")
    backbone, whole = build_backbone(architecture), Classifier(build_backbone(architecture, (5,)), 1000)
    for network, expected in ((backbone, AUTHORS[name][0]), (whole, AUTHORS[name][1])):
        found = Elements(network)
        assert found.macs / MILLION == pytest.approx(expected, abs=0.00501)
        # Their counts leave the biases of stem and tail out.
        assert count(network, SIZE).madds == found.macs + found.biases
    assert params_of(whole) == pytest.approx(AUTHORS[name][2], abs=0.000501)


@pytest.mark.parametrize("name", MMRAZOR)
def test_in_mmrazors_layout(name):
    """It counts 2 an element for a norm, 1 for an activation and for pooling, nothing for a synchronised stem."""
    counted, params, classifier_counted, classifier_params = MMRAZOR[name]
    architecture = named(name, "mmrazor")
    backbone, whole = build_backbone(architecture), Classifier(build_backbone(architecture, (5,)), 1000)
    found = Elements(backbone)
    assert found.biases == 0
    elements = found.macs + 2 * (found.norms - found.first_norm) + found.activations
    assert elements / MILLION == pytest.approx(counted, abs=0.000501)
    stem = 2 * architecture.stem_width / MILLION
    assert params_of(backbone) - stem == pytest.approx(params, abs=0.000501)
    found, pooled = Elements(whole), 7 * 7 * architecture.tail_width
    elements = found.macs + 2 * found.norms + found.activations + pooled
    assert elements / MILLION == pytest.approx(classifier_counted, abs=0.000501)
    if classifier_params is not None:
        assert params_of(whole) == pytest.approx(classifier_params, abs=0.000501)


# Of one block in the authors' layout, in millions: stride 2 with operations 0 to 3, then stride 1.
BLOCKS = {
    1: (13.397, 15.805, 19.418, 13.146, 7.326, 8.931, 11.340, 12.343),
    2: (26.305, 28.111, 30.821, 20.296, 10.600, 11.603, 13.108, 16.746),
    3: (30.670, 31.674, 33.179, 21.199, 10.317, 10.819, 11.572, 15.900),
    4: (30.388, 30.890, 31.642, 20.635, 10.176, 10.427, 10.804, 15.476),
}


def closed_form(layout, side, ci, co, stride, operation):
    """Multiply-adds of a block: the formulas of the specification."""
    m, h2, k2 = co // 2, side * side, (9, 25, 49, 9)[operation]
    xception = operation == 3
    if stride == 1:
        return h2 * (3 * m * m + 27 * m if xception else 2 * m * m + k2 * m)
    new, kept = (co - ci, ci) if layout == "detnas_supernet" else (m, m)
    if xception:
        return h2 * (18 * ci + ci * m + 18 * m + m * m + m * new + ci * kept)
    return 4 * h2 * ci * m + h2 * (k2 * m + m * new + k2 * ci + ci * kept)


@pytest.mark.parametrize("layout", ["detnas_supernet", "mmrazor"])
def test_every_block_of_the_supernet(layout):
    base = replace(load_architecture("shufflenet_300m"), layout=layout)
    with torch.device("meta"):
        supernet = build_supernet(ShuffleSpace(base))
    table = tabulate(supernet, SIZE)
    blocks = iter(table.terms)
    for number, (ci, stage) in enumerate(zip(base.in_widths, base.stages, strict=True), start=1):
        for index in range(len(stage.layers)):
            term, side = next(blocks), 112 // 2**number
            (widths, stride) = ((ci, stage.width), 2) if index == 0 else ((stage.width, stage.width), 1)
            assert term.costs.tolist() == [closed_form(layout, side, *widths, stride, k) for k in range(4)]
            if layout == "detnas_supernet":
                expected = BLOCKS[number][4 * (stride == 1) :][:4]
                assert (term.costs / MILLION).tolist() == pytest.approx(expected, abs=0.000501)
    stem = 27 * 16 * 112**2
    assert table.fixed == stem + (16 * 112**2 if base.form.bias else 0)


@pytest.mark.parametrize(
    ("name", "params"), [("shufflenet_300m", 6.81), ("shufflenet_1_3g", 28.64), ("shufflenet_3_8g", 90.83)]
)
def test_supernets(name, params):
    with torch.device("meta"):
        supernet = build_supernet(ShuffleSpace(load_architecture(name)))
    assert params_of(supernet) == pytest.approx(params, abs=0.00501)


def test_the_classifiers_fixed_part():
    """Of the authors' table of costs: stem, and tail with its linear layer."""
    network = Classifier(build_backbone(load_architecture("shufflenet_300m"), (5,)), 1000)
    assert count(network.backbone.stages[0], SIZE).madds - 16 * 112**2 == 5_419_008
    tail = count(network.backbone.stages[5], (7, 7), 640).madds - 1024 * 7**2
    assert tail + network.classifier.weight.numel() == 33_136_640
