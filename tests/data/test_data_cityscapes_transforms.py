"""Segmentation's transforms: image and labels stay together, and everything can be drawn."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from fna_lightning.data.augmentation import transforms as T
from fna_lightning.errors import ConfigError

BLOCK = 16
PADDING = [124, 116, 104]


def charted(height, width):
    """A picture that says at each pixel where it is, as (y, x, 0), and labels that number its blocks."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([y, x, 0 * y], axis=-1).astype(np.uint8)
    return image, (y // BLOCK * 14 + x // BLOCK).astype(np.uint8)


def inside(image):
    """(H, W) bool: what is no padding."""
    return image[..., 2] == 0


@given(
    st.tuples(st.integers(20, 200), st.integers(20, 200)),
    st.tuples(st.integers(8, 220), st.integers(8, 220)),
    st.lists(st.sampled_from([0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]), min_size=1, max_size=4),
    st.integers(0, 2**63),
)
def test_labels_stay_on_their_pixels(size, crop, scales, seed):
    image, labels = charted(*size)
    out, moved = T.segmentation_training(None, scales, crop)(image, labels, seed)
    assert out.shape == (*crop, 3)
    assert moved.shape == tuple(crop)
    assert (out.dtype, moved.dtype) == (np.uint8, np.uint8)
    within = inside(out)
    assert (out[~within] == PADDING).all()
    assert (moved[~within] == 255).all()
    rows, columns = within.any(axis=1), within.any(axis=0)
    assert (within == rows[:, None] & columns[None]).all()  # a rectangle...
    assert rows[: rows.sum()].all()  # ...at the top, and at one side: the left, or the right after a flip
    assert columns[: columns.sum()].all() or columns[-columns.sum() :].all()
    y, x, _ = np.moveaxis(out.astype(int), -1, 0)
    # What stands near the border of two blocks may have either label.
    clear = within & (abs((y + 1) % BLOCK - 1) > 1) & (abs((x + 1) % BLOCK - 1) > 1)
    clear &= (y % BLOCK < BLOCK - 2) & (x % BLOCK < BLOCK - 2)
    assert (moved[clear] == (y // BLOCK * 14 + x // BLOCK)[clear]).all()


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.0, 1.25, 1.75, 2.0])
def test_scaling_takes_the_nearest_label_and_mixes_colours_as_torch_does(scale):
    image = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    size = [int(48 * scale), int(64 * scale)]
    pipeline = T.segmentation_training(None, [scale], size, flip=0.0)
    rows, columns = np.mgrid[:48, :64].astype(np.uint8)
    for axis, places in enumerate((rows, columns)):
        _, taken = pipeline(image, places, 0)
        wanted = (np.indices(size)[axis] + 0.5) / scale - 0.5
        assert np.abs(taken - wanted).max() <= 0.5 + 1e-9
    out, _ = pipeline(image, rows, 0)
    planes = torch.tensor(image).permute(2, 0, 1)[None].float()
    expected = F.interpolate(planes, size=size, mode="bilinear")[0].permute(1, 2, 0)
    assert np.abs(out - expected.numpy()).max() <= 1.01


def test_resize_comes_first():
    image, labels = charted(40, 60)
    out, moved = T.segmentation_training([80, 100], [1.0], [80, 100], flip=0.0)(image, labels, 3)
    alone = T.segmentation_evaluation([80, 100])(image, labels, 0)
    np.testing.assert_array_equal(out, alone[0])
    np.testing.assert_array_equal(moved, alone[1])
    assert moved.shape == (80, 100)
    untouched = T.segmentation_evaluation(None)(image, labels, 0)
    np.testing.assert_array_equal(untouched[0], image)
    np.testing.assert_array_equal(untouched[1], labels)


def test_every_scale_is_equally_likely():
    image, labels = charted(20, 20)
    pipeline = T.segmentation_training(None, [0.75, 1.0, 1.25, 1.5, 1.75, 2.0], [40, 40], flip=0.0)
    sides = Counter(int(inside(pipeline(image, labels, seed)[0]).sum() ** 0.5) for seed in range(1200))
    assert sorted(sides) == [15, 20, 25, 30, 35, 40]
    assert all(150 < count < 250 for count in sides.values())  # 4 standard deviations about 200


def test_every_crop_is_equally_likely_the_last_one_too():
    image, labels = charted(10, 12)
    pipeline = T.segmentation_training(None, [1.0], [8, 9], flip=0.0)
    offsets = Counter(tuple(pipeline(image, labels, seed)[0][0, 0, :2].tolist()) for seed in range(1200))
    assert sorted(offsets) == [(y, x) for y in range(3) for x in range(4)]
    assert all(62 < count < 138 for count in offsets.values())  # 4 standard deviations about 100


def test_flips_and_scales_do_not_hang_together():
    image, labels = charted(20, 20)
    pipeline = T.segmentation_training(None, [0.5, 1.0], [20, 20])
    outcomes = Counter()
    for seed in range(800):
        out, _ = pipeline(image, labels, seed)
        width = int(inside(out)[0].sum())
        first = out[0, inside(out)[0], 1]
        outcomes[width, bool(first[0] > first[-1])] += 1
    assert len(outcomes) == 4
    assert all(150 < count < 250 for count in outcomes.values())


def test_equal_seeds_give_equal_results_whatever_came_before():
    rng = np.random.default_rng(0)
    image, labels = rng.integers(0, 256, (50, 70, 3), np.uint8), rng.integers(0, 19, (50, 70), np.uint8)
    pipeline = T.segmentation_training(None, [0.75, 1.0, 1.5], [30, 40])
    first = [pipeline(image, labels, seed) for seed in range(12)]
    for seed in reversed(range(12)):
        out, moved = pipeline(image, labels, seed)
        np.testing.assert_array_equal(out, first[seed][0])
        np.testing.assert_array_equal(moved, first[seed][1])
    assert len({out.tobytes() for out, _ in first}) > 9


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((None, [], [8, 8]), "data.scales=[] must be positive factors, at least one"),
        ((None, [1.0, 0.0], [8, 8]), "data.scales=[1.0, 0.0] must be positive"),
        ((None, [1.0], [8]), "data.crop=[8] is not a height and a width; write e.g. data.crop=[320,320]"),
        (([8, 0], [1.0], [8, 8]), "data.resize=[8, 0] is not a height and a width"),
    ],
)
def test_impossible_settings(arguments, words):
    with pytest.raises(ConfigError) as error:
        T.segmentation_training(*arguments)
    assert words in str(error.value)
