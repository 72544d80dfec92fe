"""What happens at certain moments of a run."""

from fna_lightning.callbacks.architecture_log import ArchitectureLog, diagnose
from fna_lightning.callbacks.calibration import BatchNormCalibration
from fna_lightning.callbacks.candidate_log import CandidateLog
from fna_lightning.callbacks.consensus import ConfigConsensus
from fna_lightning.callbacks.last_checkpoint import LastCheckpoint
from fna_lightning.callbacks.prediction_files import PredictionFiles
from fna_lightning.callbacks.progress import ProgressBar
from fna_lightning.callbacks.remapping import RemappingCallback
from fna_lightning.callbacks.run_log import RunLog
from fna_lightning.callbacks.supernet_weights import SupernetWeights, beliefs
from fna_lightning.callbacks.timekeeper import EvaluationTimekeeper, Timekeeper

__all__ = [
    "ArchitectureLog",
    "BatchNormCalibration",
    "CandidateLog",
    "ConfigConsensus",
    "EvaluationTimekeeper",
    "LastCheckpoint",
    "PredictionFiles",
    "ProgressBar",
    "RemappingCallback",
    "RunLog",
    "SupernetWeights",
    "Timekeeper",
    "beliefs",
    "diagnose",
]
