"""The LightningModules: evaluation, parameter adaptation and architecture adaptation."""

from fna_lightning.modules.architecture import AlphaTraining, ArchitectureAdaptation
from fna_lightning.modules.base import AdaptationModule
from fna_lightning.modules.evaluation import EvaluationModule
from fna_lightning.modules.evolution import EvolutionAdaptation
from fna_lightning.modules.evolution_data import Candidate, EvolutionData
from fna_lightning.modules.guard import StepGuard
from fna_lightning.modules.parameter_groups import ParameterGroups
from fna_lightning.modules.parameters import ParameterAdaptation
from fna_lightning.modules.search_data import SearchData
from fna_lightning.modules.strategy import ActivePathStrategy
from fna_lightning.modules.supernet import SupernetAdaptation, WeightTraining, searched_part

__all__ = [
    "ActivePathStrategy",
    "AdaptationModule",
    "AlphaTraining",
    "ArchitectureAdaptation",
    "Candidate",
    "EvaluationModule",
    "EvolutionAdaptation",
    "EvolutionData",
    "ParameterAdaptation",
    "ParameterGroups",
    "SearchData",
    "StepGuard",
    "SupernetAdaptation",
    "WeightTraining",
    "searched_part",
]
