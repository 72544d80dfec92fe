"""SSDLite's loss against plain loops, torchvision's and finite differences."""

import math
from types import SimpleNamespace

import pytest
import torch
from small_ssdlite import images, loud, random_targets, small
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from fna_lightning.detectors.matching import AnchorTargets
from fna_lightning.detectors.ssdlite import hard_negatives


@pytest.fixture
def backbone(make_backbone):
    return make_backbone((6, 10), (16, 32), ("6", "8"))


def reference_matches(boxes, anchors):
    """mmdetection's assignment with gt_max_assign_all=False, by plain loops."""
    matches = [-1] * len(anchors)
    iou = box_iou(boxes, anchors).tolist()
    for a in range(len(anchors)):
        best = max(range(len(boxes)), key=lambda b: iou[b][a]) if len(boxes) else -1
        if best >= 0 and iou[best][a] >= 0.5:
            matches[a] = best
    for b in range(len(boxes)):
        matches[max(range(len(anchors)), key=lambda a: iou[b][a])] = b
    return matches


def test_loss_against_plain_loops(backbone):
    network = small(backbone, box_beta=0.7, box_std=(0.1, 0.2, 0.3, 0.4), negatives_per_positive=2)
    boxes, labels = random_targets(3, 0, 5)
    outputs = loud(network(images(3)))
    anchors = torch.cat(outputs.anchors)
    entropy = distance = 0.0
    positives = 0
    for image_boxes, image_labels, logits, deltas in zip(
        boxes, labels, outputs.logits.tolist(), outputs.deltas.tolist(), strict=True
    ):
        matches = reference_matches(image_boxes, anchors)
        negatives = []
        for anchor, matched, logit, delta in zip(anchors.tolist(), matches, logits, deltas, strict=True):
            total = math.log(sum(map(math.exp, logit)))
            if matched < 0:
                negatives.append(total - logit[0])
                continue
            positives += 1
            entropy += total - logit[1 + image_labels[matched]]
            x1, y1, x2, y2 = image_boxes[matched].tolist()
            w, h = anchor[2] - anchor[0], anchor[3] - anchor[1]
            wanted = (
                ((x1 + x2) - (anchor[0] + anchor[2])) / 2 / w / 0.1,
                ((y1 + y2) - (anchor[1] + anchor[3])) / 2 / h / 0.2,
                math.log((x2 - x1) / w) / 0.3,
                math.log((y2 - y1) / h) / 0.4,
            )
            for found, target in zip(delta, wanted, strict=True):
                error = abs(found - target)
                distance += error**2 / 1.4 if error < 0.7 else error - 0.35
        here = sum(matched >= 0 for matched in matches)
        entropy += sum(sorted(negatives, reverse=True)[: 2 * here])
    assert positives > 8
    loss = network.loss(outputs, boxes, labels)
    assert loss["classification"].item() == pytest.approx(entropy / positives, rel=1e-5)
    assert loss["box"].item() == pytest.approx(distance / positives, rel=1e-5)


def test_loss_against_torchvision(backbone):
    network = small(backbone)
    boxes, labels = random_targets(4, 2)
    outputs = loud(network(images()))
    anchors = torch.cat(outputs.anchors)
    # Labels there begin with 1, the background being 0.
    settings = SimpleNamespace(box_coder=BoxCoder((10.0, 10.0, 5.0, 5.0)), neg_to_pos_ratio=3)
    reference = SSD.compute_loss(
        settings,
        [{"boxes": b, "labels": k + 1} for b, k in zip(boxes, labels, strict=True)],
        {"cls_logits": outputs.logits, "bbox_regression": outputs.deltas},
        [anchors] * 2,
        [SSDMatcher(0.5)(box_iou(b, anchors)) for b in boxes],
    )
    loss = network.loss(outputs, boxes, labels)
    torch.testing.assert_close(loss["classification"], reference["classification"])
    torch.testing.assert_close(loss["box"], reference["bbox_regression"])


