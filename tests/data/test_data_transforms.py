"""Transforms against plain formulas, and as functions of their seed."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fna_lightning.data.augmentation import transforms as T
from fna_lightning.errors import ConfigError


def image_of(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@given(
    st.integers(10, 3000), st.integers(10, 3000), st.sampled_from([(800, 1333), (96, 120), (64, 64), (300, 200)])
)
@settings(deadline=None)
def test_keep_ratio_rule(height, width, sides):
    short, long = sides
    # The rule in words: enlarge or shrink until the short side fits or the long side would not.
    if short * max(height, width) <= long * min(height, width):
        scale = short / min(height, width)
    else:
        scale = long / max(height, width)
    expected = (int(height * scale + 0.5), int(width * scale + 0.5))
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


@pytest.mark.parametrize(
    "arguments", [{"size": [3]}, {"size": [0, 4]}, {}, {"short_side": 8}, {"short_side": -1, "long_side": 3}]
)
def test_impossible_sizes(arguments):
    with pytest.raises(ConfigError, match=r"data\.(size|short_side)="):
        T.detection_resize(**arguments)
