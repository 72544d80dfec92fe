"""Data modules: what is trained on, checked before training and the same in every run of one seed."""

from fna_lightning.data.annotations import CocoAnnotations, read_annotations
from fna_lightning.data.base import DataModule, EpochDataset, EpochSubset
from fna_lightning.data.batches import IGNORED_LABEL, Batch, ClassificationBatch, DetectionBatch, SegmentationBatch
from fna_lightning.data.cityscapes import CityscapesDataModule, CityscapesSegmentation, SegmentationSample
from fna_lightning.data.coco import CocoDataModule, CocoDetection, DetectionDataModule, DetectionSample
from fna_lightning.data.folder import ClassificationSample, FolderClassification, FolderDataModule
from fna_lightning.data.label_maps import LabelMap
from fna_lightning.data.sampling import EpochSampler, sample_seed, split_indices
from fna_lightning.data.shapes import (
    ShapesClassificationDataModule,
    ShapesDetectionDataModule,
    ShapesSegmentationDataModule,
)
from fna_lightning.data.voc import VOC_CLASSES, VocDataModule

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
    "SegmentationBatch",
    "SegmentationSample",
    "ShapesClassificationDataModule",
    "ShapesDetectionDataModule",
    "ShapesSegmentationDataModule",
    "VocDataModule",
    "read_annotations",
    "sample_seed",
    "split_indices",
]
