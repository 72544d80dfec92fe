"""The yardstick of bccd.md: torchvision's RetinaNet on the same weights, images and budget.

    python benchmarks/torchvision_retinanet.py /data/bccd --weights mobilenet_v2.safetensors

Backbone, pyramid, head, anchors, losses and prediction are torchvision's, with its defaults; the pyramid has 96
channels, as in the recipe `bccd/train`. Data loading and scoring are this project's. Without --weights the
backbone starts at random.
"""

from __future__ import annotations

import argparse

import torch
from rich.progress import track
from torch import nn
from torchvision.models import mobilenet_v2
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from fna_lightning.checkpoints import read_file, tensors_of
from fna_lightning.data import CocoDataModule, DetectionBatch
from fna_lightning.detectors import Detections
from fna_lightning.tasks.coco_metric import CocoMetric

CHANNELS = 96
SIZE = (240, 320)


def main() -> None:
    """Train, score, print the figures."""
    options = _options()
    torch.manual_seed(0)
    data = CocoDataModule(
        options.root,
        "annotations/instances_train.json",
        "annotations/instances_val.json",
        "JPEGImages",
        "JPEGImages",
        size=list(SIZE),
        batch_size=4,
    )
    data.setup("fit")
    model = build(data.num_classes, options.weights)
    train(model, data, options)
    print({name: round(value, 4) for name, value in score(model, data).items()})


def build(num_classes: int, weights: str | None) -> RetinaNet:
    """Torchvision's RetinaNet over MobileNetV2's maps at strides 8, 16 and 32."""
    trunk = mobilenet_v2()
    if weights is not None:
        trunk.load_state_dict(tensors_of(read_file(weights), weights))
    backbone = BackboneWithFPN(
        trunk.features,
        {"6": "0", "13": "1", "17": "2"},
        [32, 96, 320],
        CHANNELS,
        extra_blocks=LastLevelP6P7(CHANNELS, CHANNELS),
    )
    # torchvision counts the background as class 0.
    return RetinaNet(backbone, num_classes + 1, min_size=SIZE[0], max_size=SIZE[1])


def train(model: nn.Module, data: CocoDataModule, options: argparse.Namespace) -> None:
    """The plainest loop."""
    optimizer = torch.optim.SGD(model.parameters(), lr=options.lr, momentum=0.9)
    loader = data.train_dataloader()
    model.train()
    for epoch in range(options.epochs):
        loader.set_epoch(epoch)
        for batch in track(loader, f"epoch {epoch}", total=len(loader)):
            targets = [{"boxes": b, "labels": k + 1} for b, k in zip(batch.boxes, batch.labels, strict=True)]
            losses = model(list(batch.images.float() / 255), targets)
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()


@torch.no_grad()
def score(model: nn.Module, data: CocoDataModule) -> dict[str, float]:
    """COCO's figures on the validation images."""
    metric = CocoMetric(data.ground_truth(), data.category_ids)
    model.eval()
    for batch in data.val_dataloader():
        metric.update(predict(model, batch), batch)
    return metric.compute()


def predict(model: nn.Module, batch: DetectionBatch) -> list[Detections]:
    """Detections in the batch's pixels, classes counted from 0."""
    found = model(list(batch.images.float() / 255))
    return [Detections(item["boxes"], item["scores"], item["labels"] - 1) for item in found]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="folder of BCCD in COCO's format")
    parser.add_argument("--weights", help="MobileNetV2 under torchvision's names")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.01)
    return parser.parse_args()


if __name__ == "__main__":
    main()
