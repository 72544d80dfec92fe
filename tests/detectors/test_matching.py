import pytest
import torch
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher
from torchvision.ops import box_iou

from fna_lightning.detectors.matching import IGNORED, NEGATIVE, AnchorTargets, assign, match, sample


def random_boxes(count, extent=100.0, grid=None):
    corner, size = torch.rand(count, 2) * extent, torch.rand(count, 2) * extent / 2 + 1
    boxes = torch.cat([corner, corner + size], dim=1)
    # Coordinates on a coarse grid make many overlaps exactly equal.
    return boxes if grid is None else (boxes / grid).round() * grid + torch.tensor([0.0, 0.0, grid, grid])


@pytest.mark.parametrize("keep_best", [True, False])
@pytest.mark.parametrize("case", range(20))
def test_equals_torchvision(case, keep_best):
    torch.manual_seed(case)
    boxes = random_boxes(1 + case % 7, grid=10.0 if case % 2 else None)
    anchors = random_boxes(300, grid=10.0 if case % 2 else None)
    anchors = torch.cat([anchors, anchors[:100], boxes[:1]])
    iou = box_iou(boxes, anchors)
    expected = Matcher(0.5, 0.4, allow_low_quality_matches=keep_best)(iou.clone())
    assert torch.equal(match(iou, 0.5, 0.4, keep_best), expected)


def test_ties_keep_all_best_anchors():
    iou = torch.tensor([[0.2, 0.2, 0.1, 0.45], [0.3, 0.1, 0.3, 0.0]])
    expected = Matcher(0.5, 0.4, allow_low_quality_matches=True)(iou.clone())
    # Anchor 0 and 2 tie for box 1; anchor 3 is box 0's best although it is below .5.
    assert match(iou, 0.5, 0.4).tolist() == expected.tolist() == [1, NEGATIVE, 1, 0]


def test_thresholds_are_inclusive_from_below():
    iou = torch.tensor([[0.4, 0.5, 0.399, 0.9]])
    assert match(iou, 0.5, 0.4, keep_best=False).tolist() == [IGNORED, 0, NEGATIVE, 0]


def test_no_boxes():
    anchors = random_boxes(5)
    targets = assign(anchors, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 0.5, 0.4)
    assert not targets.positive.any()
    assert targets.scored.all()
    assert torch.equal(targets.boxes, anchors)


def test_a_box_that_touches_no_anchor_is_given_up():
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [10.0, 10.0, 20.0, 20.0]])
    boxes = torch.tensor([[5.0, 5.0, 5.0, 5.0], [0.0, 0.0, 10.0, 10.0]])
    targets = assign(anchors, boxes, torch.tensor([3, 7]), 0.5, 0.4)
    assert targets.positive.tolist() == [True, False]
    assert targets.labels[0] == 7
    assert torch.equal(targets.boxes, anchors)


def some_targets(positives, negatives, ignored=5):
    """Of one image whose anchors come in this order."""
    total = positives + negatives + ignored
    scored = torch.arange(total)[None] < positives + negatives
    return AnchorTargets(
        torch.arange(total)[None] < positives, scored, torch.zeros(1, total), torch.zeros(1, total, 4)
    )


@pytest.mark.parametrize(
    ("positives", "negatives", "wanted"),
    [(100, 100, (8, 24)), (3, 100, (3, 29)), (0, 100, (0, 32)), (100, 5, (8, 5)), (0, 0, (0, 0)), (2, 3, (2, 3))],
)
def test_as_many_are_drawn_as_torchvision_draws(positives, negatives, wanted):
    targets = some_targets(positives, negatives)
    drawn = sample(targets, 32, 0.25)
    assert ((drawn & targets.positive).sum(), drawn.sum()) == (wanted[0], sum(wanted))
    assert not (drawn & ~targets.scored).any()
    labels = torch.where(targets.positive, 1, torch.where(targets.scored, 0, -1))[0]
    found, background = BalancedPositiveNegativeSampler(32, 0.25)([labels])
    assert (int(found[0].sum()), int(background[0].sum())) == wanted


def test_every_anchor_is_drawn_as_often():
    targets = some_targets(10, 20)
    often = sum(sample(targets, 8, 0.5)[0].float() for _ in range(2000)) / 2000
    assert often[:10].sub(0.4).abs().max() < 0.05
    assert often[10:30].sub(0.2).abs().max() < 0.05
    assert not often[30:].any()
