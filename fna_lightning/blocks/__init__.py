"""The layers that networks are made of."""

from fna_lightning.blocks.mobile import SEARCHED_NORM, ConvNorm, InvertedResidual, Norm, initialise
from fna_lightning.blocks.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize
from fna_lightning.blocks.staged import StagedNetwork, build_mobile_stages

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "SEARCHED_NORM",
    "ConvNorm",
    "InvertedResidual",
    "Norm",
    "Normalize",
    "StagedNetwork",
    "build_mobile_stages",
    "initialise",
]
