"""Pascal VOC's average precision against plain loops after the definition, and cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fna_lightning.tasks.voc_scores import AP_11, AP_AREA, voc_scores


def thing(box, image=1, category=1, difficult=0):
    return {"image_id": image, "category_id": category, "bbox": box, "iscrowd": difficult}


def found(box, score, image=1, category=1):
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def overlap(a, b):
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def curve(truth, results):
    """The development kit's loop over one class: right detections and precision after each that counts."""
    detected, outcomes = set(), []
    for detection in sorted(results, key=lambda row: -row["score"]):
        best, at = -1.0, None
        for number, row in enumerate(truth):
            if row["image_id"] == detection["image_id"]:
                value = overlap(row["bbox"], detection["bbox"])
                if value > best:
                    best, at = value, number
        if best < 0.5:
            outcomes.append(False)
        elif not truth[at]["iscrowd"]:
            outcomes.append(at not in detected)
            detected.add(at)
    return [(sum(outcomes[:number]), sum(outcomes[:number]) / number) for number in range(1, len(outcomes) + 1)]


def plain(truth, results, image_ids, category):
    """By 11 points and by area."""
    truth, results = (
        [row for row in rows if row["category_id"] == category and row["image_id"] in image_ids]
        for rows in (truth, results)
    )
    total = sum(not row["iscrowd"] for row in truth)
    if not total:
        return -1.0, -1.0
    points = curve(truth, results)
    eleven = sum(max((p for h, p in points if 10 * h >= point * total), default=0.0) for point in range(11)) / 11
    area = sum(max((p for h, p in points if h >= hit), default=0.0) for hit in range(1, total + 1)) / total
    return eleven, area


def assert_as_plain(truth, results, image_ids, category_ids):
    means, per_category = voc_scores(truth, results, image_ids, category_ids)
    expected = {category: plain(truth, results, image_ids, category) for category in category_ids}
    for position, name in enumerate((AP_11, AP_AREA)):
        assert per_category[name] == pytest.approx({c: values[position] for c, values in expected.items()})
        defined = [values[position] for values in expected.values() if values[position] >= 0]
        assert means[name] == pytest.approx(np.mean(defined) if defined else -1.0)
    return means


def test_equals_plain_loops():
    generator = np.random.default_rng(0)
    truth, results = [], []
    for image in range(1, 25):
        for _ in range(generator.integers(0, 7)):
            box = [*generator.uniform(0, 60, 2), *generator.uniform(10, 40, 2)]
            category = int(generator.integers(1, 5))
            truth.append(thing(box, image, category, int(generator.random() < 0.25)))
            for _ in range(generator.integers(0, 4)):
                shaken = (np.array(box) + generator.normal(0, 3, 4)).clip(1).tolist()
                results.append(found(shaken, round(float(generator.random()), 1), image, category))
        for _ in range(generator.integers(0, 3)):
            box = [*generator.uniform(0, 60, 2), *generator.uniform(10, 40, 2)]
            results.append(found(box, round(float(generator.random()), 1), image, int(generator.integers(1, 6))))
    # Category 5 has no object; category 9 and images from 21 on do not count.
    truth.append(thing([0, 0, 9, 9], 3, 9))
    means = assert_as_plain(truth, results, range(1, 21), [4, 2, 1, 3, 5])
    assert 0.2 < means[AP_11] < 0.9
    assert means[AP_11] != means[AP_AREA]


BOXES = st.tuples(*[st.integers(0, 3)] * 2, *[st.integers(1, 3)] * 2).map(list)
THINGS = st.builds(thing, BOXES, st.integers(1, 2), st.integers(1, 2), st.integers(0, 1))
FOUND = st.builds(found, BOXES, st.sampled_from([0.2, 0.5, 0.8]), st.integers(1, 2), st.integers(1, 2))


@settings(max_examples=200, deadline=None)
@given(st.lists(THINGS, max_size=6), st.lists(FOUND, max_size=10))
def test_small_cases_equal_plain_loops(truth, results):
    assert_as_plain(truth, results, [1, 2], [1, 2])


BOX, OTHER, FAR = [0, 0, 10, 10], [20, 20, 10, 10], [50, 50, 10, 10]
# Objects, detections, by 11 points, by area.
BY_HAND = {
    "nothing found": ([thing(BOX)], [], 0.0, 0.0),
    "nothing to find": ([], [found(BOX, 0.9)], -1.0, -1.0),
    "only a difficult object to find": ([thing(BOX, difficult=1)], [found(BOX, 0.9)], -1.0, -1.0),
    "found": ([thing(BOX)], [found(BOX, 0.1)], 1.0, 1.0),
    "one of two found": ([thing(BOX), thing(OTHER)], [found(BOX, 0.9)], 6 / 11, 0.5),
    "in another image": ([thing(BOX)], [found(BOX, 0.9, image=2)], 0.0, 0.0),
    "of another class": ([thing(BOX)], [found(BOX, 0.9, category=2)], 0.0, 0.0),
    "a miss first": ([thing(BOX)], [found(BOX, 0.8), found(FAR, 0.9)], 0.5, 0.5),
    "a miss last": ([thing(BOX)], [found(BOX, 0.9), found(FAR, 0.8)], 1.0, 1.0),
    "equal scores go by order": ([thing(BOX)], [found(FAR, 0.5), found(BOX, 0.5)], 0.5, 0.5),
    # The second hit of the first object is wrong, also for the object beside it: hit, repeat, hit.
    "repeated": (
        [thing(BOX), thing(OTHER)],
        [found(BOX, 0.9), found(BOX, 0.8), found(OTHER, 0.7)],
        (6 + 5 * 2 / 3) / 11,
        (1 + 2 / 3) / 2,
    ),
    # Any number of hits of a difficult object neither helps nor harms.
    "difficult": (
        [thing(BOX), thing(OTHER, difficult=1)],
        [found(OTHER, 0.9), found(OTHER, 0.8), found(BOX, 0.7)],
        1.0,
        1.0,
    ),
    "half the area is enough": ([thing(BOX)], [found([0, 0, 10, 5], 0.9)], 1.0, 1.0),
    "less is not": ([thing(BOX)], [found([0, 0, 10, 4.9], 0.9)], 0.0, 0.0),
    # Overlaps 2/3 with the difficult object and 3/5 with the other: it belongs to the first and does not count.
    "the larger overlap decides": (
        [thing([2.5, 0, 10, 10]), thing([-2, 0, 10, 10], difficult=1)],
        [found(BOX, 0.9)],
        0.0,
        0.0,
    ),
    # 3 of 10 found: a recall of 0.3, which 0.1 * 3 would exceed in floating point.
    "recall on a point": (
        [thing([20 * k, 0, 10, 10]) for k in range(10)],
        [found([20 * k, 0, 10, 10], 0.9) for k in range(3)],
        4 / 11,
        0.3,
    ),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_by_hand(case):
    truth, results, eleven, area = BY_HAND[case]
    means = assert_as_plain(truth, results, [1, 2], [1])
    assert means == pytest.approx({AP_11: eleven, AP_AREA: area})
