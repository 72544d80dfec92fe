"""Faster R-CNN of this project and of torchvision on BCCD: one backbone, the same weights, images and budget.

    python benchmarks/faster_rcnn_vs_torchvision.py /data/bccd --weights mobilenet_v2.safetensors

Trains three detectors over MobileNetV2, one after the other: ours with DetNAS's head and norms, ours with
torchvision's head and numbers, and torchvision's class around the same backbone and pyramid. Widths, anchors,
proposals, optimiser, schedule, batches and scoring are those of the recipe `bccd/faster_rcnn` for all of them.
Every epoch is saved in --folder, where a script that was stopped goes on; the table is written anew when one is
done. Other options want another folder.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from fna_lightning.architectures import load_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.blocks import Backbone
from fna_lightning.checkpoints import load_seed
from fna_lightning.data import CocoDataModule, DetectionBatch
from fna_lightning.detectors import Detections, FasterRCNN
from fna_lightning.remapping import remap
from fna_lightning.schedules import cosine
from fna_lightning.tasks.coco_metric import CocoMetric

SIZE = (240, 320)
MAPS = (2, 3, 5, 7)
CHANNELS, WIDTH, PROPOSALS, SAMPLES, ANCHOR = 64, 256, 300, 128, 4.0
TABLE = Path(__file__).with_name("faster_rcnn.md")
SHOWN = ("mAP", "mAP_50", "mAP_75", "mAP_small")


def main() -> None:
    """Train and score what is not done yet, write the table."""
    options = _options()
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = CocoDataModule(
        options.root,
        "annotations/instances_train.json",
        "annotations/instances_val.json",
        "JPEGImages",
        "JPEGImages",
        size=list(SIZE),
        batch_size=4,
        num_workers=options.workers,
    )
    data.setup("fit")
    done: dict[str, dict[str, float]] = {}
    for name, (label, build) in DETECTORS.items():
        result = folder / f"{name}.json"
        if not result.is_file():
            torch.manual_seed(0)
            model = build(_backbone(options.weights), data.num_classes)
            seconds = train(model, data, options, folder / f"{name}.pt")
            scores = score(model, data, options.batches)
            parameters = sum(parameter.numel() for parameter in model.parameters())
            result.write_text(json.dumps({**scores, "seconds": seconds, "parameters": parameters}))
        done[label] = json.loads(result.read_text())
        Path(options.table).write_text(table(done, options))


class Ours(nn.Module):
    """This project's detector, as torchvision's are called."""

    def __init__(self, network: FasterRCNN) -> None:
        super().__init__()
        self.network = network

    def losses(self, batch: DetectionBatch) -> dict[str, Tensor]:
        """Loss terms."""
        return self.network.loss(self.network(batch.images), batch.boxes, batch.labels)

    def predict(self, batch: DetectionBatch) -> list[Detections]:
        """Detections in the batch's pixels."""
        return self.network.predict(self.network(batch.images), batch.sizes)


class Theirs(nn.Module):
    """Torchvision's detector; it counts the background as class 0, takes images on [0, 1] and pads them itself."""

    def __init__(self, network: TorchvisionFasterRCNN) -> None:
        super().__init__()
        self.network = network

    def losses(self, batch: DetectionBatch) -> dict[str, Tensor]:
        """Loss terms."""
        targets = [{"boxes": b, "labels": k + 1} for b, k in zip(batch.boxes, batch.labels, strict=True)]
        return self.network(self._images(batch), targets)

    def predict(self, batch: DetectionBatch) -> list[Detections]:
        """Detections in the batch's pixels."""
        return [Detections(f["boxes"], f["scores"], f["labels"] - 1) for f in self.network(self._images(batch))]

    def _images(self, batch: DetectionBatch) -> list[Tensor]:
        sizes = batch.sizes.tolist()
        return [image[:, :h, :w].float() / 255 for image, (h, w) in zip(batch.images, sizes, strict=True)]


class Pyramid(nn.Module):
    """Our backbone under torchvision's pyramid, as torchvision's detectors want it."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.body, self.out_channels = backbone, CHANNELS
        self.fpn = FeaturePyramidNetwork(list(backbone.out_channels.values()), CHANNELS, LastLevelMaxPool())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images -> levels."""
        return dict(zip(("0", "1", "2", "3", "pool"), self.fpn(self.body(images)).values(), strict=True))


_COMMON: dict[str, Any] = {
    "fpn_channels": CHANNELS,
    "anchor_scale": ANCHOR,
    "train_proposals": PROPOSALS,
    "test_proposals": PROPOSALS,
    "box_samples": SAMPLES,
    "box_width": WIDTH,
}


def build_detnas(backbone: Backbone, num_classes: int) -> Ours:
    """Norms in the pyramid, a box head of four convolutions with norms and one linear layer."""
    return Ours(FasterRCNN(backbone, num_classes, **_COMMON))


def build_plain(backbone: Backbone, num_classes: int) -> Ours:
    """No norms, two linear layers, and torchvision's smooth L1."""
    plain = {"fpn_norm": False, "box_norm": False, "box_convolutions": 0, "box_linears": 2, "box_beta": 1 / 9}
    return Ours(FasterRCNN(backbone, num_classes, **_COMMON, **plain))


