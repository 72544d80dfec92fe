"""Search space -> network with choices."""

from fna_lightning.supernets.build import build_supernet
from fna_lightning.supernets.mobile import FNA_CANDIDATES, MobileSpace, MobileSupernet

__all__ = ["FNA_CANDIDATES", "MobileSpace", "MobileSupernet", "build_supernet"]
