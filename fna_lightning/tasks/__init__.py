"""What training needs to know of a task: losses, predictions, metric."""

from fna_lightning.tasks.base import Metric, Task
from fna_lightning.tasks.classification import AccuracyMetric, ClassificationTask
from fna_lightning.tasks.coco_metric import CocoMetric
from fna_lightning.tasks.detection import DetectionTask
from fna_lightning.tasks.segmentation import SegmentationTask
from fna_lightning.tasks.segmentation_metric import SegmentationMetric

__all__ = [
    "AccuracyMetric",
    "ClassificationTask",
    "CocoMetric",
    "DetectionTask",
    "Metric",
    "SegmentationMetric",
    "SegmentationTask",
    "Task",
]
