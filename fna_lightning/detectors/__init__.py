"""Feature maps -> boxes."""

from fna_lightning.detectors.anchors import AnchorGrid, MultiboxGrid
from fna_lightning.detectors.base import Detections, Detector
from fna_lightning.detectors.dense import DenseOutputs
from fna_lightning.detectors.faster_rcnn import FasterRCNN, ProposalOutputs
from fna_lightning.detectors.fcos import FCOS, LocationOutputs
from fna_lightning.detectors.fpn import P6P7, build_fpn
from fna_lightning.detectors.retinanet import RetinaNet
from fna_lightning.detectors.ssdlite import SSDLite
from fna_lightning.detectors.yolof import YOLOF

__all__ = [
    "FCOS",
    "P6P7",
    "YOLOF",
    "AnchorGrid",
    "DenseOutputs",
    "Detections",
    "Detector",
    "FasterRCNN",
    "LocationOutputs",
    "MultiboxGrid",
    "ProposalOutputs",
    "RetinaNet",
    "SSDLite",
    "build_fpn",
]
