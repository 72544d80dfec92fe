"""YOLOF: its loss, its boxes, its predictions."""

import math
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from small_yolof import SIZE, images, loud, random_targets, small
from test_uniform import BACKGROUND, UNSCORED, by_loops
from torch import nn
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image, generalized_box_iou_loss

from fna_lightning.architectures import load_architecture, maps_at
from fna_lightning.backbones import build_backbone
from fna_lightning.detectors import YOLOF
from fna_lightning.detectors.dense import BoxCoding, box_giou
from fna_lightning.detectors.yolof import joint_logit
from fna_lightning.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"
ANCHORS = 3 * 4 * 5


def box_of(deltas, anchor, clamp=32):
    """(Girshick et al. 2014, appendix C), its centre not far from the anchor's."""
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x = (anchor[0] + anchor[2]) / 2 + min(max(deltas[0] * width, -clamp), clamp)
    y = (anchor[1] + anchor[3]) / 2 + min(max(deltas[1] * height, -clamp), clamp)
    width, height = width * math.exp(deltas[2]), height * math.exp(deltas[3])
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def generalised_overlap(one, other):
    inner = max(min(one[2], other[2]) - max(one[0], other[0]), 0) * max(
        min(one[3], other[3]) - max(one[1], other[1]), 0
    )
    outer = (max(one[2], other[2]) - min(one[0], other[0])) * (max(one[3], other[3]) - min(one[1], other[1]))
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - inner
    return inner / union - (outer - union) / outer


@pytest.mark.parametrize("counts", [(3, 0, 5), (1, 1, 1)])
def test_loss_against_plain_loops(tiny_backbone, counts):
    network = small(tiny_backbone, focal_alpha=0.3, focal_gamma=1.5)
    boxes, labels = random_targets(*counts)
    outputs = loud(network(images(3)))
    focal = distance = 0.0
    positives = 0
    anchors = outputs.anchors[0].tolist()
    for number in range(3):
        predicted = [box_of(d, a) for d, a in zip(outputs.deltas[number].tolist(), anchors, strict=True)]
        truth, pairs = by_loops(predicted, anchors, boxes[number].tolist(), labels[number].tolist())
        positives += sum(isinstance(each, int) for each in truth)
        for anchor, box, counted in pairs:
            if counted:
                distance += 1 - generalised_overlap(predicted[anchor], boxes[number].tolist()[box])
        for logits, right in zip(outputs.logits[number].tolist(), truth, strict=True):
            for label, logit in enumerate(logits) if right != UNSCORED else ():
                p = 1 / (1 + math.exp(-logit))
                focal -= 0.3 * (1 - p) ** 1.5 * math.log(p) if label == right else 0.7 * p**1.5 * math.log(1 - p)
        assert {BACKGROUND, UNSCORED} & set(truth)
    assert positives >= 4
    loss = network.loss(outputs, boxes, labels)
    assert loss["classification"].item() == pytest.approx(focal / positives, rel=1e-4)
    assert loss["box"].item() == pytest.approx(distance / positives, rel=1e-4)


def test_loss_of_a_case_by_hand(make_backbone):
    """One cell and one anchor of 32 pixels on the picture's corner, which predicts itself; one box, half of it."""
    network = YOLOF(make_backbone(), 1, channels=8, block_channels=4, anchor_scales=(1.0,)).eval()
    outputs = network(torch.zeros(1, 3, 32, 32))
    assert outputs.anchors[0].tolist() == [[-16, -16, 16, 16]]
    outputs = outputs._replace(logits=torch.zeros(1, 1, 1), deltas=torch.zeros(1, 1, 4))
    loss = network.loss(outputs, [torch.tensor([[-16.0, -16.0, 16.0, 0.0]])], [torch.tensor([0])])
    assert loss["classification"].item() == pytest.approx(0.25 * 0.25 * math.log(2))
    assert loss["box"].item() == pytest.approx(2 * (1 - 0.5))  # near by place, and by prediction


