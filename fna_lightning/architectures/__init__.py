"""What a network is, as plain frozen data: read, write, validate. No torch in here.

A kind of architecture is a file that registers its class; importing it here makes files know it.
"""

from fna_lightning.architectures.files import (
    load_architecture,
    load_parts,
    published_names,
    save_architecture,
    save_parts,
)
from fna_lightning.architectures.genotype import Chain, Edge, HeadGenotype, TowerGenotype
from fna_lightning.architectures.kinds import SKIP, Architecture, architecture_from_dict, register_kind
from fna_lightning.architectures.levels import Level, maps_at, maps_named, pyramid_maps
from fna_lightning.architectures.mobile import MobileArchitecture, Operation, Stage
from fna_lightning.architectures.parts import (
    Parts,
    architecture_yaml,
    parse_architecture,
    parse_parts,
    parts_from_dict,
    parts_text,
    parts_to_dict,
    parts_yaml,
)
from fna_lightning.architectures.resnet import ResNetArchitecture
from fna_lightning.architectures.shuffle import Layout, ShuffleArchitecture, ShuffleStage

__all__ = [
    "SKIP",
    "Architecture",
    "Chain",
    "Edge",
    "HeadGenotype",
    "Layout",
    "Level",
    "MobileArchitecture",
    "Operation",
    "Parts",
    "ResNetArchitecture",
    "ShuffleArchitecture",
    "ShuffleStage",
    "Stage",
    "TowerGenotype",
    "architecture_from_dict",
    "architecture_yaml",
    "load_architecture",
    "load_parts",
    "maps_at",
    "maps_named",
    "parse_architecture",
    "parse_parts",
    "parts_from_dict",
    "parts_text",
    "parts_to_dict",
    "parts_yaml",
    "published_names",
    "pyramid_maps",
    "register_kind",
    "save_architecture",
    "save_parts",
]
