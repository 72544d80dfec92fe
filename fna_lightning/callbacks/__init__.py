"""What happens at certain moments of a run."""

from fna_lightning.callbacks.architecture_log import ArchitectureLog, diagnose
from fna_lightning.callbacks.calibration import BatchNormCalibration
from fna_lightning.callbacks.remapping import RemappingCallback
from fna_lightning.callbacks.timekeeper import Timekeeper

__all__ = ["ArchitectureLog", "BatchNormCalibration", "RemappingCallback", "Timekeeper", "diagnose"]
