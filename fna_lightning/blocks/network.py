"""What networks around a backbone share: detectors, segmenters and classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from fna_lightning.blocks.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize
from fna_lightning.errors import ConfigError

_TOO_FEW = "Expected more than 1 value per channel"  # how torch's batch norms, synchronised or not, put it


class Backbone(nn.Module):
    """A network that turns images into named feature maps.

    `forward` takes images (N, 3, H, W) and returns maps (N, out_channels[name], H / strides[name],
    W / strides[name]) by name.

    Attributes:
        out_channels: channels of every map that `forward` returns, by name, shallow first.
        strides: pixels of the input per pixel of each map, by the same names.
    """

    out_channels: dict[str, int]
    strides: dict[str, int]

    def stage_modules(self) -> list[list[nn.Module]]:
        """What its stages are made of, the stem first, for `freeze`; by default nothing that could be frozen."""
        return []


class Repeated(NamedTuple):
    """A part of a network that runs besides `forward`, several times an image, as the box head of Faster R-CNN."""

    module: nn.Module
    """Takes a batch (R, *shape)."""
    what: str
    """What it runs on, in a word for reports: `proposals`."""
    number: int
    """Of them an image has when the network predicts."""
    shape: tuple[int, ...]
    """Of one."""


class Network(nn.Module):
    """Input normalisation, a backbone, and what a subclass puts behind it.

    Args:
        backbone: maps images to named feature maps.
        num_classes: without background.
        mean: of the RGB pixels on [0, 255] that the backbone's parameters expect.
        std: likewise the deviation.

    Raises:
        ConfigError: `num_classes` is too small.
    """

    least_classes: ClassVar[int] = 1
    noun: ClassVar[str] = "network"

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        if num_classes < self.least_classes:
            words = {1: "at least one class", 2: "two classes or more"}[self.least_classes]
            raise ConfigError(f"num_classes={num_classes}: a {self.noun} needs {words}")
        self.num_classes = num_classes
        self.normalize = Normalize(mean, std)
        self.backbone = backbone

    def __call__(self, images: Tensor, *more: Any, **named: Any) -> Any:
        """Run the network on (N, 3, H, W) images.

        Raises:
            ConfigError: in training, where one image is so small that a batch norm has a single value a channel.
        """
        try:
            return super().__call__(images, *more, **named)
        except ValueError as error:
            if not str(error).startswith(_TOO_FEW):
                raise
            number, height, width = images.shape[0], *images.shape[-2:]
            raise ConfigError(
                f"data.batch_size={number}: a picture of {height}x{width} (height x width) leaves a batch norm "
                "one value per channel, which is too few to train; give 2 or more"
            ) from error

    def parts(self) -> dict[str, nn.Module]:
        """The parts that have an architecture of their own, by name; one whose head is searched adds `head`."""
        return {"backbone": self.backbone}

    def repeated(self) -> tuple[Repeated, ...]:
        """What runs besides `forward`, which costs count and compilation reaches as well; by default nothing."""
        return ()

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """The backbone's feature maps of (N, 3, H, W) images on [0, 255], by name."""
        return self.backbone(self.normalize(images))