def test_gradient_of_the_loss(backbone):
    """Against finite differences of the float32 loss; the hard negatives stay the same in so small a step."""
    network = small(backbone)
    boxes, labels = random_targets(2, 1)
    outputs = loud(network(images()))
    logits, deltas = (t.detach().clone().requires_grad_() for t in (outputs.logits, outputs.deltas))
    loss = network.loss(outputs._replace(logits=logits, deltas=deltas), boxes, labels)
    sum(loss.values()).backward()
    direction = [torch.randn_like(t) for t in (logits, deltas)]
    step, values = 1e-3, []
    for sign in (1, -1):
        with torch.no_grad():
            moved = outputs._replace(
                logits=logits + sign * step * direction[0], deltas=deltas + sign * step * direction[1]
            )
            values.append(sum(network.loss(moved, boxes, labels).values()).item())
    slope = sum((t.grad * d).sum().item() for t, d in zip((logits, deltas), direction, strict=True))
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=2e-2)


@pytest.mark.parametrize(
    ("positive", "expected"),
    [
        ([0, 0, 0, 0, 0], []),
        ([1, 0, 0, 0, 0], [5, 4, 3]),
        ([0, 0, 0, 1, 1], [3, 2, 1]),  # three negatives are all there are
        ([1, 1, 1, 1, 1], []),
    ],
)
def test_hard_negatives(positive, expected):
    losses = torch.tensor([[2.0, 1.0, 3.0, 4.0, 5.0]])
    is_positive = torch.tensor([positive], dtype=torch.bool)
    targets = AnchorTargets(is_positive, torch.ones_like(is_positive), losses, losses)
    found = hard_negatives(losses, targets, 3)
    assert found.shape == losses.shape
    assert found[found > 0].tolist() == expected


def test_what_is_not_scored_is_no_hard_negative():
    losses = torch.tensor([[2.0, 1.0, 3.0, 4.0, 5.0]])
    positive, scored = torch.tensor([[0, 1, 0, 0, 0]]) == 1, torch.tensor([[1, 1, 1, 1, 0]]) == 1
    found = hard_negatives(losses, AnchorTargets(positive, scored, losses, losses), 2)
    assert found[found > 0].tolist() == [4, 3]


@pytest.mark.parametrize("counts", [(3, 0), (0, 0)])
def test_gradients_are_finite_without_boxes(backbone, counts):
    network = small(backbone)
    loss = network.loss(network(images()), *random_targets(*counts))
    assert set(loss) == {"classification", "box"}
    assert all((value == 0) == (sum(counts) == 0) for value in loss.values())
    sum(loss.values()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_every_anchor_positive(backbone):
    """With no overlap asked for, all boxes are to find something, and no negative is left to be hard."""
    network = small(backbone, positive_iou=-1.0, negative_iou=-1.0)
    outputs = loud(network(images()))
    boxes, labels = [torch.tensor([[0.0, 0.0, 128.0, 96.0]])] * 2, [torch.tensor([2])] * 2
    entropy = torch.nn.functional.cross_entropy(
        outputs.logits.flatten(0, 1), torch.full((outputs.logits[..., 0].numel(),), 3)
    )
    torch.testing.assert_close(network.loss(outputs, boxes, labels)["classification"], entropy)


def test_a_degenerate_box_does_no_harm(backbone):
    boxes = [torch.tensor([[20.0, 20.0, 20.0, 20.0], [10.0, 10.0, 60.0, 60.0]]), torch.zeros(0, 4)]
    network = small(backbone)
    loss = network.loss(network(images()), boxes, [torch.tensor([0, 1]), torch.zeros(0, dtype=torch.int64)])
    assert all(value.isfinite() for value in loss.values())


def test_mixed_precision(backbone):
    network = small(backbone)
    batch, targets = images(), random_targets(3, 2)
    exact = network.loss(network(batch), *targets)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(batch)
        loss = network.loss(outputs, *targets)
    assert outputs.logits.dtype == torch.bfloat16
    assert outputs.anchors[0].dtype == torch.float32
    for name, value in loss.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[name].item(), rel=0.05)
    sum(loss.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
