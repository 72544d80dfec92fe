"""The LightningModules: parameter adaptation and architecture adaptation."""

from fna_lightning.modules.architecture import ArchitectureAdaptation, SearchOptimizers
from fna_lightning.modules.base import AdaptationModule
from fna_lightning.modules.parameters import ParameterAdaptation
from fna_lightning.modules.search_data import SearchData

__all__ = ["AdaptationModule", "ArchitectureAdaptation", "ParameterAdaptation", "SearchData", "SearchOptimizers"]
