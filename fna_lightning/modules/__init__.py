"""The LightningModules: parameter adaptation and architecture adaptation."""

from fna_lightning.modules.architecture import ArchitectureAdaptation, SearchOptimizers
from fna_lightning.modules.base import AdaptationModule
from fna_lightning.modules.guard import StepGuard
from fna_lightning.modules.parameter_groups import ParameterGroups
from fna_lightning.modules.parameters import ParameterAdaptation
from fna_lightning.modules.search_data import SearchData
from fna_lightning.modules.strategy import ActivePathStrategy

__all__ = [
    "ActivePathStrategy",
    "AdaptationModule",
    "ArchitectureAdaptation",
    "ParameterAdaptation",
    "ParameterGroups",
    "SearchData",
    "SearchOptimizers",
    "StepGuard",
]
