"""The yardstick of camvid.md: torchvision's DeepLabV3 on the same weights, images and budget.

    python benchmarks/torchvision_segmenter.py /data/camvid --weights mobilenet_v2.safetensors

Head and interpolation are torchvision's, around its MobileNetV2 dilated to output stride 16; SGD, or AdamW as in
the recipe `camvid/train`, with the schedule of DeepLab. Data loading and scoring are this project's, as
`data=camvid` has them. Without --weights the backbone starts at random.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from rich.progress import track
from torch import Tensor, nn
from torch.optim.lr_scheduler import PolynomialLR
from torchvision.models import mobilenet_v2
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3
from torchvision.transforms import Normalize

from fna_lightning.checkpoints import read_file, weights_of
from fna_lightning.data import CityscapesDataModule
from fna_lightning.files import CONF_DIR
from fna_lightning.tasks import SegmentationMetric

LAST_WIDTH = 320
OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.01, momentum=0.9),
    "adamw": partial(torch.optim.AdamW, lr=5e-4, weight_decay=0.01),
}


def main() -> None:
    """Train, score, print the figures."""
    options = _options()
    torch.manual_seed(0)
    data = _data(options)
    model = DeepLabV3(_backbone(options.weights), DeepLabHead(LAST_WIDTH, data.num_classes))
    if options.channels_last:
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    train(model, data, options)
    print({name: round(value, 4) for name, value in score(model, data).items()})


def train(model: nn.Module, data: CityscapesDataModule, options: argparse.Namespace) -> None:
    """The plainest loop."""
    loader = data.train_dataloader()
    optimizer = OPTIMIZERS[options.optimizer](model.parameters())
    schedule = PolynomialLR(optimizer, options.epochs * len(loader), 0.9)
    model.train()
    for epoch in range(options.epochs):
        loader.set_epoch(epoch)
        for batch in track(loader, f"epoch {epoch}", total=len(loader)):
            loss = F.cross_entropy(model(normalised(batch.images))["out"], batch.labels.long(), ignore_index=255)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def score(model: nn.Module, data: CityscapesDataModule) -> dict[str, float]:
    """Mean IoU and pixel accuracy on the whole validation images."""
    metric = SegmentationMetric(data.class_names)
    model.eval()
    for batch in data.val_dataloader():
        labels = model(normalised(batch.images))["out"].argmax(dim=1).to(torch.uint8)
        metric.update(list(labels), batch)
    return {**metric.compute(), **metric.class_scores()}


def normalised(images: Tensor) -> Tensor:
    """Images on [0, 255] as these weights expect them."""
    return Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])(images.float() / 255)


class _Trunk(nn.Sequential):
    """The form in which torchvision's segmenters want a backbone."""

    def forward(self, input: Tensor) -> dict[str, Tensor]:  # noqa: A002 - torch's name
        return {"out": super().forward(input)}


def _backbone(weights: str | None) -> _Trunk:
    network = mobilenet_v2()
    if weights is not None:
        network.load_state_dict(weights_of(read_file(weights)).plain)
    # Blocks 14 to 17 run at stride 32; dilated as torchvision dilates its ResNets, the first still as it is.
    for number in range(14, 18):
        block = network.features[number]
        assert isinstance(block, InvertedResidual)
        for conv in block.modules():
            if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3):
                dilation = 1 if number == 14 else 2
                conv.stride, conv.dilation, conv.padding = (1, 1), (dilation, dilation), (dilation, dilation)
    return _Trunk(*network.features[:18])


def _data(options: argparse.Namespace) -> CityscapesDataModule:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        data = instantiate(compose("check", ["data=camvid", f"data.root={options.root}"]).data)
    data.setup("fit")
    return data


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="folder of CamVid in Cityscapes' layout")
    parser.add_argument("--weights", help="MobileNetV2 under torchvision's names")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--optimizer", choices=sorted(OPTIMIZERS), default="sgd")
    parser.add_argument("--channels-last", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
