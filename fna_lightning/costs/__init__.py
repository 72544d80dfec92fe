"""Multiply-adds and parameters of networks and of every candidate of a supernet."""

from fna_lightning.costs.counter import Cost, count
from fna_lightning.costs.table import tabulate

__all__ = ["Cost", "count", "tabulate"]
