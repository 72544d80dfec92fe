"""Search space -> network with choices."""

from fna_lightning.supernets.build import build_supernet
from fna_lightning.supernets.following import follow_widths
from fna_lightning.supernets.mobile import FNA_CANDIDATES, MobileSpace, MobileSupernet
from fna_lightning.supernets.several import BackboneAndHead
from fna_lightning.supernets.shuffle import ShuffleSpace, ShuffleSupernet
from fna_lightning.supernets.towers import TowerSpace, TowerSupernet

__all__ = [
    "FNA_CANDIDATES",
    "BackboneAndHead",
    "MobileSpace",
    "MobileSupernet",
    "ShuffleSpace",
    "ShuffleSupernet",
    "TowerSpace",
    "TowerSupernet",
    "build_supernet",
    "follow_widths",
]
