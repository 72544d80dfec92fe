"""What training needs to know of a task: losses, predictions, metric."""

from fna_lightning.tasks.base import Metric, Task
from fna_lightning.tasks.classification import AccuracyMetric, ClassificationTask
from fna_lightning.tasks.coco_metric import CocoMetric
from fna_lightning.tasks.detection import DetectionTask

__all__ = ["AccuracyMetric", "ClassificationTask", "CocoMetric", "DetectionTask", "Metric", "Task"]
