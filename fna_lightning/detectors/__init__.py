"""Feature maps -> boxes."""

from fna_lightning.detectors.anchors import AnchorGrid
from fna_lightning.detectors.base import Detections, Detector
from fna_lightning.detectors.fpn import P6P7, build_fpn
from fna_lightning.detectors.retinanet import DenseOutputs, RetinaNet

__all__ = ["P6P7", "AnchorGrid", "DenseOutputs", "Detections", "Detector", "RetinaNet", "build_fpn"]