@pytest.mark.parametrize("counts", [(3, 0), (0, 0)])
def test_gradients_are_finite_without_boxes(tiny_backbone, counts):
    network = small(tiny_backbone)
    loss = network.loss(network(images()), *random_targets(*counts))
    assert set(loss) == {"classification", "box"}
    assert (loss["box"] == 0) == (sum(counts) == 0)
    sum(loss.values()).backward()
    for name, parameter in network.named_parameters():
        if "backbone.maps" not in name or ".7." in name:  # the map that is read
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_loss_never_looks_at_values(make_backbone):
    # The meta device has no values: whatever would wait for the device fails there.
    network = small(make_backbone()).to("meta")
    outputs = network(torch.empty(2, 3, 64, 64, device="meta"))
    boxes = [torch.empty(5, 4, device="meta"), torch.empty(0, 4, device="meta")]
    labels = [torch.empty(n, dtype=torch.int64, device="meta") for n in (5, 0)]
    sum(network.loss(outputs, boxes, labels).values()).backward()


def test_a_degenerate_box_does_no_harm(tiny_backbone):
    network = small(tiny_backbone)
    boxes = [torch.tensor([[20.0, 20.0, 20.0, 20.0], [10.0, 10.0, 60.0, 60.0]])]
    loss = network.loss(network(images(1)), boxes, [torch.tensor([0, 1])])
    sum(loss.values()).backward()
    assert all(p.grad.isfinite().all() for p in network.head.parameters())


class TestOverlap:
    def test_by_hand(self):
        boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]] * 3)
        others = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0], [3.0, 0.0, 5.0, 2.0]])
        assert box_giou(boxes, others).tolist() == pytest.approx([1, 1 / 3, -1 / 5], abs=1e-6)

    def test_values_and_gradients_are_torchvisions(self):
        # Apart from each other and within each other too.
        found = (torch.rand(200, 4) * 40).cumsum(1)[:, [0, 1, 2, 3]].requires_grad_()
        wanted = (torch.rand(200, 4) * 40).cumsum(1)
        ours, theirs = (1 - box_giou(found, wanted)), generalized_box_iou_loss(found, wanted)
        torch.testing.assert_close(ours, theirs)
        assert (ours > 1).any()
        assert (ours < 0.9).any()
        torch.testing.assert_close(*(torch.autograd.grad(each.sum(), found)[0] for each in (ours, theirs)))

    def test_gradients_through_decoding(self):
        """Against differences, of boxes within the clamp and beyond it."""
        coding = BoxCoding(center_clamp=32.0).double()
        anchors = torch.tensor([[0.0, 0.0, 64.0, 64.0], [20.0, 0.0, 148.0, 128.0]], dtype=torch.float64)
        wanted = torch.tensor([[20.0, 3.0, 120.0, 70.0], [100.0, 90.0, 200.0, 210.0]], dtype=torch.float64)
        deltas = torch.tensor([[[0.2, -0.1, 0.3, -0.2], [0.1, 0.9, 0.1, 0.2]]], dtype=torch.float64)

        def loss(values):
            return box_giou(coding.decode(values, anchors)[0], wanted).sum()

        assert torch.autograd.gradcheck(loss, deltas.requires_grad_())
        (gradient,) = torch.autograd.grad(loss(deltas), deltas)
        assert (gradient == 0).nonzero().tolist() == [[0, 1, 1]]  # the one centre that is held


class TestDecoding:
    anchors = torch.tensor([[0.0, 0.0, 64.0, 64.0], [-240.0, -240.0, 272.0, 272.0]])

    def test_centres_are_held(self):
        deltas = torch.tensor([[[1.0, -1.0, 0.0, 0.0], [0.05, 0.5, 0.0, math.log(0.5)]]])
        found = BoxCoding(center_clamp=32.0).decode(deltas, self.anchors)
        torch.testing.assert_close(
            found[0], torch.tensor([[32.0, -32.0, 96.0, 32.0], [-214.4, -80.0, 297.6, 176.0]])
        )

    def test_in_the_unit_of_deltas(self):
        deltas = torch.randn(2, 2, 4) * 3
        std = (0.1, 0.2, 0.5, 0.4)
        wanted = BoxCoding(center_clamp=10.0).decode(deltas * torch.tensor(std), self.anchors)
        torch.testing.assert_close(BoxCoding(std, center_clamp=10.0).decode(deltas, self.anchors), wanted)

    def test_against_plain_numbers(self):
        deltas = torch.randn(1, 2, 4)
        found = BoxCoding(center_clamp=32.0).decode(deltas, self.anchors)[0]
        wanted = [box_of(d, a) for d, a in zip(deltas[0].tolist(), self.anchors.tolist(), strict=True)]
        torch.testing.assert_close(found, torch.tensor(wanted), rtol=1e-5, atol=1e-3)


