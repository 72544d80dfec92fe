"""The numbers of NAA's recipes are those of the spec; of its release's bugs (spec NAA 7) they have none."""

import pytest
from recipes import composed, numbers_of, recipe

IMAGENET = {"detector.mean": [123.675, 116.28, 103.53], "detector.std": [58.395, 57.12, 57.375]}
PICTURES = {"data.short_side": 800, "data.long_side": 1333, "data.flip": 0.5, "data.pad": 32}
RETINANET = {
    "detector._target_": "fna_lightning.detectors.RetinaNet",
    "detector.strides": [8, 16, 32],
    "detector.fpn_channels": 256,
    "detector.p6_from_pyramid": False,
    "detector.p7_relu": False,
    "detector.box_beta": 0,
    "detector.positive_iou": 0.5,
    "detector.negative_iou": 0.4,
    "detector.nms_threshold": 0.5,
    **IMAGENET,
    **PICTURES,
}
YOLOF = {
    "detector._target_": "fna_lightning.detectors.YOLOF",
    "detector.strides": ["head"],
    "detector.channels": 512,
    "detector.block_channels": 128,
    "detector.block_dilations": [2, 4, 6, 8],
    "detector.class_depth": 2,
    "detector.box_depth": 4,
    "detector.anchor_scales": [1, 2, 4, 8, 16],
    "detector.anchor_ratios": [1],
    "detector.matches": 4,
    "detector.positive_iou": 0.15,
    "detector.negative_iou": 0.7,
    "detector.center_clamp": 32,
    "detector.focal_alpha": 0.25,
    "detector.focal_gamma": 2,
    "detector.score_threshold": 0.05,
    "detector.nms_threshold": 0.6,
    "detector.candidates": 1000,
    "detector.max_detections": 100,
    **IMAGENET,
    **PICTURES,
}
TRAINING = {
    "trainer.max_epochs": 15,
    "data.batch_size": 16,
    "optimizer._target_": "torch.optim.SGD",
    "optimizer.momentum": 0.9,
    "schedule.milestones": [8, 11],
    "schedule.gamma": 0.1,
    "schedule.warmup": "linear",
    "clip": 35,
    "strategy.sync_batchnorm": True,
    "remap.strategy": "fna",
    "parameters.frozen_stages": 0,
    "parameters.frozen_norms": False,
    "cost.input_size": [800, 1088],
}
SSDLITE = {
    "detector._target_": "fna_lightning.detectors.SSDLite",
    "detector.score_threshold": 0.02,
    "detector.max_detections": 200,
    "data.size": [320, 320],
    "data.repeat": 5,
    "cost.input_size": [320, 320],
}
SEARCH = {
    "trainer.max_epochs": 14,
    "search.share": 0.5,
    "search.augment_weight_half": True,
    "search.warmup_epochs": 8,
    "search.weight_steps": 1,
    "search.paths": 0,
    "search.weights_on": "paths",
    "search.temperature": 1.0,
    "search.clip_weights": 35,
    "search.clip_architecture": 35,
    "search.weights._target_": "torch.optim.SGD",
    "search.weights.lr": 0.02,
    "search.weights.momentum": 0.9,
    "search.weights.weight_decay": 1e-4,
    "search.schedule.milestones": [8, 11],
    "search.schedule.warmup_steps": 500,
    "search.schedule.warmup_factor": 1 / 3,
    "search.architecture._target_": "torch.optim.Adam",
    "search.architecture.lr": 3e-4,
    "search.architecture.betas": [0.5, 0.999],
    "search.architecture.weight_decay": 1e-3,
    "space.depths": {2: 4, 3: 4, 4: 4, 5: 4, 6: 4, 7: 1},
    "space.candidates": ["k3_e3", "k3_e6", "k5_e3", "k5_e6", "k7_e3", "k7_e6"],
    "space.skip": True,
    "space.norms": "published",
    "strategy.sync_batchnorm": False,
    "cost.log_base": 10,
    "cost.target": None,
    "cost.input_size": [800, 1088],
}


@pytest.mark.parametrize(
    ("experiment", "numbers"),
    [
        (
            "retinanet_coco",
            RETINANET
            | TRAINING
            | {"optimizer.lr": 0.05, "optimizer.weight_decay": 5e-5, "schedule.warmup_steps": 500}
            | {"schedule.warmup_factor": 1 / 3, "parameters.norm_decay": True, "parameters.head_lr_factor": 1.0},
        ),
        (
            "yolof_coco",
            YOLOF
            | TRAINING
            | {"optimizer.weight_decay": 1e-4, "schedule.warmup_steps": 1500, "schedule.warmup_factor": 6.67e-4}
            | {"parameters.norm_decay": False},
        ),
        (
            "ssdlite_coco",
            SSDLITE
            | {"trainer.max_epochs": 60, "data.batch_size": 64, "optimizer._target_": "torch.optim.RMSprop"}
            | {"optimizer.lr": 0.2, "optimizer.eps": 1, "optimizer.momentum": 0.9, "optimizer.weight_decay": 4e-5}
            | {"schedule.milestones": [36, 50, 56], "schedule.warmup_steps": 500, "schedule.warmup_factor": 1 / 3}
            | {"clip": None, "strategy.sync_batchnorm": True, "detector.std": [1, 1, 1]},
        ),
        ("retinanet_coco_search", RETINANET | SEARCH | {"data.batch_size": 2, "cost.weight": 0.02}),
        ("yolof_coco_search", YOLOF | SEARCH | {"data.batch_size": 4, "cost.weight": 0.01}),
        (
            "ssdlite_coco_search",
            SSDLITE
            | {"trainer.max_epochs": 30, "data.batch_size": 16, "cost.weight": 0.15, "search.warmup_epochs": 15}
            | {"search.weight_steps": 5, "search.temperature": 0.9, "search.clip_weights": None}
            | {"search.weights.lr": 0.05, "search.weights.eps": 1, "search.schedule.milestones": [18, 25, 28]}
            | {"space.first_candidates": {6: ["k3_e6", "k5_e6", "k7_e6"]}},
        ),
    ],
)
def test_numbers_of_naa(experiment, numbers):
    assert numbers_of(recipe(f"naa/{experiment}"), numbers) == numbers


def test_rates_of_yolof():
    config = recipe("naa/yolof_coco")
    assert config.optimizer.lr * config.parameters.head_lr_factor == pytest.approx(0.05)
    assert config.parameters.head_lr_factor == 3


def test_the_larger_space():
    """Kernel-major, in the release's order (spec NAA 1.2)."""
    given = ("experiment=naa/retinanet_coco_search", "space=mobile_s12", "++data.root=x", "++seed.weights=x")
    space = composed("search", *given).space
    assert list(space.candidates) == [
        f"k{kernel}_e{expansion}" for kernel in (3, 5, 7, 9) for expansion in (3, 6, 9)
    ]
    assert {key: value for key, value in space.items() if key != "candidates"} == {
        key: value for key, value in recipe("naa/retinanet_coco_search").space.items() if key != "candidates"
    }
