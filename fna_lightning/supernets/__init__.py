"""Search space -> network with choices: paths, mixtures, expected cost, derivation."""

from fna_lightning.supernets.base import Policy, Supernet
from fna_lightning.supernets.choice import Choice, LayerChoice
from fna_lightning.supernets.mobile import FNA_CANDIDATES, MobileSpace, MobileSupernet, build_supernet

__all__ = [
    "FNA_CANDIDATES",
    "Choice",
    "LayerChoice",
    "MobileSpace",
    "MobileSupernet",
    "Policy",
    "Supernet",
    "build_supernet",
]