def test_joint_logit_is_that_of_the_product():
    logits, objectness = torch.randn(500, 3) * 4, torch.randn(500, 1) * 4
    product = logits.double().sigmoid() * objectness.double().sigmoid()
    torch.testing.assert_close(joint_logit(logits, objectness).double().sigmoid(), product, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("one", "other"), [(200.0, 300.0), (-200.0, -300.0), (200.0, -200.0), (0.0, 500.0)])
def test_joint_logit_of_sure_predictions(one, other):
    """The release cuts exponentials off at 1e8; here none are too large."""
    values = torch.tensor([one, other], requires_grad=True)
    found = joint_logit(values[0], values[1])
    wanted = min(one, other) if max(one, other) > 0 else one + other
    assert found.item() == pytest.approx(wanted)
    (gradient,) = torch.autograd.grad(found, values)
    assert gradient.isfinite().all()


def test_fresh_network(tiny_backbone):
    network = small(tiny_backbone, channels=64, block_channels=32)
    assert torch.allclose(network.head.classes.bias, torch.tensor(-math.log(99)))
    narrow = [
        m for part in (network.encoder.blocks, network.head) for m in part.modules() if isinstance(m, nn.Conv2d)
    ]
    assert len(narrow) == 4 * 3 + 2 + 4 + 3
    assert torch.cat([m.weight.flatten() for m in narrow]).std().item() == pytest.approx(0.01, rel=0.05)
    assert not any(m.bias.any() for m in narrow if m.bias is not None and m is not network.head.classes)
    for module in network.encoder.project.modules():
        if isinstance(module, nn.Conv2d):
            bound = math.sqrt(3 / module.weight[0].numel())
            assert 0.9 * bound < module.weight.abs().max() <= bound
            assert not module.bias.any()
    outputs = network.eval()(images(1))
    assert outputs.logits.sigmoid().mean().item() == pytest.approx(0.005, rel=0.1)  # half of .01 is an object


def test_the_encoder_sees_far(tiny_backbone):
    """4 blocks of dilations 2, 4, 6 and 8 and a 3x3: 21 cells in either direction."""
    encoder = small(tiny_backbone).encoder.eval()
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.fill_(0.1)
    x = torch.ones(1, 10, 61, 61, requires_grad=True)
    encoder(x)[0, 0, 30, 30].backward()
    rows, columns = (x.grad[0, 0] != 0).nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (9, 51, 9, 51)


def test_outputs_are_in_the_order_of_anchors(tiny_backbone):
    network = small(tiny_backbone).eval()
    with torch.no_grad():
        for layer in (network.head.classes, network.head.boxes, network.head.objectness):
            layer.weight.normal_()
    outputs = network(images(1))
    assert outputs.logits.shape == (1, ANCHORS, 3)
    encoded = network.encoder(network.maps(images(1) * 0 + 1)["7"])
    logits, deltas = network.head(encoded)
    classes, boxes = network.head.class_branch(encoded), network.head.box_branch(encoded)
    own, objectness = network.head.classes(classes), network.head.objectness(boxes)
    for row, column, number in ((0, 0, 0), (2, 3, 4), (1, 2, 3)):
        place = (row * 4 + column) * 5 + number
        torch.testing.assert_close(
            deltas[0, place], network.head.boxes(boxes)[0, number * 4 : number * 4 + 4, row, column]
        )
        expected = own[0, number * 3 : number * 3 + 3, row, column].sigmoid()
        expected = expected * objectness[0, number, row, column].sigmoid()
        torch.testing.assert_close(logits[0, place].sigmoid(), expected)
        centre = (outputs.anchors[0][place][:2] + outputs.anchors[0][place][2:]) / 2
        assert centre.tolist() == [column * 32, row * 32]
        sides = outputs.anchors[0][place][2:] - outputs.anchors[0][place][:2]
        assert sides.tolist() == [32 * 2**number] * 2


