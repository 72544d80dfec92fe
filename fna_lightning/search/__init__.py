"""The search algorithms, free of Lightning."""

from fna_lightning.search.alternation import AlternatingLoader, SearchBatch
from fna_lightning.search.bilevel import BilevelSearch, Stepper, architecture_weights
from fna_lightning.search.objective import CostObjective

__all__ = ["AlternatingLoader", "BilevelSearch", "CostObjective", "SearchBatch", "Stepper", "architecture_weights"]
