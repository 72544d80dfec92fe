"""Architecture -> network that returns named feature maps."""

from fna_lightning.backbones.build import build_backbone
from fna_lightning.backbones.classifier import Classifier
from fna_lightning.backbones.mobile import MobileBackbone
from fna_lightning.backbones.resnet import ResNetBackbone
from fna_lightning.backbones.shuffle import ShuffleBackbone

__all__ = ["Classifier", "MobileBackbone", "ResNetBackbone", "ShuffleBackbone", "build_backbone"]
