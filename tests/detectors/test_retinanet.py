import math
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torchvision.models.detection import RetinaNet as ReferenceRetinaNet
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import box_iou

from fna_lightning.detectors import RetinaNet
from fna_lightning.detectors.anchors import octave_sizes
from fna_lightning.errors import ConfigError

SIZE = (96, 128)
CONF = Path(__file__).parents[2] / "conf"


def small(backbone, **settings):
    return RetinaNet(backbone, num_classes=3, **{"fpn_channels": 8, "head_depth": 2, **settings})


def random_targets(*counts, num_classes=3):
    boxes, labels = [], []
    for count in counts:
        corner = torch.rand(count, 2) * torch.tensor([SIZE[1] - 40.0, SIZE[0] - 40.0])
        boxes.append(torch.cat([corner, corner + 8 + torch.rand(count, 2) * 32], dim=1))
        labels.append(torch.randint(num_classes, (count,)))
    return boxes, labels


def loud(outputs, scale=2.0):
    """Outputs of a network that has opinions, unlike a fresh one."""
    return outputs._replace(
        logits=torch.randn_like(outputs.logits) * scale, deltas=torch.randn_like(outputs.deltas) * 0.3
    )


def count_convolutions(module, call):
    total = 0

    def add(layer, _, output):
        nonlocal total
        kernel = layer.kernel_size[0] * layer.kernel_size[1] * layer.in_channels // layer.groups
        total += output.numel() * (kernel + (layer.bias is not None))

    hooks = [m.register_forward_hook(add) for m in module.modules() if isinstance(m, nn.Conv2d)]
    call()
    for hook in hooks:
        hook.remove()
    return total


@pytest.fixture(scope="module")
def published(make_backbone):
    """FNA's RetinaNet on the meta device, over maps of MobileNetV2's widths."""
    return RetinaNet(make_backbone((24, 32, 96, 320)), num_classes=80).to("meta")


class TestPublishedSize:
    def test_parameters(self, published):
        assert sum(p.numel() for p in published.fpn.parameters()) == 3_213_312
        assert sum(p.numel() for p in published.head.parameters()) == 6_463_220
        assert published.num_anchors == 9

    @pytest.mark.parametrize("training", [False, True])
    def test_multiply_adds(self, published, training):
        published.train(training)
        images = torch.empty(1, 3, 800, 1088, device="meta")
        run = lambda: published(images)  # noqa: E731
        assert round(count_convolutions(published.fpn, run) / 1e9, 4) == 11.0023
        assert round(count_convolutions(published.head, run) / 1e9, 4) == 117.2040

    def test_level_sizes(self, published):
        outputs = published(torch.empty(1, 3, 800, 1088, device="meta"))
        sizes = [(100, 136), (50, 68), (25, 34), (13, 17), (7, 9)]
        assert [len(level) for level in outputs.anchors] == [9 * h * w for h, w in sizes]
        assert outputs.logits.shape == (1, 9 * sum(h * w for h, w in sizes), 80)
        assert outputs.deltas.shape == (*outputs.logits.shape[:2], 4)

    def test_loss_never_looks_at_values(self, published):
        # The meta device has no values: whatever would wait for the device fails there.
        outputs = published(torch.empty(2, 3, 64, 64, device="meta"))
        boxes = [torch.empty(5, 4, device="meta"), torch.empty(0, 4, device="meta")]
        labels = [torch.empty(n, dtype=torch.int64, device="meta") for n in (5, 0)]
        sum(published.loss(outputs, boxes, labels).values()).backward()


def test_fresh_head(tiny_backbone):
    network = small(tiny_backbone, head_depth=5)
    classes, boxes = network.head.classification_head, network.head.regression_head
    assert len(classes.conv) == len(boxes.conv) == 5
    assert torch.allclose(classes.cls_logits.bias, torch.tensor(-math.log(99)))
    weights = torch.cat([p.flatten() for name, p in network.head.named_parameters() if "weight" in name])
    assert weights.std().item() == pytest.approx(0.01, rel=0.05)
    assert not boxes.bbox_reg.bias.any()


def test_state_dict_names(tiny_backbone):
    network = small(tiny_backbone)
    assert {name.split(".")[0] for name in network.state_dict()} == {"backbone", "fpn", "head"}


