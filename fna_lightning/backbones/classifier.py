"""Feature maps -> class scores, for training seeds."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fna_lightning.blocks import IMAGENET_MEAN, IMAGENET_STD, Backbone, Network


class Classifier(Network):
    """Global average pooling, dropout and a linear layer over the backbone's last map (MobileNetV2)."""

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        dropout: float = 0.2,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__(backbone, num_classes, mean, std)
        self._feature = list(backbone.out_channels)[-1]
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(backbone.out_channels[self._feature], num_classes)
        nn.init.normal_(self.classifier.weight, 0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) RGB on [0, 255] -> logits (N, num_classes)."""
        features = self.maps(images)[self._feature]
        return self.classifier(self.dropout(features.mean(dim=(2, 3))))
