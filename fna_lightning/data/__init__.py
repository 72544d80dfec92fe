"""Data modules: what is trained on, checked before training and the same in every run of one random seed."""

from fna_lightning.data.base import DataModule
from fna_lightning.data.batches import IGNORED_LABEL, Batch, ClassificationBatch, DetectionBatch, SegmentationBatch
from fna_lightning.data.datasets import EpochDataset, EpochSubset
from fna_lightning.data.generated.shapes import (
    ShapesClassificationDataModule,
    ShapesDetectionDataModule,
    ShapesSegmentationDataModule,
)
from fna_lightning.data.label_maps import LabelMap
from fna_lightning.data.layouts.annotations import CocoAnnotations, read_annotations
from fna_lightning.data.layouts.cityscapes import CityscapesDataModule
from fna_lightning.data.layouts.coco import CocoDataModule
from fna_lightning.data.layouts.detection import CocoDetection, DetectionDataModule, DetectionSample
from fna_lightning.data.layouts.folder import ClassificationSample, FolderClassification, FolderDataModule
from fna_lightning.data.layouts.masks import MasksDataModule
from fna_lightning.data.layouts.segmentation import (
    CityscapesSegmentation,
    SegmentationDataModule,
    SegmentationSample,
)
from fna_lightning.data.layouts.voc import VOC_CLASSES, VocDataModule
from fna_lightning.data.layouts.yolo import YoloDataModule
from fna_lightning.data.sampling import EpochSampler, sample_seed, split_indices

__all__ = [
    "IGNORED_LABEL",
    "VOC_CLASSES",
    "Batch",
    "CityscapesDataModule",
    "CityscapesSegmentation",
    "ClassificationBatch",
    "ClassificationSample",
    "CocoAnnotations",
    "CocoDataModule",
    "CocoDetection",
    "DataModule",
    "DetectionBatch",
    "DetectionDataModule",
    "DetectionSample",
    "EpochDataset",
    "EpochSampler",
    "EpochSubset",
    "FolderClassification",
    "FolderDataModule",
    "LabelMap",
    "MasksDataModule",
    "SegmentationBatch",
    "SegmentationDataModule",
    "SegmentationSample",
    "ShapesClassificationDataModule",
    "ShapesDetectionDataModule",
    "ShapesSegmentationDataModule",
    "VocDataModule",
    "YoloDataModule",
    "read_annotations",
    "sample_seed",
    "split_indices",
]
