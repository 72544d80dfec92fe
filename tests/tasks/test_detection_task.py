import json
from pathlib import Path
from types import SimpleNamespace

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from fna_lightning.data.batches import DetectionBatch
from fna_lightning.detectors import RetinaNet
from fna_lightning.tasks import DetectionTask

CONF = Path(__file__).parents[2] / "conf" / "task"


class Maps(nn.Module):
    out_channels = {"3": 4, "5": 4, "7": 4}  # noqa: RUF012
    strides = {"3": 8, "5": 16, "7": 32}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict({name: nn.Conv2d(3, 4, s, s) for name, s in self.strides.items()})

    def forward(self, images):
        return {name: layer(images) for name, layer in self.layers.items()}


def test_from_batch_to_figures(tmp_path):
    path = tmp_path / "val.json"
    path.write_text(
        json.dumps(
            {
                "images": [{"id": 3}, {"id": 9}],
                "annotations": [{"id": 1, "image_id": 3, "category_id": 4, "bbox": [10, 10, 40, 40]}],
                "categories": [{"id": 4, "name": "cell"}, {"id": 6, "name": "dot"}],
            }
        )
    )
    batch = DetectionBatch(
        torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8),
        [torch.tensor([[10.0, 10.0, 50.0, 50.0]]), torch.zeros(0, 4)],
        [torch.tensor([0]), torch.zeros(0, dtype=torch.int64)],
        torch.tensor([[64, 64], [48, 64]]),
        torch.tensor([[64, 64], [96, 128]]),
        torch.tensor([3, 9]),
    )
    network = RetinaNet(Maps(), 2, fpn_channels=4, head_depth=1, score_threshold=0.001)
    task = instantiate(OmegaConf.load(CONF / "detection.yaml"))
    assert isinstance(task, DetectionTask)

    losses = task.losses(network.train(), batch)
    assert set(losses) == {"classification", "box"}
    sum(losses.values()).backward()

    predictions = task.predict(network.eval(), batch)
    assert len(predictions) == 2
    assert not predictions[0].boxes.requires_grad
    assert predictions[1].boxes[:, 3].max() <= 48

    truth = json.loads(path.read_text())
    metric = task.metric(SimpleNamespace(ground_truth=lambda: truth, category_ids=[4, 6], voc_scores=False))
    metric.update(predictions, batch)
    figures = metric.compute()
    assert 0 <= figures[task.monitor] < 1
    assert set(metric.per_class()) == {"cell", "dot"}
    assert {entry["image_id"] for entry in metric.results()} <= {3, 9}
