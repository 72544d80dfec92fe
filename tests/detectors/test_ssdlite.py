import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from small_ssdlite import SIZE, images, loud, random_targets, small
from torch import nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from fna_lightning.detectors import SSDLite
from fna_lightning.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def backbone(make_backbone):
    return make_backbone((6, 10), (16, 32), ("6", "8"))


@pytest.fixture(scope="module")
def published(make_backbone):
    """FNA's SSDLite on the meta device, over maps of MobileNetV2's widths."""
    return SSDLite(make_backbone((576, 1280), (16, 32), ("6", "8")), num_classes=80).to("meta")


class TestStructure:
    @pytest.mark.parametrize(
        ("side", "sizes", "anchors"),
        [(320, (20, 10, 5, 3, 2, 1), 2424), (512, (32, 16, 8, 4, 2, 1), 6132), (288, (18, 9, 5, 3, 2, 1), 2006)],
    )
    def test_anchors_of_every_input(self, published, side, sizes, anchors):
        outputs = published(torch.empty(2, 3, side, side, device="meta"))
        per_cell = (4, 6, 6, 6, 4, 4)
        assert [len(a) for a in outputs.anchors] == [s * s * n for s, n in zip(sizes, per_cell, strict=True)]
        assert outputs.logits.shape == (2, anchors, 81)
        assert outputs.deltas.shape == (2, anchors, 4)

    def test_loss_never_looks_at_values(self, published):
        # The meta device has no values: whatever would wait for the device fails there.
        outputs = published(torch.empty(2, 3, 64, 64, device="meta"))
        boxes = [torch.empty(5, 4, device="meta"), torch.empty(0, 4, device="meta")]
        labels = [torch.empty(n, dtype=torch.int64, device="meta") for n in (5, 0)]
        sum(published.loss(outputs, boxes, labels).values()).backward()

    def test_layers_are_those_of_the_release(self, published):
        """A norm behind each convolution, and ReLU6 except at the end."""
        extras = [
            [(m.kernel_size[0], m.stride[0], m.in_channels, m.out_channels, m.groups) for m in convolutions(layer)]
            for layer in published.extras
        ]
        assert extras == [
            [(1, 1, wide, narrow, 1), (3, 2, narrow, narrow, narrow), (1, 1, narrow, out, 1)]
            for wide, narrow, out in ((1280, 256, 512), (512, 128, 256), (256, 128, 256), (256, 64, 128))
        ]
        widths, per_cell = (576, 1280, 512, 256, 256, 128), (4, 6, 6, 6, 4, 4)
        for name, columns in (("classes", 81), ("boxes", 4)):
            found = [
                [(m.kernel_size[0], m.in_channels, m.out_channels, m.groups) for m in convolutions(layer)]
                for layer in published.head[name].module_list
            ]
            assert found == [
                [(3, width, width, width), (1, width, number * columns, 1)]
                for width, number in zip(widths, per_cell, strict=True)
            ]
        parts = [*published.extras.modules(), *published.head.modules()]
        norms = [m for m in parts if isinstance(m, nn.BatchNorm2d)]
        assert len(norms) == len(convolutions(published.extras)) + len(convolutions(published.head)) == 12 + 24
        assert {norm.eps for norm in norms} == {1e-3}
        assert not any(m.bias is not None for m in parts if isinstance(m, nn.Conv2d))
        assert sum(isinstance(m, nn.ReLU6) for m in parts) == 12 + 12

    def test_fresh_parameters(self, make_backbone):
        network = SSDLite(make_backbone((64, 96), (16, 32), ("6", "8")), 20)
        for part in (network.extras, network.head):
            weights = torch.cat([m.weight.detach().flatten() for m in convolutions(part)])
            assert weights.std().item() == pytest.approx(0.03, rel=0.02)
            assert abs(weights.mean().item()) < 1e-3
            norms = [m for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
            assert all(m.weight.eq(1).all() and m.bias.eq(0).all() for m in norms)

    def test_state_dict_names(self, backbone):
        assert {name.split(".")[0] for name in small(backbone).state_dict()} == {"backbone", "extras", "head"}


def convolutions(module):
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)]


def test_outputs_stand_beside_their_anchors(backbone):
    """Only one cell's features differ from the rest: the outputs that change are those of the boxes around it."""
    network = small(backbone, extra_channels=(), features=["6"] * 3, anchor_ratios=((2,),) * 3).eval()
    picture = torch.full((1, 3, *SIZE), 128.0)
    other = picture.clone()
    other[..., 32:48, 80:96] = 0  # row 2, column 5 of the first map
    with torch.no_grad():
        plain, changed = network(picture), network(other)
    moved = (plain.logits != changed.logits).any(dim=-1)[0, : len(plain.anchors[0])]
    centres = (plain.anchors[0][:, :2] + plain.anchors[0][:, 2:]) / 2
    near = ((centres - torch.tensor([88.0, 40.0])).abs() < 17).all(dim=1)
    assert moved.sum() == near.sum() == 9 * 4
    assert torch.equal(moved, near)


# Prediction


