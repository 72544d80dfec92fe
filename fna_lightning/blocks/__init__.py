"""The layers that networks are made of."""

from fna_lightning.blocks.chains import build_chain, groups_of
from fna_lightning.blocks.freezing import freeze
from fna_lightning.blocks.map_names import MapName
from fna_lightning.blocks.meta import on_meta
from fna_lightning.blocks.mobile import SEARCHED_NORM, ConvNorm, InvertedResidual, Norm, initialise
from fna_lightning.blocks.mobile_stages import StagePlan, build_mobile_stages
from fna_lightning.blocks.network import Backbone, Network, Repeated
from fna_lightning.blocks.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize
from fna_lightning.blocks.shuffle import BlockPlan, ShuffleBlock, build_shuffle_stages, initialise_shuffle
from fna_lightning.blocks.staged import StagedNetwork
from fna_lightning.blocks.statistics import reestimate_statistics, untracked, without_synchronisation
from fna_lightning.blocks.towers import (
    GenotypeTowers,
    PlainTowers,
    Towers,
    build_towers,
)

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "SEARCHED_NORM",
    "Backbone",
    "BlockPlan",
    "ConvNorm",
    "GenotypeTowers",
    "InvertedResidual",
    "MapName",
    "Network",
    "Norm",
    "Normalize",
    "PlainTowers",
    "Repeated",
    "ShuffleBlock",
    "StagePlan",
    "StagedNetwork",
    "Towers",
    "build_chain",
    "build_mobile_stages",
    "build_shuffle_stages",
    "build_towers",
    "freeze",
    "groups_of",
    "initialise",
    "initialise_shuffle",
    "on_meta",
    "reestimate_statistics",
    "untracked",
    "without_synchronisation",
]
