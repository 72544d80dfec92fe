"""FCOS: its published size, its loss, its predictions."""

import math
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from small_fcos import SIZE, images, loud, random_targets, small
from torch import nn
from torchvision.models.detection import FCOS as REFERENCE
from torchvision.models.detection._utils import BoxLinearCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, sigmoid_focal_loss

from fna_lightning.architectures import load_architecture, maps_at
from fna_lightning.backbones import build_backbone
from fna_lightning.blocks import freeze, groups_of
from fna_lightning.costs import count
from fna_lightning.detectors import FCOS
from fna_lightning.detectors.locations import assign_locations, centerness, decode, giou

CONF = Path(__file__).parents[2] / "conf"


def detector_on(name):
    architecture = load_architecture(name)
    with torch.device("meta"):
        backbone = build_backbone(architecture, out_stages=maps_at(architecture.levels(), [8, 16, 32]))
        freeze(backbone, 2, norms=True)
        return FCOS(backbone, num_classes=80)


class TestPublishedSize:
    """Spec FAD 6.2."""

    @pytest.mark.parametrize(
        ("name", "params"), [("resnet50", 32.24e6), ("resnet101", 51.18e6), ("resnext101_64x4d", 89.99e6)]
    )
    def test_parameters(self, name, params):
        network = detector_on(name)
        assert sum(p.numel() for p in network.head.parameters()) == 4_920_666
        assert sum(p.numel() for p in network.parameters()) == pytest.approx(params, abs=5e3)

    def test_multiply_adds(self, make_backbone):
        network = FCOS(make_backbone((4, 6, 8, 10)), num_classes=80).to("meta")
        whole = count(network, (800, 1344)).madds
        rest = count(nn.Sequential(network.backbone), (800, 1344)).madds + fpn_madds(network.fpn)
        assert round((whole - rest) / 1e9, 1) == 110.1

    def test_loss_never_looks_at_values(self, make_backbone):
        # The meta device has no values: whatever would wait for the device fails there.
        network = FCOS(make_backbone(), num_classes=80).to("meta")
        outputs = network(torch.empty(2, 3, 64, 64, device="meta"))
        boxes = [torch.empty(5, 4, device="meta"), torch.empty(0, 4, device="meta")]
        labels = [torch.empty(n, dtype=torch.int64, device="meta") for n in (5, 0)]
        sum(network.loss(outputs, boxes, labels).values()).backward()


def fpn_madds(fpn):
    """Of the pyramid over maps of 800x1344, by its convolutions."""
    sides = [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]
    layers = [*zip(fpn.inner_blocks, sides, strict=False), *zip(fpn.layer_blocks, sides, strict=False)]
    pairs = [(block[0], size) for block, size in layers]
    pairs += [(fpn.extra_blocks.p6, sides[3]), (fpn.extra_blocks.p7, sides[4])]
    return sum(h * w * (layer.weight.numel() + layer.out_channels) for layer, (h, w) in pairs)


