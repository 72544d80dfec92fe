"""The search algorithms, free of Lightning."""

from fna_lightning.search.alternation import AlternatingLoader, SearchBatch
from fna_lightning.search.bilevel import BilevelSearch, Stepper, Update, architecture_weights
from fna_lightning.search.objective import GIGA, CostObjective

__all__ = [
    "GIGA",
    "AlternatingLoader",
    "BilevelSearch",
    "CostObjective",
    "SearchBatch",
    "Stepper",
    "Update",
    "architecture_weights",
]
