"""Multiply-adds and parameters of networks, and what every path of a network costs."""

from fna_lightning.costs.counter import Cost, Share, count
from fna_lightning.costs.knapsack import Term
from fna_lightning.costs.limits import Limits
from fna_lightning.costs.table import UNITS, CostTable, Quantity
from fna_lightning.costs.tabulate import tabulate

__all__ = ["UNITS", "Cost", "CostTable", "Limits", "Quantity", "Share", "Term", "count", "tabulate"]