def build_torchvision(backbone: Backbone, num_classes: int) -> Theirs:
    """Torchvision's defaults but for the sizes that all share."""
    sizes = tuple((int(ANCHOR * stride),) for stride in (4, 8, 16, 32, 64))
    return Theirs(
        TorchvisionFasterRCNN(
            Pyramid(backbone),
            min_size=SIZE[0],
            max_size=SIZE[1],
            rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
            rpn_post_nms_top_n_train=PROPOSALS,
            rpn_post_nms_top_n_test=PROPOSALS,
            box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2),
            box_head=TwoMLPHead(CHANNELS * 49, WIDTH),
            box_predictor=FastRCNNPredictor(WIDTH, num_classes + 1),
            box_batch_size_per_image=SAMPLES,
        )
    )


Detector = Ours | Theirs
DETECTORS: dict[str, tuple[str, Callable[[Backbone, int], Detector]]] = {
    "detnas": ("ours, DetNAS's head and norms", build_detnas),
    "plain": ("ours, torchvision's head and numbers", build_plain),
    "torchvision": ("torchvision's `FasterRCNN`", build_torchvision),
}


def train(model: Detector, data: CocoDataModule, options: argparse.Namespace, path: Path) -> float:
    """The plainest loop, from the last epoch that is saved; returns its seconds, those before included."""
    loader = data.train_dataloader()
    steps = min(len(loader), options.batches or len(loader))
    optimizer = torch.optim.AdamW(model.parameters(), 5e-4, weight_decay=0.01)
    schedule = cosine(optimizer, steps_per_epoch=steps, epochs=options.epochs, warmup_steps=min(50, steps))
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    saved: dict[str, Any] = (
        torch.load(path, weights_only=True) if path.is_file() else {"epochs": 0, "seconds": 0.0}
    )
    for name, part in parts.items():
        if name in saved:
            part.load_state_dict(saved[name])
    seconds = float(saved["seconds"])
    model.train()
    for epoch in range(saved["epochs"], options.epochs):
        torch.manual_seed(epoch)
        loader.set_epoch(epoch)
        start = time.perf_counter()
        batches = itertools.islice(loader, steps)
        for batch in track(batches, f"{path.stem}, epoch {epoch}", total=steps):
            optimizer.zero_grad()
            torch.stack(list(model.losses(batch).values())).sum().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10)
            optimizer.step()
            schedule.step()
        seconds += time.perf_counter() - start
        state = {name: part.state_dict() for name, part in parts.items()}
        torch.save({"epochs": epoch + 1, "seconds": seconds, **state}, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
    return seconds


@torch.no_grad()
def score(model: Detector, data: CocoDataModule, batches: int | None) -> dict[str, float]:
    """COCO's figures on the validation images."""
    metric = CocoMetric(data.ground_truth(), data.category_ids)
    model.eval()
    for batch in itertools.islice(data.val_dataloader(), batches):
        metric.update(model.predict(batch), batch)
    return {name: float(value) for name, value in metric.compute().items()}


def table(done: dict[str, dict[str, float]], options: argparse.Namespace) -> str:
    """What is done, in Markdown."""
    start = "MobileNetV2's ImageNet weights" if options.weights else "no weights"
    lines = [
        "# Faster R-CNN beside torchvision's",
        "",
        f"BCCD at {SIZE[0]}x{SIZE[1]}, {start} in one backbone module for all, {options.epochs} epochs of",
        "batch 4, AdamW 5e-4 with a cosine, one seed, scores of the last epoch. All have a pyramid of",
        f"{CHANNELS} channels, anchors of {ANCHOR:g} strides, {PROPOSALS} proposals, {SAMPLES} of which are",
        f"trained, and linear layers of {WIDTH}.",
        f"{torch.get_num_threads()} threads on {platform.machine()}, torch {torch.__version__}, {date.today()}.",
        "",
        f"| detector | {' | '.join(SHOWN)} | parameters | training time |",
        f"|---|{'---|' * len(SHOWN)}---|---|",
    ]
    for label, found in done.items():
        scores = " | ".join(f"{found[name]:.3f}" for name in SHOWN)
        parameters, minutes = found["parameters"] / 1e6, found["seconds"] / 60
        lines.append(f"| {label} | {scores} | {parameters:.2f} M | {minutes:.1f} min |")
    command = "python benchmarks/faster_rcnn_vs_torchvision.py /data/bccd --weights $W"
    return "\n".join([*lines, "", "```bash", command, "```", ""])


def _backbone(weights: str | None) -> Backbone:
    backbone = build_backbone(load_architecture("mobilenet_v2"), MAPS)
    if weights is not None:
        remap(load_seed(weights), backbone)
    return backbone


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="folder of BCCD in COCO's format")
    parser.add_argument("--weights", help="MobileNetV2, under any names that seeds may have")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batches", type=int, help="of an epoch and of a validation; all by default")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", default="outputs/benchmarks/faster_rcnn", help="what is done so far")
    parser.add_argument("--table", default=TABLE, help="file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
