"""The search algorithms, free of Lightning."""

from fna_lightning.search.alphas import Alphas, Derivation, likely_paths
from fna_lightning.search.alternation import AlternatingLoader, SearchBatch
from fna_lightning.search.bilevel import BilevelSearch
from fna_lightning.search.cost_bins import CostBins
from fna_lightning.search.evolution import Breeding, Evolution
from fna_lightning.search.objective import GIGA, CostObjective
from fna_lightning.search.proposals import propose
from fna_lightning.search.second_order import NextStep, check_unrollable
from fna_lightning.search.single_path import Draw, SinglePathTraining, Stepper, Update

__all__ = [
    "GIGA",
    "Alphas",
    "AlternatingLoader",
    "BilevelSearch",
    "Breeding",
    "CostBins",
    "CostObjective",
    "Derivation",
    "Draw",
    "Evolution",
    "NextStep",
    "SearchBatch",
    "SinglePathTraining",
    "Stepper",
    "Update",
    "check_unrollable",
    "likely_paths",
    "propose",
]