def test_predictions_equal_torchvision(backbone):
    network = small(backbone, score_threshold=0.3, nms_threshold=0.4, max_detections=25).eval()
    outputs = loud(network(images()), 3.0)
    sizes = [(96, 128), (90, 70)]
    reference = SimpleNamespace(
        box_coder=BoxCoder((10.0, 10.0, 5.0, 5.0)),
        score_thresh=0.3,
        topk_candidates=10_000,
        nms_thresh=0.4,
        detections_per_img=25,
    )
    expected = SSD.postprocess_detections(
        reference,
        {"cls_logits": outputs.logits, "bbox_regression": outputs.deltas},
        [torch.cat(outputs.anchors)] * 2,
        sizes,
    )
    found = network.predict(outputs, torch.tensor(sizes))
    for image, wanted, (height, width) in zip(found, expected, sizes, strict=True):
        assert len(image) == 25
        torch.testing.assert_close(image.boxes, wanted["boxes"])
        torch.testing.assert_close(image.scores, wanted["scores"])
        assert torch.equal(image.labels, wanted["labels"] - 1)
        assert (image.boxes >= 0).all()
        assert (image.boxes <= torch.tensor([width, height, width, height])).all()


def test_a_sure_background_finds_nothing(backbone):
    network = small(backbone).eval()
    outputs = network(torch.zeros(2, 3, *SIZE, dtype=torch.uint8))
    outputs.logits[..., 0] = 10
    found = network.predict(outputs, torch.tensor([SIZE, SIZE]))
    assert [len(image) for image in found] == [0, 0]
    assert found[0].boxes.shape == (0, 4)


def test_a_box_has_every_label_that_scores(backbone):
    network = small(backbone).eval()
    outputs = network(images(1))
    outputs.logits[:] = torch.tensor([10.0, 0.0, 0.0, 0.0])
    outputs.logits[0, 7] = torch.tensor([0.0, 1.0, 1.5, -20.0])
    (found,) = network.predict(outputs, torch.tensor([SIZE]))
    assert found.labels.tolist() == [1, 0]
    assert torch.equal(found.boxes[0], found.boxes[1])
    total = 1 + math.e + math.exp(1.5) + math.exp(-20)
    assert found.scores.tolist() == pytest.approx([math.exp(1.5) / total, math.e / total])


def test_training_learns_one_picture(backbone):
    network = small(backbone)
    batch = images()
    boxes, labels = [torch.tensor([[20.0, 20.0, 70.0, 70.0]])] * 2, [torch.tensor([2])] * 2
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        sum(network.loss(network(batch), boxes, labels).values()).backward()
        optimizer.step()
    found = network.predict(network(batch), torch.tensor([SIZE] * 2))
    for image in found:
        assert image.labels[0] == 2
        assert box_iou(image.boxes[:1], boxes[0]).item() > 0.7


def test_trains_after_inference_mode(backbone):
    # Lightning validates in inference mode first; nothing made there may be kept for training.
    network = small(backbone)
    with torch.inference_mode():
        network(images())
    sum(network.loss(network(images()), *random_targets(2, 1)).values()).backward()


# Settings


def test_pixels_are_scaled_by_the_settings(backbone):
    network = small(backbone)
    assert network.normalize.std.flatten().tolist() == [1, 1, 1]
    assert network.normalize.mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert small(backbone, std=(2, 3, 4), mean=(0, 0, 1)).normalize.std.flatten().tolist() == [2, 3, 4]


def test_one_small_image_is_too_few_to_train(backbone):
    network = small(backbone)
    one = torch.rand(1, 3, 128, 100)
    with pytest.raises(ConfigError, match=r"data\.batch_size=1: .*give 2 or more"):
        network(one)
    assert network.eval()(one).logits.isfinite().all()
    network.train()
    assert network(torch.rand(2, 3, 128, 100)).logits.isfinite().all()
    assert network(torch.rand(1, 3, 160, 100)).logits.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"features": ["8", "9"]}, r"'9'.*'6', '8'"),
        ({"extra_channels": (12,)}, r"anchor_ratios has 4 lists for 3 maps"),
        ({"extra_channels": (), "anchor_ratios": ((2,), (2,))}, r"2 lists for 2 maps.*three maps or more"),
        ({"anchor_range": (0.95, 0.2)}, r"anchor_range=\[0.95, 0.2\].*let them grow"),
        ({"anchor_range": (0.01, 0.9)}, r"boxes of 0 to"),
        ({"anchor_base": 3}, r"anchor_base=3: gives default boxes of 0 to"),
    ],
)
def test_settings_that_do_not_fit(backbone, settings, words):
    with pytest.raises(ConfigError, match=words):
        small(backbone, **settings)


def test_no_classes(backbone):
    with pytest.raises(ConfigError, match="num_classes=0"):
        SSDLite(backbone, 0)


def test_config_builds_the_default(backbone):
    config = OmegaConf.load(CONF / "detector" / "ssdlite.yaml")
    assert config["strides"] == ["16.expand", "head"]
    # The defaults list is Hydra's; the maps are read when the backbone is built.
    del config["defaults"], config["strides"], config["features"]
    network = instantiate(config)(backbone, num_classes=2)
    default = SSDLite(backbone, num_classes=2)
    assert str(network) == str(default)
    assert network.selection == default.selection
    names = ("features", "positive_iou", "negative_iou", "negatives_per_positive", "box_beta")
    for name in names:
        assert getattr(network, name) == getattr(default, name), name
    assert torch.equal(network.box_coding.weights, default.box_coding.weights)
    assert torch.equal(network.normalize.std, default.normalize.std)
    assert torch.equal(network.normalize.mean, default.normalize.mean)
    for mine, other in zip(network.anchors.buffers(), default.anchors.buffers(), strict=True):
        assert torch.equal(mine, other)
