"""Trained networks in use: on one's own pictures.

How the networks of a task are used is a file that registers a `Network`; importing it here makes `load` know it.
"""

from fna_lightning.deployment.detection import DetectionNetwork, FoundBoxes
from fna_lightning.deployment.network import Found, Network, load
from fna_lightning.deployment.reading import Broken, frame_count
from fna_lightning.deployment.segmentation import FoundLabels, SegmentationNetwork
from fna_lightning.deployment.sources import Source, find_sources
from fna_lightning.deployment.writing import Record, Written, begin_folder, predict_files

__all__ = [
    "Broken",
    "DetectionNetwork",
    "Found",
    "FoundBoxes",
    "FoundLabels",
    "Network",
    "Record",
    "SegmentationNetwork",
    "Source",
    "Written",
    "begin_folder",
    "find_sources",
    "frame_count",
    "load",
    "predict_files",
]
