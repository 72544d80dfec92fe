"""Suppression of batches, against torchvision's of one image; and what a check calls the same."""

import pytest
import torch
from torchvision.ops import batched_nms, clip_boxes_to_image

from fna_lightning.deployment.export.checking import largest, match
from fna_lightning.deployment.export.onnx_file import suppress
from fna_lightning.deployment.export.suppression import NO_LABEL, best, clip, suppress_apart
from fna_lightning.detectors import Detections
from fna_lightning.detectors.postprocess import ScoredBoxes


def random_boxes(*shape):
    corner = torch.rand(*shape, 2) * 60 - 5
    return torch.cat([corner, corner + 2 + torch.rand(*shape, 2) * 40], dim=-1)


@pytest.mark.parametrize("rule", [suppress_apart, suppress])
@pytest.mark.parametrize("threshold", [0.2, 0.93, 2.0])
def test_each_image_is_suppressed_by_itself(rule, threshold):
    boxes, scores, labels = random_boxes(3, 40), torch.rand(3, 40), torch.randint(4, (3, 40))
    found = best(ScoredBoxes(boxes, scores, labels), scores > threshold, 4, 0.4, 15, rule)
    for image in range(3):
        kept = scores[image] > threshold
        index = batched_nms(boxes[image][kept], scores[image][kept], labels[image][kept], 0.4)[:15]
        number = len(index)
        assert torch.equal(found.boxes[image, :number], boxes[image][kept][index])
        assert torch.equal(found.labels[image, :number], labels[image][kept][index])
        assert (found.labels[image, number:] == NO_LABEL).all()
        assert not found.scores[image, number:].any()
        assert not found.boxes[image, number:].any()


def test_pairs_may_be_in_several_dimensions():
    boxes, scores = random_boxes(2, 20), torch.rand(2, 20, 3)
    labels = torch.arange(3).expand_as(scores)
    expanded = boxes[:, :, None].expand(-1, -1, 3, -1)
    one = best(ScoredBoxes(expanded, scores, labels), scores > 0.5, 3, 0.5, 9, suppress_apart)
    flat = ScoredBoxes(expanded.flatten(1, 2), scores.flatten(1), labels.flatten(1))
    other = best(flat, flat.scores > 0.5, 3, 0.5, 9, suppress_apart)
    assert all(map(torch.equal, one, other))
    assert (one.labels >= 0).any()


def test_boxes_end_with_their_picture():
    boxes, sizes = random_boxes(2, 5, 3), torch.tensor([[30, 50], [44, 20]])
    clipped = clip(boxes, sizes)
    for image, size in enumerate(sizes.tolist()):
        assert torch.equal(clipped[image], clip_boxes_to_image(boxes[image], tuple(size)))


def detections(number=6):
    scores = torch.linspace(0.9, 0.2, number)
    return Detections(random_boxes(number), scores, torch.arange(number) % 2)


def changed(found, **fields):
    return Detections(**{**vars(found), **fields})


def test_the_same_boxes_match_in_any_order():
    found = detections()
    order = torch.randperm(6)
    other = Detections(found.boxes[order], found.scores[order], found.labels[order])
    assert match(found, other, 0.05) == (0.0, 0)


def test_a_difference_is_measured_and_a_larger_one_is_none():
    found = detections()
    worst, alone = match(changed(found, scores=found.scores + 5e-5), found, 0.05)
    assert worst == pytest.approx(5e-5, rel=0.01)
    assert alone == 0
    assert match(changed(found, boxes=found.boxes + 0.5), found, 0.05)[1] == 12
    assert match(changed(found, labels=1 - found.labels), found, 0.05)[1] == 12


def test_only_what_is_above_the_threshold_needs_a_partner():
    found = detections()
    fewer = Detections(found.boxes[:5], found.scores[:5], found.labels[:5])
    assert match(fewer, found, 0.05) == (0.0, 1)
    assert match(fewer, found, 0.19995) == (0.0, 0)
    nothing = Detections(found.boxes[:0], found.scores[:0], found.labels[:0])
    assert match(nothing, found, 0.05) == (0.0, 6)
    assert match(found, nothing, 0.05) == (0.0, 6)


def test_numbers_are_held_against_each_other_by_their_size():
    assert largest(torch.tensor([100.5, 0.1]), torch.tensor([100.0, 0.1])) == pytest.approx(0.005)
    assert largest(torch.tensor([0.3]), torch.tensor([0.1])) == pytest.approx(0.2)
    assert largest(torch.zeros(2), torch.zeros(3)) == torch.inf
    assert largest(torch.tensor([torch.nan]), torch.zeros(1)) == torch.inf


@pytest.mark.filterwarnings("ignore:.create_unbacked_symint:FutureWarning")  # torchvision's
@pytest.mark.parametrize("number", [0, 1, 2, 5])
def test_a_trace_holds_for_any_number_of_boxes(number):
    class Rule(torch.nn.Module):
        def forward(self, boxes, scores, labels):
            found = ScoredBoxes(boxes, scores, labels)
            return tuple(best(found, scores > 0.5, 3, 0.5, 4, suppress_apart))

    corner = 100.0 * torch.arange(6)[:, None].expand(2, 6, 2)
    given = torch.cat([corner, corner + 50], dim=2), torch.rand(2, 6), torch.randint(3, (2, 6))
    traced = torch.export.export(Rule(), given).module()
    scores = torch.zeros(2, 6)
    scores[0, :number] = torch.linspace(0.9, 0.6, number)
    found = traced(given[0], scores, given[2])
    assert all(map(torch.equal, found, Rule()(given[0], scores, given[2])))
    assert (found[2] != NO_LABEL).sum() == min(number, 4)
