"""Where FCOS looks for which box: by hand, by plain loops, and as torchvision does where its rule is the same."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxLinearCoder
from torchvision.models.detection.fcos import FCOS as REFERENCE
from torchvision.ops import generalized_box_iou_loss

from fna_lightning.detectors.locations import assign_locations, centerness, decode, giou, location_grid

STRIDES = (8, 16, 32, 64, 128)
SIZE = (256, 320)
CPU = torch.device("cpu")


def grid(size=SIZE, strides=STRIDES):
    sizes = [(math.ceil(size[0] / stride), math.ceil(size[1] / stride)) for stride in strides]
    return location_grid(sizes, strides, CPU)


def at(locations, x, y):
    """Which of (A, 2) locations is at a point."""
    (index,) = (locations == torch.tensor([float(x), float(y)])).all(dim=1).nonzero()
    return int(index)


def one(boxes, labels=None, radius=1.5, locations=None, strides=STRIDES):
    boxes = torch.tensor(boxes).float().view(-1, 4)
    labels = torch.arange(len(boxes)) if labels is None else torch.tensor(labels)
    targets = assign_locations(locations or grid(), strides, [boxes], [labels], radius)
    return [field[0] for field in targets]


def test_locations_are_the_middles_of_cells():
    levels = location_grid([(2, 3), (1, 2)], (8, 16), CPU)
    assert levels[0].tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]
    assert levels[1].tolist() == [[8, 8], [24, 8]]


def test_a_case_by_hand():
    """A box of 40x24 around (36, 28): on stride 8, within 12 pixels of its middle and inside."""
    positive, labels, distances, central = one([[16, 16, 56, 40]], [7])
    locations = torch.cat(grid())
    found = {tuple(point) for point in locations[positive].tolist()}
    # x within (24, 48), y within (16, 40): 28, 36, 44 and 20, 28, 36. Coarser levels begin at 64 pixels.
    assert found == {(x, y) for x in (28, 36, 44) for y in (20, 28, 36)}
    assert labels[positive].unique().tolist() == [7]
    corner, middle = at(locations, 28, 20), at(locations, 36, 28)
    assert distances[corner].tolist() == [12 / 8, 4 / 8, 28 / 8, 20 / 8]
    assert central[corner].item() == pytest.approx(math.sqrt(12 / 28 * 4 / 20))
    assert central[middle].item() == 1
    assert distances[~positive].unique().tolist() == [1]


def test_the_whole_box_without_a_radius():
    positive, *_ = one([[16, 16, 56, 40]], radius=math.inf)
    found = {tuple(point) for point in torch.cat(grid())[positive].tolist()}
    assert found == {(x, y) for x in (20, 28, 36, 44, 52) for y in (20, 28, 36)}


def test_sides_are_outside():
    """A location on the side of a box, or as far from its middle as the radius, is not within."""
    positive, *_ = one([[4, 4, 20, 20]])
    assert torch.cat(grid())[positive].tolist() == [[12, 12]]
    positive, *_ = one([[0, 0, 48, 48]])  # its middle is at 24: 12 and 36 are 12 away
    assert torch.cat(grid())[positive].tolist() == [[20, 20], [28, 20], [20, 28], [28, 28]]


@pytest.mark.parametrize(
    ("reach", "wanted"),
    [(63.5, {0}), (64.0, {0, 1}), (64.5, {1}), (128.0, {1, 2}), (512.0, {3, 4}), (512.5, {4}), (5000.0, {4})],
)
def test_ends_of_a_levels_reach_are_included(reach, wanted):
    """A location of every level at the same point, in a box whose right side is that far away."""
    locations = [torch.tensor([[2000.0, 2000.0]])] * 5
    box = [2000 - reach + 1, 1999.0, 2000 + reach, 2001.0]
    positive, *_ = one([box], locations=locations)
    assert set(positive.nonzero().flatten().tolist()) == wanted


def test_the_smallest_box_wins():
    boxes = [[16, 16, 56, 40], [18, 18, 54, 38], [0, 0, 64, 60]]
    _, labels, distances, _ = one(boxes)
    place = at(torch.cat(grid()), 36, 28)
    assert labels[place] == 1
    assert distances[place].tolist() == [18 / 8, 10 / 8, 18 / 8, 10 / 8]


def test_images_without_boxes_and_boxes_without_area():
    boxes = [torch.zeros(0, 4), torch.tensor([[20.0, 20.0, 20.0, 60.0], [12.0, 12.0, 12.0, 12.0]])]
    labels = [torch.zeros(0, dtype=torch.int64), torch.tensor([0, 1])]
    for chosen in ([0], [0, 0], [1, 0]):
        targets = assign_locations(grid(), STRIDES, [boxes[k] for k in chosen], [labels[k] for k in chosen], 1.5)
        assert not targets.positive.any()
        assert targets.positive.shape == (len(chosen), sum(map(len, grid())))
        assert targets.centerness.isfinite().all()


def random_boxes(count, largest=300):
    """With corners at 4k + 1, so that no rule is met with equality and areas are exact in single precision."""
    corner = torch.rand(count, 2) * torch.tensor([SIZE[1] - 8.0, SIZE[0] - 8.0])
    side = 8 + torch.rand(count, 2) ** 2 * largest
    return (torch.cat([corner, corner + side], dim=1) / 4).floor() * 4 + 1


@pytest.mark.parametrize("radius", [1.5, 0.75, 1000.0])
@pytest.mark.parametrize("case", range(6))
def test_equals_torchvision(case, radius):
    torch.manual_seed(case)
    boxes = [random_boxes(1 + 4 * case), random_boxes(7), torch.zeros(0, 4)]
    labels = [torch.arange(len(each)) for each in boxes]
    locations = grid()
    half = torch.cat([torch.full((len(level), 1), stride / 2) for level, stride in zip(locations, STRIDES,
                                                                                       strict=True)])  # fmt: skip
    points = torch.cat(locations)
    squares = torch.cat([points - half, points + half], dim=1)
    seen = SimpleNamespace(
        center_sampling_radius=radius, head=SimpleNamespace(compute_loss=lambda *given: given[3])
    )
    truth = [{"boxes": b, "labels": k} for b, k in zip(boxes, labels, strict=True)]
    wanted = REFERENCE.compute_loss(seen, truth, {}, [squares] * 3, [len(level) for level in locations])
    targets = assign_locations(locations, STRIDES, boxes, labels, radius)
    coder = BoxLinearCoder()
    assert targets.positive[:2].any(dim=1).all()
    for image, matched in enumerate(wanted):
        positive = targets.positive[image]
        assert torch.equal(positive, matched >= 0)
        if not positive.any():
            continue
        chosen = [boxes[image][index[positive]] for index in (targets.labels[image], matched)]
        areas = [((box[:, 2:] - box[:, :2]).prod(dim=1)) for box in chosen]
        assert torch.equal(*areas)
        expected = coder.encode(squares[positive], chosen[0])
        torch.testing.assert_close(targets.distances[image][positive], expected)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0, 256, width=32)] * 4), max_size=8), st.sampled_from([1.5, 3.0]))
def test_what_is_found_is_found_by_the_rule(corners, radius):
    boxes = torch.tensor([(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]).view(-1, 4)
    locations, strides = torch.cat(grid()), torch.cat(
        [torch.full((len(level),), float(stride)) for level, stride in zip(grid(), STRIDES, strict=True)]
    )  # fmt: skip
    positive, labels, distances, central = one(boxes.tolist(), radius=radius)
    assert ((central >= 0) & (central <= 1)).all()
    assert (distances > 0).all()
    rebuilt = decode(distances[None], locations[None], strides[:, None])[0][positive]
    chosen = boxes[labels[positive]]
    torch.testing.assert_close(rebuilt, chosen, rtol=1e-4, atol=1e-3)
    away = (locations[positive] - (chosen[:, :2] + chosen[:, 2:]) / 2).abs().amax(dim=1, keepdim=False)
    assert (away <= radius * strides[positive] * (1 + 1e-5)).all()
    # Adding a box can only make what is found smaller, and never loses a location.
    more, *_ = one([*boxes.tolist(), [10.0, 10.0, 30.0, 30.0]], radius=radius)
    assert (more | ~positive).all()


class TestGIoU:
    def distances(self, count=200):
        return torch.rand(count, 4) * 4 + 0.01, torch.rand(count, 4) * 4 + 0.01

    def test_equals_torchvision(self):
        found, wanted = self.distances()
        boxes = [decode(each, torch.full((200, 2), 50.0), 8) for each in (found, wanted)]
        expected = generalized_box_iou_loss(*boxes)
        torch.testing.assert_close(1 - giou(found, wanted), expected, rtol=1e-4, atol=1e-5)

    def test_by_hand(self):
        found, wanted = torch.tensor([1.0, 1, 1, 1]), torch.tensor([1.0, 1, 3, 1])
        assert giou(found, wanted).item() == pytest.approx(4 / 8)
        assert giou(found, wanted, 1.0).item() == pytest.approx(5 / 9)
        crossed = torch.tensor([3.0, 1, 1, 1]), torch.tensor([1.0, 1, 3, 1])
        assert giou(*crossed).item() == pytest.approx(4 / 12)  # the hull of the two is their union
        corners = torch.tensor([2.0, 2, 0, 0]), torch.tensor([0.0, 0, 2, 2])
        assert giou(*corners).item() == pytest.approx(-8 / 16)
        assert giou(*corners, 1.0).item() == pytest.approx(1 / 9 - 8 / 16)

    def test_of_equal_boxes_and_of_nothing(self):
        wanted = torch.tensor([1.0, 2, 3, 4])
        assert giou(wanted, wanted).item() == pytest.approx(1)
        assert giou(wanted, wanted, 1.0).item() == pytest.approx(1)
        assert giou(torch.zeros(4), wanted).item() == pytest.approx(0)
        assert giou(torch.zeros(4), wanted, 1.0).item() == pytest.approx(1 / 25)

    @pytest.mark.parametrize("smoothing", [0.0, 1.0])
    def test_gradient(self, smoothing):
        found, wanted = (each.double()[:20].requires_grad_() for each in self.distances())
        assert torch.autograd.gradcheck(lambda a: giou(a, wanted.detach(), smoothing), found)


def test_decoding_equals_torchvision():
    points, distances = torch.rand(1, 30, 2) * 200, torch.randn(1, 30, 4)
    squares = torch.cat([points - 8, points + 8], dim=-1)
    torch.testing.assert_close(decode(distances, points, 16), BoxLinearCoder().decode(distances, squares))


def test_centerness_by_hand():
    distances = torch.tensor([[1.0, 1, 1, 1], [1, 2, 3, 2], [1, 1, 3, 4], [0, 1, 2, 1]])
    torch.testing.assert_close(centerness(distances), torch.tensor([1, 1 / 3, 1 / 12, 0]).sqrt())
