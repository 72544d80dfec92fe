"""YOLOF's matching against a plain loop, in cases made by hand, with ties, and without objects."""

import pytest
import torch

from fna_lightning.detectors import AnchorGrid
from fna_lightning.detectors.uniform import assign_uniformly, assign_uniformly_batch

BACKGROUND, UNSCORED = "background", "unscored"


def overlap(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    inner = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return inner / (sum(areas) - inner) if inner else 0.0


def apart(one, other):
    """L1 between centres and sides, in steps of 1/64."""
    whole = 0.0
    for low, high in ((0, 2), (1, 3)):
        whole += abs((one[low] + one[high]) / 2 - (other[low] + other[high]) / 2)
        whole += abs((one[high] - one[low]) - (other[high] - other[low]))
    return round(64 * whole)


def by_loops(predicted, anchors, boxes, labels, matches=4, positive=0.15, negative=0.7):
    """What every anchor is, and pairs of anchor and box with whether they count, as the authors go about it."""
    truth = [UNSCORED if any(overlap(box, each) > negative for each in boxes) else BACKGROUND for box in predicted]
    near = [
        [sorted(range(len(anchors)), key=lambda a, box=box, kind=kind: (apart(kind[a], box), a)) for box in boxes]
        for kind in (predicted, anchors)
    ]
    pairs = []
    for rank in range(min(matches, len(anchors))):
        for kind in near:
            for number, order in enumerate(kind):
                counts = overlap(anchors[order[rank]], boxes[number]) >= positive
                truth[order[rank]] = labels[number] if counts else UNSCORED
                pairs.append((order[rank], number, counts))
    return truth, pairs


def read(targets, boxes):
    """The same of what the package says."""
    truth = [
        (int(label) if positive else BACKGROUND) if scored else UNSCORED
        for positive, scored, label in zip(targets.positive, targets.scored, targets.labels, strict=True)
    ]
    numbers = [boxes.tolist().index(box) for box in targets.boxes.tolist()]
    return truth, list(zip(targets.pairs.tolist(), numbers, targets.counted.tolist(), strict=True))


@pytest.mark.parametrize("case", range(12))
def test_equals_plain_loops(case):
    """On a grid of whole numbers, where much is equally near; in even cases predictions are the anchors."""
    torch.manual_seed(case)
    (anchors,) = AnchorGrid([[32.0, 64.0, 128.0]], [1.0], [32])([(3, 4)])
    predicted = anchors + torch.randint(-3, 4, anchors.shape) * 8.0 * (case % 2)
    predicted[:, 2:] = torch.maximum(predicted[:, 2:], predicted[:, :2] + 8)
    corner = torch.randint(0, 12, (1 + case % 6, 2)) * 8.0
    boxes = torch.cat([corner, corner + torch.randint(1, 9, corner.shape) * 8.0], dim=1).unique(dim=0)
    labels = torch.randint(5, (len(boxes),))
    targets = assign_uniformly(predicted, anchors, boxes, labels, 4, 0.15, 0.7)
    expected = by_loops(predicted.tolist(), anchors.tolist(), boxes.tolist(), labels.tolist())
    assert read(targets, boxes) == expected
    assert len(targets.pairs) == 8 * len(boxes)


ROW = torch.tensor(
    [[0.0, 0.0, 10.0, 10.0], [10.0, 0.0, 20.0, 10.0], [20.0, 0.0, 30.0, 10.0], [30.0, 0.0, 40.0, 10.0]]
)


def test_a_case_by_hand():
    """One box on the first anchor; the third anchor predicts it almost, and the fourth far away."""
    predicted = ROW.clone()
    predicted[2] = torch.tensor([0.0, 0.0, 10.0, 9.0])
    targets = assign_uniformly(predicted, ROW, ROW[:1], torch.tensor([7]), 1, 0.15, 0.7)
    # By prediction and by place the nearest is the first: it counts twice, and once as positive.
    assert targets.pairs.tolist() == [0, 0]
    assert targets.counted.tolist() == [True, True]
    assert targets.positive.tolist() == [True, False, False, False]
    assert targets.labels[0] == 7
    # What the third predicts overlaps the box by .9: neither its own nor background.
    assert targets.scored.tolist() == [True, True, False, True]


def test_an_anchor_too_far_off_is_neither_positive_nor_background():
    """Its box is that of the second rank, by prediction alone."""
    targets = assign_uniformly(ROW, ROW, torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([1]), 2, 0.15, 0.7)
    assert targets.pairs.tolist() == [0, 0, 1, 1]
    assert targets.counted.tolist() == [True, True, False, False]
    assert targets.positive.tolist() == [True, False, False, False]
    assert targets.scored.tolist() == [True, False, True, True]


def test_overlaps_at_the_thresholds():
    """A pair counts from .15 on; a prediction is background up to .7."""
    anchors = torch.tensor([[0.0, 0.0, 20.0, 10.0], [100.0, 0.0, 110.0, 10.0]])
    boxes, labels = torch.tensor([[0.0, 0.0, 3.0, 10.0]]), torch.tensor([0])
    assert assign_uniformly(anchors, anchors, boxes, labels, 1, 0.15, 0.7).counted.tolist() == [True, True]
    assert assign_uniformly(anchors, anchors, boxes, labels, 1, 0.151, 0.7).counted.tolist() == [False, False]
    predicted = torch.tensor([[0.0, 0.0, 3.0, 10.0], [0.0, 0.0, 3.0, 7.0]])
    for negative, scored in ((0.7, True), (0.69, False)):
        targets = assign_uniformly(predicted, anchors, boxes, labels, 1, 0.15, negative)
        assert targets.scored[1].item() == scored


def test_equally_near_anchors_fall_to_the_first():
    boxes = torch.tensor([[5.0, 0.0, 15.0, 10.0], [15.0, 0.0, 25.0, 10.0]])
    targets = assign_uniformly(ROW, ROW, boxes, torch.tensor([1, 2]), 1, 0.15, 0.7)
    assert targets.pairs.tolist() == [0, 1, 0, 1]
    targets = assign_uniformly(ROW, ROW, boxes, torch.tensor([1, 2]), 2, 0.15, 0.7)
    assert targets.pairs.tolist() == [0, 1, 0, 1, 1, 2, 1, 2]
    # The second anchor is of both boxes; its class is that of the farther rank, the first box's.
    assert targets.positive.tolist() == [True, True, True, False]
    assert targets.labels[:3].tolist() == [1, 1, 2]


def test_two_boxes_in_one_place_leave_the_class_of_the_last():
    boxes = ROW[[1, 1]]
    targets = assign_uniformly(ROW, ROW, boxes, torch.tensor([4, 3]), 1, 0.15, 0.7)
    assert targets.pairs.tolist() == [1, 1, 1, 1]
    assert targets.labels[1] == 3


def test_fewer_anchors_than_matches():
    targets = assign_uniformly(ROW[:2], ROW[:2], ROW[:1], torch.tensor([0]), 4, 0.15, 0.7)
    assert targets.pairs.tolist() == [0, 0, 1, 1]


def test_no_objects():
    targets = assign_uniformly(ROW, ROW, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 4, 0.15, 0.7)
    assert not targets.positive.any()
    assert targets.scored.all()
    assert [len(each) for each in (targets.pairs, targets.boxes, targets.counted)] == [0, 0, 0]


def test_a_box_without_area_counts_for_nothing():
    targets = assign_uniformly(ROW, ROW, torch.tensor([[5.0, 5.0, 5.0, 5.0]]), torch.tensor([0]), 4, 0.15, 0.7)
    assert not targets.counted.any()
    assert not targets.positive.any()


def test_pairs_of_a_batch_are_counted_over_all_pictures():
    boxes = [ROW[:1], torch.zeros(0, 4), ROW[2:]]
    labels = [torch.tensor([1]), torch.zeros(0, dtype=torch.int64), torch.tensor([0, 2])]
    targets = assign_uniformly_batch(ROW.expand(3, -1, -1), ROW, boxes, labels, 1, 0.15, 0.7)
    assert targets.positive.nonzero().tolist() == [[0, 0], [2, 2], [2, 3]]
    assert targets.labels[targets.positive].tolist() == [1, 0, 2]
    assert targets.pairs.tolist() == [0, 0, 10, 11, 10, 11]
    assert torch.equal(targets.boxes, torch.cat([ROW[[0, 0]], ROW[2:], ROW[2:]]))
