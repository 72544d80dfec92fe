import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection._utils import SSDMatcher
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from fna_lightning.detectors import MultiboxGrid
from fna_lightning.detectors.anchors import multibox_sizes
from fna_lightning.detectors.matching import NEGATIVE, assign, assign_batch, match
from fna_lightning.errors import ConfigError

RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
MINIMA = (30, 60, 114, 168, 222, 276)
MAXIMA = (60, 114, 168, 222, 276, 330)
STRIDES = (16, 32, 64, 107, 160, 320)
CELLS = (20, 10, 5, 3, 2, 1)


def published():
    return MultiboxGrid(multibox_sizes(300, 0.2, 0.95, 6), RATIOS)


def test_sizes_of_the_release():
    assert multibox_sizes(300, 0.2, 0.95, 6) == list(zip(MINIMA, MAXIMA, strict=True))


@pytest.mark.parametrize(
    ("arguments", "minima"),
    [
        # torchvision's references and mmdetection's settings for COCO: 7 and 15 per cent first.
        ((300, 0.15, 0.9, 6), (21, 45, 99, 153, 207, 261)),
        ((512, 0.2, 0.95, 6), (51, 102, 194, 286, 378, 471)),
        ((100, 0.2, 0.9, 3), (10, 20, 90)),
    ],
)
def test_sizes_of_other_settings(arguments, minima):
    sizes = multibox_sizes(*arguments)
    assert tuple(smaller for smaller, _ in sizes) == minima
    assert [larger for _, larger in sizes[:-1]] == [smaller for smaller, _ in sizes[1:]]


@pytest.mark.parametrize(
    "arguments", [(300, 0.9, 0.2, 6), (300, 0.5, 0.5, 6), (300, 0.01, 0.9, 6), (9, 0.2, 0.9, 6)]
)
def test_sizes_that_do_not_grow(arguments):
    with pytest.raises(ConfigError, match=r"detector\.anchor_range"):
        multibox_sizes(*arguments)


def counted_in_pixels(stride_x, stride_y, columns, rows, smaller, larger, ratios):
    """The release's boxes of a map, where a box from x1 to x2 is x2 - x1 + 1 pixels wide."""
    shapes = [(smaller, smaller), (math.sqrt(smaller * larger),) * 2]
    for ratio in ratios:
        wide, tall = smaller * math.sqrt(ratio), smaller / math.sqrt(ratio)
        shapes += [(wide, tall), (tall, wide)]
    for row in range(rows):
        for column in range(columns):
            for width, height in shapes:
                x, y = (stride_x - 1) / 2, (stride_y - 1) / 2
                yield (
                    round(x - (width - 1) / 2) + column * stride_x,
                    round(y - (height - 1) / 2) + row * stride_y,
                    round(x + (width - 1) / 2) + column * stride_x,
                    round(y + (height - 1) / 2) + row * stride_y,
                )


def test_equal_the_release_at_320():
    anchors = published()([(n, n) for n in CELLS], (320, 320))
    assert sum(map(len, anchors)) == 2424
    for level, stride, n, *sizes in zip(anchors, STRIDES, CELLS, MINIMA, MAXIMA, RATIOS, strict=True):
        expected = torch.tensor(list(counted_in_pixels(stride, stride, n, n, *sizes)), dtype=torch.float32)
        assert torch.equal(level - torch.tensor([0.0, 0.0, 1.0, 1.0]), expected)


@given(width=st.integers(33, 600), height=st.integers(33, 600))
def test_strides_follow_the_maps(width, height):
    cells = [(math.ceil(height / s), math.ceil(width / s)) for s in (16, 32, 64, 128, 256, 512)]
    anchors = published()(cells, (height, width))
    for level, (rows, columns), *sizes in zip(anchors, cells, MINIMA, MAXIMA, RATIOS, strict=True):
        strides = round(width / columns), round(height / rows)
        # The last box alone; all are compared above.
        *_, last = counted_in_pixels(*strides, columns, rows, *sizes)
        assert len(level) == rows * columns * (2 + 2 * len(sizes[2]))
        assert level[-1].tolist() == [last[0], last[1], last[2] + 1, last[3] + 1]


