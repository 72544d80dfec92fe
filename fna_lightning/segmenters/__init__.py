"""Feature maps -> a class for every pixel."""

from fna_lightning.segmenters.aspp import ASPP
from fna_lightning.segmenters.base import Segmenter, resize_logits
from fna_lightning.segmenters.deeplabv3 import DeepLabV3
from fna_lightning.segmenters.deeplabv3plus import DeepLabV3Plus
from fna_lightning.segmenters.inference import Inference, window_positions

__all__ = [
    "ASPP",
    "DeepLabV3",
    "DeepLabV3Plus",
    "Inference",
    "Segmenter",
    "resize_logits",
    "window_positions",
]