def test_loss_against_plain_loops(tiny_backbone):
    network = small(tiny_backbone, focal_alpha=0.3, focal_gamma=1.5, box_beta=0.2)
    boxes, labels = random_targets(3, 0, 5)
    outputs = loud(network(torch.rand(3, 3, *SIZE) * 255))
    anchors = torch.cat(outputs.anchors)
    focal = distance = 0.0
    positives = 0
    for logits, deltas, image_boxes, image_labels in zip(
        outputs.logits, outputs.deltas, boxes, labels, strict=True
    ):
        matches = torch.full((len(anchors),), -1)
        if len(image_boxes):
            iou = box_iou(image_boxes, anchors)
            matches = Matcher(0.5, 0.4, allow_low_quality_matches=True)(iou)
        for anchor, matched, logit, delta in zip(
            anchors.tolist(), matches.tolist(), logits.tolist(), deltas.tolist(), strict=True
        ):
            if matched == -2:
                continue
            for label, value in enumerate(logit):
                p = 1 / (1 + math.exp(-value))
                if matched >= 0 and image_labels[matched] == label:
                    focal -= 0.3 * (1 - p) ** 1.5 * math.log(p)
                else:
                    focal -= 0.7 * p**1.5 * math.log(1 - p)
            if matched < 0:
                continue
            positives += 1
            x1, y1, x2, y2 = image_boxes[matched].tolist()
            w, h = anchor[2] - anchor[0], anchor[3] - anchor[1]
            wanted = (
                ((x1 + x2) - (anchor[0] + anchor[2])) / 2 / w,
                ((y1 + y2) - (anchor[1] + anchor[3])) / 2 / h,
                math.log((x2 - x1) / w),
                math.log((y2 - y1) / h),
            )
            for found, target in zip(delta, wanted, strict=True):
                error = abs(found - target)
                distance += error**2 / 0.4 if error < 0.2 else error - 0.1
    assert positives > 8
    loss = network.loss(outputs, boxes, labels)
    assert loss["classification"].item() == pytest.approx(focal / positives, rel=1e-5)
    assert loss["box"].item() == pytest.approx(distance / positives, rel=1e-5)


def test_loss_against_torchvision(tiny_backbone):
    # With one image both normalise by the same count; torchvision's smooth L1 has beta 1.
    network = small(tiny_backbone, box_beta=1.0)
    network.head.regression_head._loss_type = "smooth_l1"
    (boxes,), (labels,) = random_targets(4)
    outputs = loud(network(torch.rand(1, 3, *SIZE) * 255))
    anchors = torch.cat(outputs.anchors)
    matches = Matcher(0.5, 0.4, allow_low_quality_matches=True)(box_iou(boxes, anchors))
    reference = network.head.compute_loss(
        [{"boxes": boxes, "labels": labels}],
        {"cls_logits": outputs.logits, "bbox_regression": outputs.deltas},
        [anchors],
        [matches],
    )
    loss = network.loss(outputs, [boxes], [labels])
    torch.testing.assert_close(loss["classification"], reference["classification"])
    torch.testing.assert_close(loss["box"], reference["bbox_regression"])


@pytest.mark.parametrize("counts", [(3, 0), (0, 0)])
def test_gradients_are_finite_without_boxes(tiny_backbone, counts):
    network = small(tiny_backbone)
    loss = network.loss(network(torch.rand(2, 3, *SIZE) * 255), *random_targets(*counts))
    assert set(loss) == {"classification", "box"}
    assert (loss["box"] == 0) == (sum(counts) == 0)
    sum(loss.values()).backward()
    for name, parameter in network.named_parameters():
        if not name.startswith("backbone.maps.2."):  # the map that nobody asked for
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_a_degenerate_box_does_no_harm(tiny_backbone):
    network = small(tiny_backbone)
    boxes = [torch.tensor([[20.0, 20.0, 20.0, 20.0], [10.0, 10.0, 60.0, 60.0]])]
    loss = network.loss(network(torch.rand(1, 3, *SIZE) * 255), boxes, [torch.tensor([0, 1])])
    assert all(value.isfinite() for value in loss.values())


@pytest.mark.parametrize("limit", [30, 1000])
def test_predictions_equal_torchvision(tiny_backbone, limit):
    network = small(tiny_backbone, candidates_per_level=limit, score_threshold=0.3).eval()
    outputs = loud(network(torch.rand(2, 3, *SIZE) * 255))
    tiny_backbone.out_channels = 8
    reference = ReferenceRetinaNet(
        tiny_backbone,
        num_classes=3,
        anchor_generator=AnchorGenerator(
            tuple(map(tuple, octave_sizes([8, 16, 32, 64, 128], 4, 3))), ((0.5, 1.0, 2.0),) * 5
        ),
        score_thresh=0.3,
        nms_thresh=0.5,
        detections_per_img=100,
        topk_candidates=limit,
    )
    counts = [len(level) for level in outputs.anchors]
    sizes = [(96, 128), (90, 70)]
    expected = reference.postprocess_detections(
        {
            "cls_logits": list(outputs.logits.split(counts, dim=1)),
            "bbox_regression": list(outputs.deltas.split(counts, dim=1)),
        },
        [outputs.anchors] * 2,
        sizes,
    )
    found = network.predict(outputs, torch.tensor(sizes))
    for image, wanted, (height, width) in zip(found, expected, sizes, strict=True):
        assert 20 < len(image) <= 100
        torch.testing.assert_close(image.boxes, wanted["boxes"])
        torch.testing.assert_close(image.scores, wanted["scores"])
        assert torch.equal(image.labels, wanted["labels"])
        assert (image.boxes >= 0).all()
        assert (image.boxes <= torch.tensor([width, height, width, height])).all()


