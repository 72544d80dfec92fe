from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from fna_lightning.data.batches import ClassificationBatch
from fna_lightning.tasks import ClassificationTask

CONF = Path(__file__).parents[2] / "conf" / "task"


class Mean(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.linear = nn.Linear(3, num_classes)

    def forward(self, images):
        return self.linear(images.float().mean((2, 3)) / 255)


def batch_of(count, num_classes):
    images = torch.randint(256, (count, 3, 4, 4), dtype=torch.uint8)
    return ClassificationBatch(images, torch.randint(num_classes, (count,)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss(smoothing):
    batch, network = batch_of(6, 8), Mean(8)
    logits = network(batch.images).log_softmax(1)
    truth = torch.full((6, 8), smoothing / 8)
    truth[torch.arange(6), batch.labels] += 1 - smoothing
    loss = ClassificationTask(smoothing).losses(network, batch)
    torch.testing.assert_close(loss["classification"], -(truth * logits).sum(1).mean())


@pytest.mark.parametrize("num_classes", [3, 8])
def test_accuracy(num_classes):
    task, network = ClassificationTask(), Mean(num_classes)
    metric = task.metric(SimpleNamespace(num_classes=num_classes))
    hits, total = {1: 0, 5: 0}, 0
    for count in (40, 17):
        batch = batch_of(count, num_classes)
        logits = task.predict(network, batch)
        assert not logits.requires_grad
        metric.update(logits, batch)
        order = logits.argsort(1, descending=True)
        for k in hits:
            hits[k] += int((order[:, :k] == batch.labels[:, None]).sum())
        total += count
    figures = metric.compute()
    assert figures[task.monitor] == pytest.approx(hits[1] / total)
    if num_classes > 5:
        assert figures["accuracy_top5"] == pytest.approx(hits[5] / total)
    else:
        assert set(figures) == {"accuracy"}


def test_top_one_and_five_stay_apart_after_an_equal_start():
    metric = ClassificationTask().metric(SimpleNamespace(num_classes=6))
    logits = torch.arange(6.0).expand(2, 6)
    for labels in ([5, 5], [4, 0]):
        metric.update(logits, ClassificationBatch(torch.zeros(2, 3, 1, 1), torch.tensor(labels)))
    assert metric.compute() == {"accuracy": 0.5, "accuracy_top5": 0.75}
    metric.reset()
    metric.update(logits, ClassificationBatch(torch.zeros(2, 3, 1, 1), torch.tensor([5, 0])))
    assert metric.compute()["accuracy"] == 0.5


def test_config():
    task = instantiate(OmegaConf.load(CONF / "classification.yaml"))
    assert task.label_smoothing == 0.1
