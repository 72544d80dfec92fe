import multiprocessing
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from fna_lightning.data.batches import IGNORED_LABEL, SegmentationBatch
from fna_lightning.distributed import average_gradients
from fna_lightning.tasks import SegmentationMetric, SegmentationTask

CONF = Path(__file__).parents[2] / "conf" / "task"
NUM_CLASSES = 5


class Coarse(nn.Module):
    """Logits at half the images' size."""

    num_classes = NUM_CLASSES

    def __init__(self, dtype=torch.float32):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(NUM_CLASSES, 3, 3, 3, generator=generator, dtype=dtype) / 100)
        self.bias = nn.Parameter(torch.randn(NUM_CLASSES, generator=generator, dtype=dtype))

    def forward(self, images):
        return F.conv2d(images.to(self.weight.dtype) - 128, self.weight, self.bias, stride=2, padding=1)


def batch_of(sizes, label_sizes=None, ignored=0.2, seed=0):
    """Pictures of these sizes in one batch, padded with noise, which nothing may look at."""
    generator = torch.Generator().manual_seed(seed)
    label_sizes = label_sizes or sizes
    full, full_labels = ([max(side) for side in zip(*some, strict=True)] for some in (sizes, label_sizes))
    images = torch.randint(256, (len(sizes), 3, *full), dtype=torch.uint8, generator=generator)
    labels = torch.full((len(sizes), *full_labels), IGNORED_LABEL, dtype=torch.uint8)
    for target, size in zip(labels, label_sizes, strict=True):
        drawn = torch.randint(NUM_CLASSES, size, dtype=torch.uint8, generator=generator)
        drawn[torch.rand(size, generator=generator) < ignored] = IGNORED_LABEL
        target[: size[0], : size[1]] = drawn
    return SegmentationBatch(images, labels, torch.tensor(sizes), torch.tensor(label_sizes))


def grown(logits, size):
    """Bilinear interpolation whose corners are those of the map, one output pixel after the other."""
    result = logits.new_zeros(*logits.shape[:2], *size)
    for y in range(size[0]):
        for x in range(size[1]):
            v = y * (logits.shape[2] - 1) / (size[0] - 1)
            u = x * (logits.shape[3] - 1) / (size[1] - 1)
            for j, weight_j in ((int(v), 1 - v % 1), (min(int(v) + 1, logits.shape[2] - 1), v % 1)):
                for i, weight_i in ((int(u), 1 - u % 1), (min(int(u) + 1, logits.shape[3] - 1), u % 1)):
                    result[:, :, y, x] += weight_j * weight_i * logits[:, :, j, i]
    return result


# Loss


def test_loss_is_the_cross_entropy_of_labelled_pixels():
    network, batch = Coarse(), batch_of([(9, 12), (9, 12)])
    wanted = F.cross_entropy(
        grown(network(batch.images), (9, 12)), batch.labels.long(), ignore_index=IGNORED_LABEL
    )
    losses = SegmentationTask().losses(network, batch)
    assert set(losses) == {"segmentation"}
    torch.testing.assert_close(losses["segmentation"], wanted)
    ours = torch.autograd.grad(losses["segmentation"], list(network.parameters()))
    torch.testing.assert_close(ours, torch.autograd.grad(wanted, list(network.parameters())), rtol=1e-4, atol=1e-6)


def test_gradient_by_finite_differences():
    network, batch, step = Coarse(), batch_of([(5, 6)]), 0.02
    task = SegmentationTask()
    task.losses(network, batch)["segmentation"].backward()
    for place in range(NUM_CLASSES):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                network.bias[place] += sign * step
                values.append(float(task.losses(network, batch)["segmentation"]))
                network.bias[place] -= sign * step
        assert float(network.bias.grad[place]) == pytest.approx((values[0] - values[1]) / (2 * step), abs=3e-4)


def test_ignored_pixels_have_no_gradient():
    logits = torch.randn(1, NUM_CLASSES, 4, 4, requires_grad=True)
    batch = batch_of([(4, 4)], ignored=0.5)
    SegmentationTask().losses(lambda _: logits, batch)["segmentation"].backward()
    ignored = batch.labels[0] == IGNORED_LABEL
    assert 0 < ignored.sum() < 16
    assert (logits.grad[0][:, ignored] == 0).all()
    assert (logits.grad[0][:, ~ignored] != 0).all()


def test_a_batch_without_a_label_costs_nothing():
    network, batch = Coarse(), batch_of([(6, 8)], ignored=1.1)
    loss = SegmentationTask().losses(network, batch)["segmentation"]
    loss.backward()
    assert loss.item() == 0
    assert all((parameter.grad == 0).all() for parameter in network.parameters())


def test_loss_is_computed_in_float32_under_mixed_precision():
    network, batch = Coarse(torch.bfloat16), batch_of([(8, 8)])
    loss = SegmentationTask().losses(network, batch)["segmentation"]
    wanted = F.cross_entropy(
        grown(network(batch.images).float(), (8, 8)), batch.labels.long(), ignore_index=IGNORED_LABEL
    )
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, wanted)


def _part(batch, index):
    return SegmentationBatch(
        batch.images[index : index + 1],
        batch.labels[index : index + 1],
        batch.sizes[index : index + 1],
        batch.label_sizes[index : index + 1],
    )


