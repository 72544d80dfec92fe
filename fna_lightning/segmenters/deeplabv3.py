"""DeepLabV3 (Chen et al. 2017, 1706.05587) with a separable head, as FNA uses it (spec FNA 6.3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fna_lightning.blocks import IMAGENET_MEAN, IMAGENET_STD, Backbone
from fna_lightning.segmenters.aspp import ASPP
from fna_lightning.segmenters.base import Segmenter, classifier


class DeepLabV3(Segmenter):
    """Separable atrous spatial pyramid pooling over the backbone's last map, and a 1x1 classifier; no decoder.

    In training it needs two images a batch, because the norm behind its image pooling does.

    Args:
        backbone: see `Segmenter`.
        num_classes: see `Segmenter`.
        channels: of every branch of the pyramid.
        atrous_rates: dilations of the 3x3 branches on a map of stride 16; on a finer one they grow.
        dropout: share of channels dropped before the classifier.
        mean: see `Segmenter`.
        std: see `Segmenter`.

    Raises:
        ConfigError: there are less than two classes, or a rate is less than 1.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        channels: int = 256,
        atrous_rates: Sequence[int] = (6, 12, 18),
        dropout: float = 0.1,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__(backbone, num_classes, mean, std)
        self._feature = list(backbone.out_channels)[-1]
        in_channels, stride = backbone.out_channels[self._feature], backbone.strides[self._feature]
        self.aspp = ASPP(in_channels, channels, atrous_rates, stride, separable=True, dropout=dropout)
        self.classifier = classifier(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) on [0, 255] -> logits (N, num_classes, h, w) at the stride of the backbone's last map.

        Raises:
            ConfigError: in training on one image.
        """
        deep = self.maps(images)[self._feature]
        return self.classifier(self.aspp(deep))
