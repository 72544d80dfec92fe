"""Transforms against plain formulas, and as functions of their seed."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fna_lightning.data.augmentation import transforms as T
from fna_lightning.data.augmentation.ssd import SSDAugmentation
from fna_lightning.errors import ConfigError


def image_of(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([(800, 1333), (96, 120), (64, 64), (300, 200)]))
@settings(deadline=None)
def test_keep_ratio_rule(height, width, sides):
    short, long = sides
    # The rule in words: enlarge or shrink until the short side fits or the long side would not.
    if short * max(height, width) <= long * min(height, width):
        scale = short / min(height, width)
    else:
        scale = long / max(height, width)
    expected = (max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5)))
    assert T.keep_ratio_size(height, width, short, long) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1067)),
        ((427, 640), (800, 1199)),
        ((333, 1000), (444, 1333)),
        ((1200, 1600), (800, 1067)),
    ],
)
def test_keep_ratio_of_known_sizes(size, expected):
    assert T.keep_ratio_size(*size, 800, 1333) == expected


def test_resize_scales_image_and_boxes():
    image = image_of(60, 80)
    boxes = np.array([[0, 0, 80, 60], [10.5, 20, 30, 40.25]])
    for pipeline, (height, width) in (
        (T.detection_evaluation(T.detection_resize(short_side=90, long_side=200)), (90, 120)),
        (T.detection_evaluation(T.detection_resize(size=[32, 64])), (32, 64)),
    ):
        out, moved, labels = pipeline(image, boxes, np.array([2, 5]), random_seed=0)
        expected = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(out, expected)
        np.testing.assert_allclose(moved, boxes * np.tile([width / 80, height / 60], 2), rtol=1e-5, atol=1e-4)
        assert labels.tolist() == [2, 5]
        assert (moved.dtype, labels.dtype) == (np.float32, np.int64)


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=6), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_flip_equals_a_flip_by_hand(fractions, seed):
    height, width = 50, 70
    boxes = np.array(
        [(min(a, c) * 68, min(b, d) * 48, max(a, c) * 68 + 1, max(b, d) * 48 + 1) for a, b, c, d in fractions]
    ).reshape(-1, 4)
    image, labels = image_of(height, width), np.arange(len(boxes))
    pipeline = T.detection_training(T.detection_resize(size=[height, width]), flip=1.0)
    flipped, moved, kept = pipeline(image, boxes, labels, seed)
    np.testing.assert_array_equal(flipped, image[:, ::-1])
    by_hand = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
    np.testing.assert_allclose(moved, by_hand, atol=1e-4)
    assert kept.tolist() == labels.tolist()


def test_equal_seeds_give_equal_results_whatever_came_before():
    image, nothing = image_of(40, 40), np.zeros((0, 4))
    detection = T.detection_training(T.detection_resize(size=[40, 40]))
    classification = T.classification_training(32, colour_jitter=0.4)
    first = [(detection(image, nothing, nothing[:, 0], s)[0], classification(image, s)) for s in range(20)]
    for seed in reversed(range(20)):
        np.testing.assert_array_equal(detection(image, nothing, nothing[:, 0], seed)[0], first[seed][0])
        np.testing.assert_array_equal(classification(image, seed), first[seed][1])
    flips = [not np.array_equal(out, image) for out, _ in first]
    assert 3 < sum(flips) < 17


def test_coins_of_one_seed_are_independent():
    image = image_of(2, 2)
    pipeline = T.ImagePipeline([T.A.HorizontalFlip(p=0.5), T.A.VerticalFlip(p=0.5)])
    outcomes = {pipeline(image, seed).tobytes() for seed in range(40)}
    assert len(outcomes) == 4


def test_classification_evaluation_is_the_centre():
    image = image_of(64, 100)
    np.testing.assert_array_equal(T.classification_evaluation(32, 64)(image, 0), image[16:48, 34:66])
    assert T.classification_evaluation(48, 56)(image, 0).shape == (48, 48, 3)
    assert T.classification_training(48)(image, 0).shape == (48, 48, 3)


STRIPS = [(1, 4000), (4000, 1), (2, 9000), (1, 1), (3, 100)]


@pytest.mark.parametrize("size", STRIPS)
@pytest.mark.parametrize("augmentation", [None, SSDAugmentation()])
@pytest.mark.parametrize("seed", range(4))
def test_no_side_of_a_detectors_image_becomes_nothing(size, augmentation, seed):
    height, width = size
    boxes = np.array([[0, 0, width, height], [width / 2, height / 2, width, height]])
    pipeline = T.detection_training(T.detection_resize(short_side=32, long_side=48), augmentation=augmentation)
    image, moved, labels = pipeline(image_of(*size), boxes, np.array([0, 1]), seed)
    assert 1 <= min(image.shape[:2]) <= max(image.shape[:2]) <= 48
    assert len(labels) == len(moved) >= 1
    assert np.isfinite(moved).all()
    assert (moved >= 0).all()
    assert (moved[:, 2:] > moved[:, :2]).all()
    assert (moved[:, 2:] <= (image.shape[1], image.shape[0])).all()


def test_strips_by_the_known_rule():
    boxes = np.array([[1000, 0, 3000, 1]])
    pipeline = T.detection_evaluation(T.detection_resize(short_side=800, long_side=1333))
    image, moved, _ = pipeline(image_of(1, 4000), boxes, np.array([0]), 0)
    assert image.shape == (1, 1333, 3)
    np.testing.assert_allclose(moved, [[1000 * 1333 / 4000, 0, 3000 * 1333 / 4000, 1]], rtol=1e-5)


@pytest.mark.parametrize("size", STRIPS)
@pytest.mark.parametrize("scale", [0.01, 0.5, 0.75, 2.0])
def test_no_side_of_a_segmenters_image_becomes_nothing(size, scale):
    image = image_of(*size)
    cut, labels = T.segmentation_training(None, [scale], [32, 48])(image, image[..., 0], 0)
    assert cut.shape == (32, 48, 3)
    assert labels.shape == (32, 48)


@pytest.mark.parametrize("scale", [0.75, 1.0, 1.25, 1.1])
def test_scales_are_the_librarys(scale):
    image = image_of(41, 59)
    settings = {"mask_interpolation": cv2.INTER_NEAREST_EXACT, "p": 1.0}
    ours, theirs = (
        T.SegmentationPipeline([kind((scale - 1, scale - 1), **settings)])(image, image[..., 0], 3)
        for kind in (T.Scale, T.A.RandomScale)
    )
    for own, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize("size", [*STRIPS, (1, 40000)])
def test_a_classifier_sees_the_middle_of_a_strip(size):
    image = np.zeros((*size, 3), np.uint8)
    height, width = size
    image[height * 2 // 5 : height * 3 // 5 + 1, width * 2 // 5 : width * 3 // 5 + 1] = 200
    seen = T.classification_evaluation(32, 36)(image, 0)
    assert seen.shape == (32, 32, 3)
    assert (seen[16, 16] > 150).all()
    assert T.classification_training(32)(image, 0).shape == (32, 32, 3)


def test_pictures_that_are_no_strip_are_not_cut():
    image = image_of(10, 200)
    assert T.CentralPart(20).apply(image).shape == (10, 200, 3)
    np.testing.assert_array_equal(T.CentralPart(20).apply(image_of(10, 203)), image_of(10, 203)[:, 1:201])
    np.testing.assert_array_equal(T.CentralPart(20).apply(image_of(203, 10)), image_of(203, 10)[1:201])


@pytest.mark.parametrize(
    "arguments", [{"size": [3]}, {"size": [0, 4]}, {}, {"short_side": 8}, {"short_side": -1, "long_side": 3}]
)
def test_impossible_sizes(arguments):
    with pytest.raises(ConfigError, match=r"data\.(size|short_side)="):
        T.detection_resize(**arguments)


def test_training_in_several_sizes():
    """FCOS, FAD: each whole short side of the range as often, the ratio kept, the long side held."""
    image, boxes = image_of(60, 90), np.array([[30.0, 15.0, 60.0, 45.0]])
    pipeline = T.detection_training(T.short_sides_rules(20, 29, 40), flip=0.0)
    sides = np.zeros(30, int)
    for seed in range(600):
        seen, moved, _ = pipeline(image, boxes, np.array([0]), seed)
        height, width = seen.shape[:2]
        assert (height, width) == T.keep_ratio_size(60, 90, height if width < 40 else 29, 40)
        scale = np.array([width / 90, height / 60, width / 90, height / 60])
        np.testing.assert_allclose(moved[0], boxes[0] * scale, rtol=1e-5)
        sides[height] += 1
    # From 27 on the long side is what holds, at 40 by 27.
    assert sides[20:27].min() > 30
    assert sides[27] == 600 - sides[20:27].sum()
    again, _, _ = pipeline(image, boxes, np.array([0]), 7)
    np.testing.assert_array_equal(again, pipeline(image, boxes, np.array([0]), 7)[0])


def test_one_size_draws_nothing_more_than_before():
    image, nothing = image_of(40, 60), np.zeros((0, 4))
    one = T.detection_training(T.detection_resize(short_side=20, long_side=40))
    only = T.detection_training(T.short_sides_rules(20, 20, 40))
    for seed in range(20):
        one_seen, only_seen = (each(image, nothing, nothing[:, 0], seed)[0] for each in (one, only))
        np.testing.assert_array_equal(one_seen, only_seen)


@pytest.mark.parametrize("sides", [(0, 5), (8, 7)])
def test_impossible_ranges_of_sizes(sides):
    with pytest.raises(ConfigError, match=r"data\.train_short_sides="):
        T.short_sides_rules(*sides, 40)
    with pytest.raises(ConfigError, match=r"data\.train_short_sides: data\.augmentation"):
        T.detection_training(T.short_sides_rules(7, 8, 40), augmentation=SSDAugmentation())
