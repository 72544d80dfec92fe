"""The numbers of FAD's recipes are those of the spec."""

import pytest
from recipes import numbers_of, recipe

# FAD, FCOS on COCO: spec FAD 5.
FAD = {
    "detector._target_": "fna_lightning.detectors.FCOS",
    "detector.strides": [8, 16, 32],
    "detector.fpn_channels": 256,
    "detector.head_depth": 4,
    "detector.tower_channels": 96,
    "detector.tower_cells": 2,
    "detector.center_radius": 1.5,
    "detector.focal_alpha": 0.25,
    "detector.focal_gamma": 2.0,
    "detector.giou_smoothing": 1.0,
    "detector.score_threshold": 0.05,
    "detector.nms_threshold": 0.6,
    "detector.candidates_per_level": 1000,
    "detector.max_detections": 100,
    "optimizer._target_": "torch.optim.SGD",
    "optimizer.lr": 0.01,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 1e-4,
    "schedule.gamma": 0.1,
    "schedule.warmup": "constant",
    "schedule.warmup_steps": 500,
    "schedule.warmup_factor": 1 / 3,
    "parameters.norm_decay": True,
    "parameters.head_lr_factor": 1.0,
    "parameters.bias_lr_factor": 2,
    "parameters.bias_decay": False,
    "parameters.frozen_stages": 2,
    "parameters.frozen_norms": True,
    "clip": None,
    "trainer.max_epochs": 12,
    "data.batch_size": 2,
    "data.short_side": 800,
    "data.long_side": 1333,
    "data.train_short_sides": None,
    "data.flip": 0.5,
    "data.pad": 32,
    "cost.input_size": [800, 1344],
}
# Its search on Pascal VOC: spec FAD 3.2.
FAD_SEARCH = {
    **{key: value for key, value in FAD.items() if key.startswith(("detector.", "parameters."))},
    "detector.tower_cells": 1,
    "space.nodes": 3,
    "space.dilation_3": False,
    "search.share": 0,
    "search.warmup_epochs": 0,
    "search.weight_steps": 1,
    "search.weights_on": "mixture",
    "search.order": 1,
    "search.derive": "raw",
    "search.temperature": 1.0,
    "search.clip_weights": 20,
    "search.clip_architecture": None,
    "search.weights._target_": "torch.optim.SGD",
    "search.weights.lr": 0.004,
    "search.weights.momentum": 0.9,
    "search.weights.weight_decay": 1e-4,
    "search.schedule.gamma": 0.1,
    "search.schedule.warmup": "linear",
    "search.schedule.warmup_steps": 500,
    "search.schedule.warmup_factor": 1 / 3,
    "search.architecture._target_": "torch.optim.Adam",
    "search.architecture.lr": 3e-4,
    "search.architecture.betas": [0.5, 0.999],
    "search.architecture.weight_decay": 1e-3,
    "cost.weight": 0.0,
    "cost.input_size": [416, 704],
    "trainer.max_epochs": 6,
    "data.train_sets": ["VOC2012/train", "VOC2012/val"],
    "data.difficult": False,
    "data.one_based": True,
    "data.short_side": 416,
    "data.long_side": 693,
    "data.flip": 0.5,
    "data.pad": 32,
    "data.batch_size": 4,
}
FAD_LONGER = FAD | {"trainer.max_epochs": 24, "data.train_short_sides": [640, 800]}


@pytest.mark.parametrize(
    ("experiment", "numbers"),
    [
        ("fcos_r50_coco", FAD),
        ("fcos_r101_coco", FAD_LONGER),
        ("fcos_x101_coco", FAD_LONGER | {"detector.tower_channels": 128}),
        ("fcos_voc_search", FAD_SEARCH),
    ],
)
def test_numbers_of_fad(experiment, numbers):
    assert numbers_of(recipe(f"fad/{experiment}"), numbers) == numbers


@pytest.mark.parametrize(("experiment", "thousands"), [("r50", (60, 80, 90)), ("r101", (120, 160, 180)),
                                                       ("x101", (120, 160, 180))])  # fmt: skip
def test_iterations_of_fads_recipes(experiment, thousands):
    config, epoch = recipe(f"fad/fcos_{experiment}_coco"), 118_287 // 16
    ends = [*config.schedule.milestones, config.trainer.max_epochs]
    assert [end * epoch / 1000 for end in ends] == pytest.approx(thousands, rel=0.015)


def test_iterations_of_fads_search():
    config, epoch = recipe("fad/fcos_voc_search"), 11_540 // 4
    ends = [*config.search.schedule.milestones, config.trainer.max_epochs]
    assert [end * epoch for end in ends] == pytest.approx([12_500, 17_500], rel=0.015)
