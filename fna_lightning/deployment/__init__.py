"""Trained networks in use: on one's own pictures.

How the networks of a task are used is a file that registers a `Network`; importing it here makes `load` know it.
"""

from fna_lightning.deployment.detection import DetectionNetwork, FoundBoxes
from fna_lightning.deployment.network import Network, load
from fna_lightning.deployment.segmentation import FoundLabels, SegmentationNetwork

__all__ = [
    "DetectionNetwork",
    "FoundBoxes",
    "FoundLabels",
    "Network",
    "SegmentationNetwork",
    "load",
]