def _sparse(kind):
    """Two pictures, of which the first has few labels, a single one or none."""
    batch = batch_of([(8, 8), (8, 8)])
    batch.labels[0, {"few": 2, "one": 0, "none": 0}[kind] :] = IGNORED_LABEL
    if kind == "one":
        batch.labels[:] = IGNORED_LABEL
        batch.labels[0, 3, 4] = 2
    return batch


def _rank(rank, folder, outcome):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    task, gradients = SegmentationTask(), {}
    for kind in ("few", "one", "none"):
        network = Coarse()
        task.losses(network, _part(_sparse(kind), rank))["segmentation"].backward()
        average_gradients(list(network.parameters()))
        gradients[kind] = [parameter.grad.numpy() for parameter in network.parameters()]
    metric = task.metric(SimpleNamespace(class_names=list("abcde")))
    # Only the second rank has a picture in its second batch, as shares may differ by one.
    for seed in range(1 + rank):
        batch = batch_of([(7, 9)], seed=10 * rank + seed)
        metric.update(task.predict(Coarse(), batch), batch)
    outcome.put((rank, gradients, metric.compute(), metric.per_class()))
    dist.destroy_process_group()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork to be quick")
def test_two_ranks_are_one_process(tmp_path):
    context = multiprocessing.get_context("fork")
    outcome = context.Queue()
    ranks = [context.Process(target=_rank, args=(rank, tmp_path, outcome)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    try:
        answers = [outcome.get(timeout=60) for _ in ranks]
    finally:
        for rank in ranks:
            rank.join(10)
            rank.kill()

    task = SegmentationTask()
    metric = SegmentationMetric(list("abcde"))
    for seed in (0, 10, 11):
        batch = batch_of([(7, 9)], seed=seed)
        metric.update(task.predict(Coarse(), batch), batch)
    scores = metric.compute()
    for _, gradients, *figures in answers:
        assert figures == [scores, metric.per_class()]
        for kind, found in gradients.items():
            network = Coarse()
            task.losses(network, _sparse(kind))["segmentation"].backward()
            assert any(gradient.any() for gradient in found)
            for ours, parameter in zip(found, network.parameters(), strict=True):
                torch.testing.assert_close(torch.from_numpy(ours), parameter.grad, rtol=1e-5, atol=1e-6)


# Predictions


def alone(network, batch, index):
    """The labels of one picture, by steps that share nothing with the task but torch."""
    (height, width), label_size = batch.sizes[index].tolist(), batch.label_sizes[index].tolist()
    image = batch.images[index : index + 1, :, :height, :width]
    logits = F.interpolate(network(image), (height, width), mode="bilinear", align_corners=True)
    probabilities = F.interpolate(logits.softmax(1), label_size, mode="bilinear", align_corners=True)
    return probabilities.argmax(1)[0]


@pytest.mark.parametrize(
    ("sizes", "label_sizes"),
    [
        ([(8, 10), (8, 10)], None),
        ([(8, 10), (6, 10), (8, 7)], None),
        ([(8, 10), (8, 10)], [(16, 20), (12, 31)]),
        ([(8, 10), (5, 6)], [(8, 10), (9, 13)]),
    ],
)
def test_predictions_are_those_of_every_picture_alone(sizes, label_sizes):
    network, batch = Coarse(), batch_of(sizes, label_sizes)
    predictions = SegmentationTask().predict(network, batch)
    assert len(predictions) == len(sizes)
    for index, labels in enumerate(predictions):
        assert labels.dtype == torch.uint8
        assert not labels.requires_grad
        assert list(labels.shape) == batch.label_sizes[index].tolist()
        wanted = alone(network, batch, index)
        # Two classes may be equally probable but for rounding.
        assert (labels == wanted).float().mean() > 0.99
        assert len(wanted.unique()) > 1


def test_pictures_of_one_size_are_computed_together():
    calls = []

    class Counting(Coarse):
        def forward(self, images):
            calls.append(images.shape[0])
            return super().forward(images)

    task = SegmentationTask()
    task.predict(Counting(), batch_of([(8, 10)] * 3, [(8, 10), (6, 5), (8, 10)]))
    assert calls == [3]
    calls.clear()
    task.predict(Counting(), batch_of([(8, 10), (8, 9)]))
    assert calls == [1, 1]


def test_windows_and_scales_reach_the_inference():
    task = SegmentationTask(window=33, stride=22, window_batch=2, scales=[0.5, 1.0], flip=True)
    settings = task.inference
    assert (settings.window, settings.stride, settings.window_batch) == (33, 22, 2)
    assert (tuple(settings.scales), settings.flip) == ((0.5, 1.0), True)


def test_from_batch_to_figures():
    task, network = SegmentationTask(), Coarse()
    metric = task.metric(SimpleNamespace(class_names=list("abcde")))
    batch = batch_of([(8, 10), (6, 9)])
    predictions = task.predict(network, batch)
    metric.update(predictions, batch)
    right = sum(int((p == batch.labels[i, : p.shape[0], : p.shape[1]]).sum()) for i, p in enumerate(predictions))
    figures = metric.compute()
    assert figures["pixel_accuracy"] == pytest.approx(right / int((batch.labels != IGNORED_LABEL).sum()))
    assert 0 < figures[task.monitor] < 1


def test_config():
    task = instantiate(OmegaConf.load(CONF / "segmentation.yaml"))
    assert isinstance(task, SegmentationTask)
    (labels,) = task.predict(Coarse(), batch_of([(8, 10)]))
    assert labels.shape == (8, 10)
