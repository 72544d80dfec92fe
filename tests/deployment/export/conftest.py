"""Run directories as training leaves them, of small networks with drawn parameters that find something."""

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from fna_lightning.architectures import parse_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.files import CONF_DIR
from fna_lightning.runs import build

NAMES = ["lorry", "tram", "van"]
ARCHITECTURE = (
    "[[8, 6], ['k3_e1'], 2]|[[6, 8], ['k3_e2', 'k5_e2'], 2]|[[8, 12], ['k3_e3'], 2]|[[12, 16], ['k3_e1'], 1]"
)
# Few levels: what is exported is a node of a graph for each operation on each of them.
DETECTORS = {
    "retinanet": ["detector.features=[3]", "detector.fpn_channels=8", "detector.head_depth=1"],
    "fcos": ["detector.features=[3]", "detector.fpn_channels=8", "detector.head_depth=1"],
    "yolof": ["detector.features=[4]", "detector.channels=8", "detector.block_channels=4"],
    "ssdlite": [
        "detector.features=[3.expand,4]",
        "detector.extra_channels=[8]",
        "detector.anchor_ratios=[[2],[2,3],[2]]",
        "detector.anchor_base=100",
        "data.size=[96,128]",
    ],
    "faster_rcnn": [
        "detector.features=[2,4]",
        "detector.fpn_channels=8",
        "detector.box_convolutions=0",
        "detector.box_width=16",
        "detector.test_candidates=60",
        "detector.test_proposals=30",
    ],
    "deeplabv3": ["detector.features=[4]", "detector.channels=8"],
    "deeplabv3plus": ["detector.features=[2,4]", "detector.channels=8", "detector.low_channels=4"],
}

PREDICTIONS = (
    "cls_logits",
    "bbox_reg",
    "head.classes",
    "head.box",
    "head.centerness",
    "head.objectness",
    "bbox_pred",
    "cls_score",
)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, randomise):
    """trained(detector) -> run directory; made once."""
    made = {}

    def make(detector):
        if detector not in made:
            made[detector] = _run(detector, tmp_path_factory.mktemp(detector), randomise)
        return made[detector]

    return make


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder with pictures of three sizes: blobs of colours."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for number, (height, width) in enumerate([(96, 128), (80, 112), (128, 96)]):
        blobs = generator.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        large = cv2.resize(blobs, (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number}.png"), large)
    return folder


def _run(detector, folder, randomise):
    config = OmegaConf.create(
        {
            "architecture": parse_architecture(ARCHITECTURE).to_dict(),
            "detector": OmegaConf.load(CONF_DIR / "detector" / f"{detector}.yaml"),
            "task": {"_target_": "fna_lightning.tasks.DetectionTask"},
            "data": {
                "_target_": "fna_lightning.data.CocoDataModule",
                "root": "/nowhere",
                "size": None,
                "short_side": 96,
                "long_side": 160,
            },
            "cost": {},
        }
    )
    del config.detector["defaults"]
    if detector.startswith("deeplab"):
        config.task = {"_target_": "fna_lightning.tasks.SegmentationTask"}
        config.data = {"_target_": "fna_lightning.data.CityscapesDataModule", "root": "/nowhere", "resize": None}
        config.data.classes = {name: number for number, name in enumerate(NAMES)}
    config.merge_with_dotlist(DETECTORS[detector])
    OmegaConf.save(config, folder / "config.yaml")
    parts = build.resolve_parts(config)
    backbone = build_backbone(parts["backbone"], **build.map_settings(config, parts["backbone"]))
    network = randomise(build.build_network(config, backbone, len(NAMES), parts))
    _soften(network)
    (folder / "checkpoints").mkdir()
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "class_names": NAMES}, folder / "checkpoints" / "last.ckpt")
    return folder


@torch.no_grad()
def _soften(network):
    """Predictions around 0: scores between 0 and 1, boxes near their anchors, none like another."""
    for name, parameter in network.named_parameters():
        if any(part in name for part in PREDICTIONS):
            parameter.mul_(0 if name.endswith("bias") else 0.3)