def test_a_fresh_network_finds_nothing(tiny_backbone):
    network = small(tiny_backbone).eval()
    found = network.predict(network(torch.zeros(2, 3, *SIZE, dtype=torch.uint8)), torch.tensor([SIZE, SIZE]))
    assert [len(image) for image in found] == [0, 0]
    assert found[0].boxes.shape == (0, 4)


def test_bytes_and_floats_are_the_same_picture(tiny_backbone):
    network = small(tiny_backbone).eval()
    images = torch.randint(256, (1, 3, *SIZE), dtype=torch.uint8)
    assert torch.equal(network(images).logits, network(images.float()).logits)


def test_trains_after_inference_mode(tiny_backbone):
    # Lightning validates in inference mode first; nothing made there may be kept for training.
    network = small(tiny_backbone)
    with torch.inference_mode():
        network(torch.rand(1, 3, *SIZE))
    sum(network.loss(network(torch.rand(1, 3, *SIZE)), *random_targets(2)).values()).backward()


def test_training_learns_one_picture(tiny_backbone):
    network = small(tiny_backbone, fpn_channels=16)
    images = torch.rand(1, 3, *SIZE) * 255
    boxes, labels = [torch.tensor([[20.0, 20.0, 70.0, 70.0]])], [torch.tensor([2])]
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        sum(network.loss(network(images), boxes, labels).values()).backward()
        optimizer.step()
    (found,) = network.predict(network(images), torch.tensor([SIZE]))
    assert found.labels[0] == 2
    assert box_iou(found.boxes[:1], boxes[0]).item() > 0.7


def test_features_by_name(make_backbone):
    network = small(make_backbone(), features=["2", "3", "5"])
    assert network.anchors.strides == (4, 8, 16, 32, 64)
    with pytest.raises(ConfigError, match=r"'9'.*'2', '3', '5', '7'"):
        small(make_backbone(), features=["3", "9"])
    with pytest.raises(ConfigError, match="num_classes=0"):
        RetinaNet(make_backbone(), 0)


def test_config_builds_the_default(tiny_backbone):
    config = OmegaConf.load(CONF / "detector" / "retinanet.yaml")
    # The defaults list is Hydra's; the strides are read when the backbone is built.
    del config["defaults"], config["strides"], config["features"]
    network = instantiate(config)(tiny_backbone, num_classes=2)
    default = RetinaNet(tiny_backbone, num_classes=2)
    assert str(network) == str(default)
    assert network.selection == default.selection
    for name in ("features", "num_anchors", "positive_iou", "negative_iou", "focal_alpha", "box_beta"):
        assert getattr(network, name) == getattr(default, name), name
    assert torch.equal(network.normalize.std, default.normalize.std)


def test_batch_norm_in_the_whole_pyramid(tiny_backbone):
    network = small(tiny_backbone, fpn_norm=True)
    convolutions = [m for m in network.fpn.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == sum(isinstance(m, nn.BatchNorm2d) for m in network.fpn.modules()) == 3 + 3 + 2
    assert all(m.bias is None for m in convolutions)
    sum(network.loss(network(torch.rand(2, 3, *SIZE) * 255), *random_targets(2, 0)).values()).backward()
    assert all(p.grad is not None for p in network.fpn.parameters())


def test_p6_of_p5_whatever_the_backbones_width(tiny_backbone):
    network = small(tiny_backbone, p6_from_pyramid=True, p7_relu=True)
    assert network.fpn.extra_blocks.p6.in_channels == 8
    assert network.fpn.extra_blocks.from_pyramid
    assert network.fpn.extra_blocks.relu


def test_deltas_in_their_deviation_and_the_weight_of_the_box_loss(tiny_backbone):
    plain = small(tiny_backbone, box_beta=0)
    scaled = small(tiny_backbone, box_beta=0, box_std=(0.5, 0.5, 0.5, 0.5), box_weight=0.25)
    targets = random_targets(3, 1)
    outputs = loud(plain(torch.rand(2, 3, *SIZE) * 255))
    doubled = outputs._replace(deltas=outputs.deltas * 2)
    torch.testing.assert_close(scaled.loss(doubled, *targets)["box"], plain.loss(outputs, *targets)["box"] / 2)
    sizes = torch.tensor([SIZE, SIZE])
    for own, expected in zip(scaled.predict(doubled, sizes), plain.predict(outputs, sizes), strict=True):
        torch.testing.assert_close(own.boxes, expected.boxes)


@pytest.mark.parametrize("name", ["retinanet_detnas", "retinanet_mmrazor"])
def test_detnas_settings_are_taken(tiny_backbone, name):
    base, more = (OmegaConf.load(CONF / "detector" / f"{each}.yaml") for each in ("retinanet", name))
    config = OmegaConf.merge(base, more)
    del config["defaults"], config["strides"], config["features"]
    network = instantiate(config)(tiny_backbone, num_classes=2)
    assert network.fpn.extra_blocks.from_pyramid == (name == "retinanet_detnas")
    assert any(isinstance(m, nn.BatchNorm2d) for m in network.fpn.modules()) == (name == "retinanet_mmrazor")