def test_predictions_by_plain_steps(tiny_backbone):
    network = small(tiny_backbone, candidates=40, score_threshold=0.3).eval()
    outputs = loud(network(images()))
    sizes = [(96, 128), (90, 70)]
    found = network.predict(outputs, torch.tensor(sizes))
    for number, (detections, size) in enumerate(zip(found, sizes, strict=True)):
        scores = outputs.logits[number].detach().sigmoid().flatten()
        best = scores.argsort(descending=True)[:40]
        best = best[scores[best] > 0.3]
        anchor, label = best // 3, best % 3
        deltas, anchors = outputs.deltas[number].tolist(), outputs.anchors[0].tolist()
        boxes = clip_boxes_to_image(torch.tensor([box_of(deltas[a], anchors[a]) for a in anchor.tolist()]), size)
        kept = batched_nms(boxes, scores[best], label, 0.6)[:100]
        assert 10 < len(detections) <= 40
        torch.testing.assert_close(detections.boxes, boxes[kept], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(detections.scores, scores[best][kept])
        assert torch.equal(detections.labels, label[kept])


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
    assert outputs.deltas.dtype == torch.bfloat16
    assert outputs.logits.dtype == outputs.anchors[0].dtype == torch.float32
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
    """A small object and a large one, of different classes."""
    network = small(tiny_backbone, channels=32, block_channels=16, block_dilations=(1, 2))
    batch, boxes = images(1), torch.tensor([[70.0, 10.0, 100.0, 40.0], [5.0, 20.0, 75.0, 90.0]])
    labels = torch.tensor([2, 0])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(120):
        optimizer.zero_grad()
        sum(network.loss(network(batch), [boxes], [labels]).values()).backward()
        optimizer.step()
    (found,) = network.predict(network(batch), torch.tensor([SIZE]))
    assert len(found) >= 2
    for box, label in zip(boxes, labels, strict=True):
        best = found.boxes[found.labels == label][:1]
        assert box_iou(best, box[None]).item() > 0.8


def test_one_map_is_read(make_backbone):
    with pytest.raises(
        ConfigError, match=r"^detector.strides: asks for the maps \['5', '7'\], but YOLOF reads one"
    ):
        YOLOF(make_backbone(), 3, features=["5", "7"])
    network = small(make_backbone(), features=["5"])
    outputs = network(images(1))
    assert (outputs.anchors[0][:5, 2] - outputs.anchors[0][:5, 0]).tolist() == [16, 32, 64, 128, 256]
    assert outputs.logits.shape[1] == 6 * 8 * 5


@pytest.mark.parametrize(
    ("name", "strides", "width"),
    [("resnet50", ["last"], 2048), ("naa_yolof_y1", ["head"], 2048), ("shufflenet_300m", ["last"], 640)],
)
def test_on_any_backbone(name, strides, width):
    architecture = load_architecture(name)
    with torch.device("meta"):
        backbone = build_backbone(architecture, out_stages=maps_at(architecture.levels(), strides))
        network = YOLOF(backbone, num_classes=80)
        outputs = network.to("meta")(torch.empty(2, 3, 64, 96, device="meta"))
    assert network.encoder.project[0][0].in_channels == width
    assert outputs.logits.shape == (2, 2 * 3 * 5, 80)


def test_config_builds_the_default(tiny_backbone):
    config = OmegaConf.load(CONF / "detector" / "yolof.yaml")
    # The defaults list is Hydra's; the strides are read when the backbone is built.
    del config["defaults"], config["strides"], config["features"], config["output_stride"]
    network = instantiate(config)(tiny_backbone, num_classes=2)
    default = YOLOF(tiny_backbone, num_classes=2)
    assert str(network) == str(default)
    assert network.selection == default.selection
    for name in ("matches", "positive_iou", "negative_iou", "focal_alpha", "focal_gamma", "candidates"):
        assert getattr(network, name) == getattr(default, name), name
    assert network.box_coding.center_clamp == default.box_coding.center_clamp == 32
    assert torch.equal(network.anchors.get_buffer("shapes_0"), default.anchors.get_buffer("shapes_0"))
    assert torch.equal(network.normalize.std, default.normalize.std)
