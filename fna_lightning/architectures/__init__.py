"""What a network is, as plain frozen data: read, write, validate. No torch in here."""

from fna_lightning.architectures.files import (
    Architecture,
    architecture_from_dict,
    architecture_yaml,
    load_architecture,
    parse_architecture,
    published_names,
    save_architecture,
)
from fna_lightning.architectures.mobile import MobileArchitecture, Operation, Stage

__all__ = [
    "Architecture",
    "MobileArchitecture",
    "Operation",
    "Stage",
    "architecture_from_dict",
    "architecture_yaml",
    "load_architecture",
    "parse_architecture",
    "published_names",
    "save_architecture",
]