def test_equal_torchvision_but_for_rounding():
    reference = DefaultBoxGenerator(
        [list(level) for level in RATIOS],
        scales=[side / 320 for side in (*MINIMA, MAXIMA[-1])],
        steps=list(STRIDES),
        clip=False,
    )
    maps = [torch.zeros(1, 1, n, n) for n in CELLS]
    (expected,) = reference(ImageList(torch.zeros(1, 3, 320, 320), [(320, 320)]), maps)
    anchors = torch.cat(published()([(n, n) for n in CELLS], (320, 320)))
    assert (anchors - expected).abs().max() <= 0.5 + 1e-4
    assert (anchors - expected).abs().max() > 0.1


def test_exact_in_half_precision():
    exact, half = published(), published().bfloat16()
    sizes = [(n, n) for n in CELLS]
    for mine, other in zip(half(sizes, (320, 320)), exact(sizes, (320, 320)), strict=True):
        assert mine.dtype == torch.float32
        # Sides of 2^-8 relative precision; places are exact.
        assert (mine - other).abs().max() <= 1.5


# Assignment


def random_boxes(count, grid=None):
    corner, size = torch.rand(count, 2) * 100, torch.rand(count, 2) * 50 + 1
    boxes = torch.cat([corner, corner + size], dim=1)
    # Coordinates on a coarse grid make many overlaps exactly equal.
    return boxes if grid is None else (boxes / grid).round() * grid + torch.tensor([0.0, 0.0, grid, grid])


def by_loops(iou, positive):
    """mmdetection's MaxIoUAssigner with min_pos_iou=0 and gt_max_assign_all=False."""
    boxes, anchors = iou.shape
    matches = [NEGATIVE] * anchors
    for a in range(anchors):
        best = max(range(boxes), key=lambda b: iou[b, a].item())
        if iou[best, a] >= positive:
            matches[a] = best
    for b in range(boxes):
        best = max(range(anchors), key=lambda a: iou[b, a].item())
        if iou[b, best] > 0:
            matches[best] = b
    return matches


@pytest.mark.parametrize("case", range(12))
def test_exclusive_matches_equal_loops_and_torchvision(case):
    torch.manual_seed(case)
    grid = 10.0 if case % 2 else None
    boxes = random_boxes(1 + case % 7, grid)
    anchors = torch.cat([random_boxes(150, grid), boxes[:1]])
    anchors = torch.cat([anchors, anchors[:50]])  # every one of these ties
    iou = box_iou(boxes, anchors)
    found = match(iou, 0.5, 0.5, exclusive=True)
    assert found.tolist() == by_loops(iou, 0.5)
    assert torch.equal(found, SSDMatcher(0.5)(iou.clone()))


def test_a_best_anchor_is_given_the_box_whose_best_it_is():
    iou = torch.tensor([[0.2, 0.2, 0.1], [0.3, 0.1, 0.0], [0.0, 0.0, 0.45]])
    # Anchor 0 ties with 1 for box 0 and comes first, but is the best of box 1 too, which comes later.
    assert match(iou, 0.5, 0.5, exclusive=True).tolist() == [1, NEGATIVE, 2]
    assert match(iou[:1], 0.5, 0.5, exclusive=True).tolist() == [0, NEGATIVE, NEGATIVE]
    assert match(iou[:1], 0.5, 0.5).tolist() == [0, 0, NEGATIVE]
    # Though anchor 1 overlaps box 1 more, it is box 0's only hope.
    assert match(torch.tensor([[0.0, 0.6], [0.9, 0.7]]), 0.5, 0.5, exclusive=True).tolist() == [1, 0]


def test_exclusive_gives_up_a_box_that_touches_nothing():
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [10.0, 10.0, 20.0, 20.0]])
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 5.0, 5.0, 5.0]])
    targets = assign(anchors, boxes, torch.tensor([7, 3]), 0.5, 0.5, exclusive=True)
    assert targets.positive.tolist() == [True, False]
    assert targets.labels[0] == 7


def test_a_batch_is_its_images():
    anchors = random_boxes(40)
    boxes = [random_boxes(count) for count in (3, 0, 1)]
    labels = [torch.randint(5, (len(b),)) for b in boxes]
    batch = assign_batch(anchors, boxes, labels, 0.5, 0.5, exclusive=True)
    for number, (image_boxes, image_labels) in enumerate(zip(boxes, labels, strict=True)):
        alone = assign(anchors, image_boxes, image_labels, 0.5, 0.5, exclusive=True)
        for field, wanted in zip(batch, alone, strict=True):
            assert torch.equal(field[number], wanted)
