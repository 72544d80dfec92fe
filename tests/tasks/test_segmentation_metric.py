import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torchmetrics.classification import MulticlassJaccardIndex

from fna_lightning.data.batches import IGNORED_LABEL, SegmentationBatch
from fna_lightning.errors import ConfigError
from fna_lightning.tasks.segmentation_metric import SegmentationMetric

NAMES = ("road", "car", "sky", "pole")


def batch_of(truth):
    """Label maps padded to one size."""
    height, width = (max(labels.shape[axis] for labels in truth) for axis in (0, 1))
    padded = torch.full((len(truth), height, width), IGNORED_LABEL, dtype=torch.uint8)
    for target, labels in zip(padded, truth, strict=True):
        target[: labels.shape[0], : labels.shape[1]] = torch.as_tensor(labels)
    sizes = torch.tensor([labels.shape for labels in truth])
    return SegmentationBatch(torch.zeros(len(truth), 3, 1, 1, dtype=torch.uint8), padded, sizes, sizes)


def scored(found, truth, names=NAMES):
    metric = SegmentationMetric(names)
    metric.update([torch.as_tensor(labels, dtype=torch.uint8) for labels in found], batch_of(truth))
    return metric


def test_by_hand():
    metric = scored([np.array([[0, 1], [1, 2]])], [np.array([[0, 0], [1, IGNORED_LABEL]], dtype=np.uint8)])
    # Road: one of two found; car: one found, and one too many. What is ignored counts nowhere.
    assert metric.compute() == {"mIoU": 0.5, "pixel_accuracy": pytest.approx(2 / 3)}
    assert metric.per_class() == {"road": 0.5, "car": 0.5}
    assert metric.class_scores() == {"IoU/road": 0.5, "IoU/car": 0.5}


def test_a_class_that_never_occurs_costs_only_the_class_it_is_taken_for():
    metric = scored([np.array([[0, 0, 2, 1]])], [np.array([[0, 0, 0, 1]], dtype=np.uint8)])
    assert metric.compute() == {"mIoU": pytest.approx((2 / 3 + 1) / 2), "pixel_accuracy": 0.75}
    assert metric.per_class() == {"road": pytest.approx(2 / 3), "car": 1.0}


def test_the_set_is_counted_whole_and_forgotten_by_reset():
    metric = SegmentationMetric(NAMES)
    truth = [np.zeros((1, 4), np.uint8), np.zeros((2, 4), np.uint8)]
    metric.update([torch.zeros(1, 4, dtype=torch.uint8)], batch_of(truth[:1]))
    metric.update([torch.ones(2, 4, dtype=torch.uint8)], batch_of(truth[1:]))
    assert metric.compute()["mIoU"] == pytest.approx(4 / 12)  # the mean of both images' would be 1/2
    metric.reset()
    assert metric.per_class() == {}
    metric.update([torch.ones(2, 4, dtype=torch.uint8)], batch_of(truth[1:]))
    assert metric.compute()["mIoU"] == 0


def test_nothing_labelled():
    metric = scored([np.zeros((2, 2))], [np.full((2, 2), IGNORED_LABEL, np.uint8)])
    assert all(math.isnan(value) for value in metric.compute().values())
    assert metric.class_scores() == {}


def test_equals_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    shape = (3, 20, 30)
    truth = torch.randint(len(NAMES), shape, generator=generator, dtype=torch.uint8)
    found = torch.where(torch.rand(shape, generator=generator) < 0.6, truth, truth.roll(1, 2))
    truth[truth == 3] = 0  # found, but never true
    truth[:, :4] = IGNORED_LABEL
    metric = scored(list(found), list(truth))
    referee = MulticlassJaccardIndex(len(NAMES), average=None, ignore_index=IGNORED_LABEL)
    ious = referee(found, truth)
    metric.compute()
    assert list(metric.per_class().values()) == pytest.approx(ious[:3].tolist())
    assert metric.compute()["mIoU"] == pytest.approx(float(ious[:3].mean()))


LABELS = st.sampled_from([0, 1, 2, 3, IGNORED_LABEL])
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5))


@given(st.lists(SHAPES, min_size=1, max_size=3), st.data())
def test_equals_a_plain_count(shapes, data):
    truth = [data.draw(hnp.arrays(np.uint8, shape, elements=LABELS)) for shape in shapes]
    found = [data.draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 3))) for shape in shapes]
    pairs = [
        (int(t), int(f))
        for true, guess in zip(truth, found, strict=True)
        for t, f in zip(true.flat, guess.flat, strict=True)
        if t != IGNORED_LABEL
    ]
    wanted = {}
    for label, name in enumerate(NAMES):
        if any(t == label for t, _ in pairs):
            either = [pair for pair in pairs if label in pair]
            wanted[name] = sum(pair == (label, label) for pair in either) / len(either)
    metric = scored(found, truth)
    figures = metric.compute()
    assert metric.per_class() == pytest.approx(wanted)
    if pairs:
        assert figures["mIoU"] == pytest.approx(sum(wanted.values()) / len(wanted))
        assert figures["pixel_accuracy"] == pytest.approx(sum(t == f for t, f in pairs) / len(pairs))
    else:
        assert math.isnan(figures["mIoU"])


def test_labels_without_a_class_are_refused():
    with pytest.raises(ConfigError, match="num_classes: the network found label 4, but the data set has only 4"):
        scored([np.array([[4]])], [np.array([[0]], dtype=np.uint8)])
    with pytest.raises(ConfigError, match="num_classes: a pixel has label 7, but the data set has only 4 classes"):
        scored([np.array([[1]])], [np.array([[7]], dtype=np.uint8)])