def test_fresh_network(tiny_backbone):
    network = small(tiny_backbone, fpn_channels=64, head_depth=4)
    assert torch.allclose(network.head.classes.bias, torch.tensor(-math.log(99)))
    convolutions = [m for m in network.head.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 4 + 4 + 3
    weights = torch.cat([m.weight.flatten() for m in convolutions])
    assert weights.std().item() == pytest.approx(0.01, rel=0.05)
    assert not any(m.bias.any() for m in convolutions if m is not network.head.classes)
    assert network.head.scales.tolist() == [1] * 5
    assert (network.fpn.extra_blocks.from_pyramid, network.fpn.extra_blocks.relu) == (True, True)
    for module in network.fpn.modules():
        if isinstance(module, nn.Conv2d):
            bound = math.sqrt(3 / (module.weight[0].numel()))
            assert 0.9 * bound < module.weight.abs().max() <= bound
            assert not module.bias.any()


@pytest.mark.parametrize("width", [1, 2, 7, 8, 16, 48, 64, 96, 128, 256])
def test_groups_of_any_width(width):
    groups = groups_of(width)
    norm = nn.GroupNorm(groups, width)
    assert groups == 32 or width < 128
    assert norm(torch.randn(2, width, 1, 1)).isfinite().all()
    assert width == 1 or norm(torch.randn(1, width, 1, 1)).isfinite().all()


def test_state_dict_names(tiny_backbone):
    names = set(small(tiny_backbone).state_dict())
    assert {name.split(".")[0] for name in names} == {"backbone", "fpn", "head"}
    assert {"head.scales", "head.towers.box.0.weight", "head.centerness.bias"} <= names


def test_outputs_are_in_the_order_of_locations(tiny_backbone):
    """Each level by itself, by its own scale, and row by row."""
    network = small(tiny_backbone).eval()
    with torch.no_grad():
        network.head.scales.copy_(torch.arange(1.0, 6.0))
        network.head.box.weight.normal_()
    batch = images(1)
    outputs = network(batch)
    maps = network.maps(batch)
    levels = list(network.fpn({name: maps[name] for name in network.features}).values())
    start = 0
    for number, level in enumerate(levels):
        box, classes = network.head.towers(level)
        height, width = level.shape[-2:]
        assert len(outputs.locations[number]) == height * width
        place = start + (height - 1) * width + width // 2
        cell = (0, slice(None), height - 1, width // 2)
        torch.testing.assert_close(outputs.distances[0, place], network.head.box(box)[cell] * (number + 1))
        torch.testing.assert_close(outputs.logits[0, place], network.head.classes(classes)[cell])
        torch.testing.assert_close(outputs.centerness[0, place], network.head.centerness(box)[cell][0])
        start += height * width
    assert outputs.centerness.shape == (1, start)


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_loss_against_plain_loops(tiny_backbone, smoothing):
    network = small(tiny_backbone, focal_alpha=0.3, focal_gamma=1.5, giou_smoothing=smoothing)
    boxes, labels = random_targets(3, 0, 5)
    outputs = loud(network(images(3)))
    targets = assign_locations(outputs.locations, network.strides, boxes, labels, 1.5)
    focal = overlap = central = weights = 0.0
    positives = 0
    for place in targets.positive.flatten().nonzero().flatten().tolist():
        found = outputs.distances.view(-1, 4)[place].relu()
        wanted = targets.distances.view(-1, 4)[place]
        weight = centerness(wanted).item()
        overlap += weight * (1 - giou(found, wanted, smoothing).item())
        p = 1 / (1 + math.exp(-outputs.centerness.flatten()[place].item()))
        central -= weight * math.log(p) + (1 - weight) * math.log(1 - p)
        weights += weight
        positives += 1
    for place, logit in enumerate(outputs.logits.view(-1, 3).tolist()):
        right = int(targets.labels.flatten()[place]) if targets.positive.flatten()[place] else -1
        for label, value in enumerate(logit):
            p = 1 / (1 + math.exp(-value))
            focal -= (0.3 * (1 - p) ** 1.5 * math.log(p)) if label == right else (0.7 * p**1.5 * math.log(1 - p))
    assert positives > 20
    loss = network.loss(outputs, boxes, labels)
    assert loss["classification"].item() == pytest.approx(focal / positives, rel=1e-4)
    assert loss["box"].item() == pytest.approx(overlap / weights, rel=1e-4)
    assert loss["centerness"].item() == pytest.approx(central / positives, rel=1e-4)


def test_loss_against_torchvision(tiny_backbone):
    """Classes and centerness; torchvision does not weigh its boxes, and knows no smoothing."""
    network = small(tiny_backbone, giou_smoothing=0.0)
    boxes, labels = random_targets(4, 2)
    outputs = loud(network(images()))
    reference = REFERENCE(_with_channels(network.backbone), num_classes=3).head
    matched = assign_locations(outputs.locations, network.strides, boxes, [torch.arange(4), torch.arange(2)], 1.5)
    wanted = reference.compute_loss(
        [{"boxes": b, "labels": k} for b, k in zip(boxes, labels, strict=True)],
        {
            "cls_logits": outputs.logits,
            "bbox_regression": outputs.distances.relu(),
            "bbox_ctrness": outputs.centerness[..., None],
        },
        [squares(network, outputs)] * 2,
        list(torch.where(matched.positive, matched.labels, -1)),
    )
    loss = network.loss(outputs, boxes, labels)
    torch.testing.assert_close(loss["classification"], wanted["classification"])
    torch.testing.assert_close(loss["centerness"], wanted["bbox_ctrness"])
    overlap = giou(outputs.distances.relu(), matched.distances)
    plain = torch.where(matched.positive, 1 - overlap, 0.0).sum() / matched.positive.sum()
    torch.testing.assert_close(plain, wanted["bbox_regression"], rtol=1e-4, atol=1e-5)


def squares(network, outputs):
    """Torchvision's anchors: a square of the stride around each location."""
    return torch.cat(
        [
            torch.cat([points - stride / 2, points + stride / 2], dim=1)
            for points, stride in zip(outputs.locations, network.strides, strict=True)
        ]
    )


def _with_channels(backbone):
    backbone.out_channels = 32  # of which torchvision asks for 32 groups
    return backbone


@pytest.mark.parametrize("counts", [(3, 0), (0, 0)])
def test_gradients_are_finite_without_boxes(tiny_backbone, counts):
    network = small(tiny_backbone)
    loss = network.loss(network(images()), *random_targets(*counts))
    assert set(loss) == {"classification", "box", "centerness"}
    assert all((loss[name] == 0) == (sum(counts) == 0) for name in ("box", "centerness"))
    sum(loss.values()).backward()
    for name, parameter in network.named_parameters():
        if not name.startswith("backbone.maps.2."):  # the map that nobody asked for
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_a_degenerate_box_does_no_harm(tiny_backbone):
    network = small(tiny_backbone)
    boxes = [torch.tensor([[20.0, 20.0, 20.0, 20.0], [10.0, 10.0, 60.0, 60.0]])]
    loss = network.loss(network(images(1)), boxes, [torch.tensor([0, 1])])
    assert all(value.isfinite() for value in loss.values())


def test_distances_below_zero_are_zero_in_training(tiny_backbone):
    network = small(tiny_backbone)
    targets = random_targets(4, 2)
    outputs = loud(network(images()))
    flat = outputs._replace(distances=outputs.distances.relu())
    torch.testing.assert_close(network.loss(outputs, *targets)["box"], network.loss(flat, *targets)["box"])


@pytest.mark.parametrize("relu", [True, False])
def test_predictions_by_plain_steps(tiny_backbone, relu):
    """Spec FAD 5.4, a level at a time."""
    network = small(tiny_backbone, candidates_per_level=30, score_threshold=0.3, relu_at_test=relu).eval()
    outputs = loud(network(images()))
    sizes = [(96, 128), (90, 70)]
    found = network.predict(outputs, torch.tensor(sizes))
    counts = [len(level) for level in outputs.locations]
    for image, (detections, size) in enumerate(zip(found, sizes, strict=True)):
        boxes, scores, labels = [], [], []
        for points, stride, logits, sides, central in zip(
            outputs.locations,
            network.strides,
            outputs.logits[image].split(counts),
            outputs.distances[image].split(counts),
            outputs.centerness[image].split(counts),
            strict=True,
        ):
            place, label = (logits.sigmoid() > 0.3).nonzero(as_tuple=True)
            score = logits.sigmoid()[place, label] * central.sigmoid()[place]
            best = score.argsort(descending=True)[:30]
            sides = (sides.relu() if relu else sides)[place[best]]
            box = decode(sides, points[place[best]], stride)
            kept = (box[:, 2:] >= box[:, :2]).all(dim=1)
            boxes.append(clip_boxes_to_image(box[kept], size))
            scores.append(score[best][kept].sqrt())
            labels.append(label[best][kept])
        boxes, scores, labels = (torch.cat(each) for each in (boxes, scores, labels))
        kept = batched_nms(boxes, scores, labels, 0.6)[:100]
        assert 20 < len(detections) <= 100
        torch.testing.assert_close(detections.boxes, boxes[kept])
        torch.testing.assert_close(detections.scores, scores[kept])
        assert torch.equal(detections.labels, labels[kept])


def test_predictions_equal_torchvision(tiny_backbone):
    """Which holds the joint score against the threshold: with a threshold of 0 the two are one."""
    network = small(tiny_backbone, score_threshold=0.0, candidates_per_level=50).eval()
    outputs = loud(network(images()))
    reference = REFERENCE(
        _with_channels(tiny_backbone),
        num_classes=3,
        anchor_generator=AnchorGenerator(((8,), (16,), (32,), (64,), (128,)), ((1.0,),) * 5),
        score_thresh=0.0,
        nms_thresh=0.6,
        detections_per_img=100,
        topk_candidates=50,
    )
    assert isinstance(reference.box_coder, BoxLinearCoder)
    counts = [len(level) for level in outputs.locations]
    sizes = [(96, 128), (90, 70)]
    expected = reference.postprocess_detections(
        {
            "cls_logits": list(outputs.logits.split(counts, dim=1)),
            "bbox_regression": list(outputs.distances.relu().split(counts, dim=1)),
            "bbox_ctrness": list(outputs.centerness[..., None].split(counts, dim=1)),
        },
        [list(squares(network, outputs).split(counts))] * 2,
        sizes,
    )
    for image, wanted in zip(network.predict(outputs, torch.tensor(sizes)), expected, strict=True):
        assert len(image) > 50
        torch.testing.assert_close(image.boxes, wanted["boxes"])
        torch.testing.assert_close(image.scores, wanted["scores"])
        assert torch.equal(image.labels, wanted["labels"])


def test_the_threshold_is_before_centerness(tiny_backbone):
    network = small(tiny_backbone).eval()
    outputs = network(images(1))
    logits = torch.full_like(outputs.logits, -9.0)
    logits[0, 40, 1] = 0.0
    central = torch.full_like(outputs.centerness, -8.0)
    outputs = outputs._replace(logits=logits, centerness=central, distances=outputs.distances.abs() + 1)
    (found,) = network.predict(outputs, torch.tensor([SIZE]))
    assert found.labels.tolist() == [1]
    assert found.scores.item() == pytest.approx(math.sqrt(0.5 / (1 + math.exp(8))), rel=1e-4)


def test_a_fresh_network_finds_nothing(tiny_backbone):
    network = small(tiny_backbone).eval()
    found = network.predict(network(torch.zeros(2, 3, *SIZE, dtype=torch.uint8)), torch.tensor([SIZE, SIZE]))
    assert [len(image) for image in found] == [0, 0]
    assert found[0].boxes.shape == (0, 4)


def test_mixed_precision(tiny_backbone):
    network = small(tiny_backbone)
    batch, targets = images(), random_targets(3, 2)
    exact = network.loss(network(batch), *targets)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(batch)
        loss = network.loss(outputs, *targets)
    assert outputs.logits.dtype == torch.bfloat16
    assert outputs.locations[0].dtype == torch.float32
    for name, value in loss.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[name].item(), rel=0.05)
    sum(loss.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.head.parameters())


def test_trains_after_inference_mode(tiny_backbone):
    # Lightning validates in inference mode first; nothing made there may be kept for training.
    network = small(tiny_backbone)
    with torch.inference_mode():
        network(images(1))
    sum(network.loss(network(images(1)), *random_targets(2)).values()).backward()


def test_training_learns_one_picture(tiny_backbone):
    network = small(tiny_backbone, fpn_channels=16)
    batch = images(1)
    boxes, labels = [torch.tensor([[20.0, 20.0, 70.0, 70.0]])], [torch.tensor([2])]
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(80):
        optimizer.zero_grad()
        sum(network.loss(network(batch), boxes, labels).values()).backward()
        optimizer.step()
    (found,) = network.predict(network(batch), torch.tensor([SIZE]))
    assert found.labels[0] == 2
    assert box_iou(found.boxes[:1], boxes[0]).item() > 0.7


def test_config_builds_the_default(tiny_backbone):
    config = OmegaConf.load(CONF / "detector" / "fcos.yaml")
    # The defaults list is Hydra's; the strides are read when the backbone is built.
    del config["defaults"], config["strides"], config["features"]
    network = instantiate(config)(tiny_backbone, num_classes=2)
    default = FCOS(tiny_backbone, num_classes=2)
    assert str(network) == str(default)
    assert network.selection == default.selection
    for name in ("center_radius", "focal_alpha", "focal_gamma", "giou_smoothing", "relu_at_test",
                 "score_threshold", "candidates_per_level"):  # fmt: skip
        assert getattr(network, name) == getattr(default, name), name
    assert torch.equal(network.normalize.std, default.normalize.std)


def test_focal_loss_is_a_sum(tiny_backbone):
    """Of all classes at all locations, divided once by the positives."""
    network = small(tiny_backbone)
    outputs = network(images())
    loss = network.loss(outputs, *random_targets(0, 0))
    zeros = torch.zeros_like(outputs.logits)
    torch.testing.assert_close(loss["classification"], sigmoid_focal_loss(outputs.logits, zeros).sum())
