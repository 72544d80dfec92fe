"""DeepLabV3+ (Chen et al. 2018, 1802.02611, section 4): DeepLabV3 with a decoder that brings outlines back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops.misc import Conv2dNormActivation

from fna_lightning.blocks import IMAGENET_MEAN, IMAGENET_STD, Backbone, initialise
from fna_lightning.errors import ConfigError
from fna_lightning.segmenters.aspp import ASPP
from fna_lightning.segmenters.base import Segmenter, classifier, resize_logits


class DeepLabV3Plus(Segmenter):
    """Dense atrous spatial pyramid pooling over the last map; a decoder joins it with the first, at its stride.

    FNA's release has no such head. With the paper's, FNA's architecture has the parameters that FNA prints, but
    0.03 of 210 and 314 G multiply-adds less, as if one 3x3 of the decoder had a bias before its norm.
    In training it needs two images a batch, because the norm behind its image pooling does.

    Args:
        backbone: see `Segmenter`; of its maps the first and the last are read.
        num_classes: see `Segmenter`.
        channels: of every branch of the pyramid and of the decoder.
        low_channels: to which the first map is brought before they are joined: few, so that it does not
            outweigh the last.
        atrous_rates: dilations of the 3x3 branches on a map of stride 16; on a finer one they grow.
        dropout: share of channels dropped behind the pyramid.
        mean: see `Segmenter`.
        std: see `Segmenter`.

    Raises:
        ConfigError: the backbone has one map only, there are less than two classes, or a rate is less than 1.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        channels: int = 256,
        low_channels: int = 48,
        atrous_rates: Sequence[int] = (6, 12, 18),
        dropout: float = 0.1,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__(backbone, num_classes, mean, std)
        names = list(backbone.out_channels)
        if len(names) < 2:
            raise ConfigError(
                f"detector.features={names}: DeepLabV3+ reads a shallow and a deep map; give two such as [2, 7], "
                "or detector.strides=[4, last]"
            )
        self._low, self._deep = names[0], names[-1]
        deep_channels, stride = backbone.out_channels[self._deep], backbone.strides[self._deep]
        self.aspp = ASPP(deep_channels, channels, atrous_rates, stride, separable=False, dropout=dropout)
        self.low = Conv2dNormActivation(backbone.out_channels[self._low], low_channels, 1)
        self.decoder = nn.Sequential(
            Conv2dNormActivation(channels + low_channels, channels, 3),
            Conv2dNormActivation(channels, channels, 3),
        )
        initialise(self.low)
        initialise(self.decoder)
        self.classifier = classifier(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) on [0, 255] -> logits (N, num_classes, h, w) at the stride of the backbone's first map.

        Raises:
            ConfigError: in training on one image.
        """
        maps = self.maps(images)
        low = self.low(maps[self._low])
        deep = resize_logits(self.aspp(maps[self._deep]), low.shape[-2:])
        return self.classifier(self.decoder(torch.cat([deep, low], dim=1)))
