"""Parameters of one network -> parameters of another: depth, width, kernel."""

from fna_lightning.remapping.remap import remap
from fna_lightning.remapping.report import Entry, RemapReport
from fna_lightning.remapping.strategies import STRATEGIES, Strategy

__all__ = ["STRATEGIES", "Entry", "RemapReport", "Strategy", "remap"]
