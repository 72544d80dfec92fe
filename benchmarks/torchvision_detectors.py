"""The yardsticks of bccd.md: torchvision's detectors on the same weights, images and budget.

    python benchmarks/torchvision_detectors.py retinanet /data/bccd --weights mobilenet_v2.safetensors
    python benchmarks/torchvision_detectors.py fcos /data/bccd --weights mobilenet_v2.safetensors
    python benchmarks/torchvision_detectors.py ssdlite /data/bccd --weights mobilenet_v2.safetensors --epochs 12

Pyramid or extra layers, head, anchors, losses and prediction are torchvision's, with its defaults, around its
MobileNetV2; the pyramid has 96 channels, as in the recipe `bccd/train`. Data loading and scoring are this
project's. Without --weights the backbone starts at random.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from rich.progress import track
from torch import nn
from torchvision.models import mobilenet_v2
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection._utils import retrieve_out_channels
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteFeatureExtractorMobileNet, SSDLiteHead
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from fna_lightning.checkpoints import read_file, weights_of
from fna_lightning.data import CocoDataModule, DetectionBatch
from fna_lightning.detectors import Detections
from fna_lightning.tasks.coco_metric import CocoMetric

CHANNELS = 96
SIZES = {"retinanet": (240, 320), "fcos": (240, 320), "ssdlite": (320, 320)}


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
        size=list(SIZES[options.detector]),
        batch_size=4,
    )
    data.setup("fit")
    model = BUILDERS[options.detector](data.num_classes, _trunk(options.weights))
    train(model, data, options)
    print({name: round(value, 4) for name, value in score(model, data).items()})


def build_retinanet(num_classes: int, trunk: nn.Sequential) -> nn.Module:
    """Torchvision's RetinaNet over MobileNetV2's maps at strides 8, 16 and 32."""
    # torchvision counts the background as class 0.
    size = SIZES["retinanet"]
    return RetinaNet(_pyramid(trunk), num_classes + 1, min_size=size[0], max_size=size[1])


def build_fcos(num_classes: int, trunk: nn.Sequential) -> nn.Module:
    """Torchvision's FCOS over the same maps."""
    size = SIZES["fcos"]
    return FCOS(_pyramid(trunk), num_classes + 1, min_size=size[0], max_size=size[1])


def _pyramid(trunk: nn.Sequential) -> BackboneWithFPN:
    return BackboneWithFPN(
        trunk,
        {"6": "0", "13": "1", "17": "2"},
        [32, 96, 320],
        CHANNELS,
        extra_blocks=LastLevelP6P7(CHANNELS, CHANNELS),
    )


def build_ssdlite(num_classes: int, trunk: nn.Sequential) -> nn.Module:
    """Torchvision's SSDLite, which it publishes with MobileNetV3 only, around MobileNetV2."""
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    first_of_stage_6 = trunk[14]
    first_of_stage_6.block = first_of_stage_6.conv  # MobileNetV3's name for the same thing
    backbone = SSDLiteFeatureExtractorMobileNet(trunk, 14, norm)
    anchors = DefaultBoxGenerator([[2, 3] for _ in range(6)], min_ratio=0.2, max_ratio=0.95)
    channels = retrieve_out_channels(backbone, SIZES["ssdlite"])
    head = SSDLiteHead(channels, anchors.num_anchors_per_location(), num_classes + 1, norm)
    settings = {"score_thresh": 0.001, "nms_thresh": 0.55, "detections_per_img": 300, "topk_candidates": 300}
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of these weights
    return SSD(
        backbone,
        anchors,
        SIZES["ssdlite"],
        num_classes + 1,
        image_mean=mean,
        image_std=std,
        head=head,
        **settings,
    )


BUILDERS = {"retinanet": build_retinanet, "fcos": build_fcos, "ssdlite": build_ssdlite}


def _trunk(weights: str | None) -> nn.Sequential:
    network = mobilenet_v2()
    if weights is not None:
        network.load_state_dict(weights_of(read_file(weights)).plain)
    return network.features


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
    parser.add_argument("detector", choices=sorted(BUILDERS))
    parser.add_argument("root", help="folder of BCCD in COCO's format")
    parser.add_argument("--weights", help="MobileNetV2 under torchvision's names")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.01)
    return parser.parse_args()


if __name__ == "__main__":
    main()
