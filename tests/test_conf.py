"""Every configuration composes, and the recipes' numbers are the papers'."""

import re

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from recipes import EXPERIMENTS, composed, entry_of, numbers_of, recipe

from fna_lightning.files import CONF_DIR
from fna_lightning.runs import build
from fna_lightning.runs.validation import check_types

# Groups whose options stand on their own, with what an option needs besides.
GROUPS = (
    "architecture",
    "data",
    "detector",
    "logger",
    "remap",
    "seed",
    "strategy",
    "trainer",
    "optimizer",
    "schedule",
)
GIVEN = ("+data.root=somewhere", "+seed.weights=seed.pth")


def targets(node):
    """Every mapping with a `_target_`."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for value in node.values():
            yield from targets(value)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_compose_whole(experiment):
    config = recipe(experiment)
    assert not OmegaConf.missing_keys(config)
    needed = {"search", "space", "cost"} if entry_of(experiment) == "search" else {"optimizer", "schedule", "clip"}
    assert needed <= set(config)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_name_real_things(experiment):
    for node in targets(OmegaConf.to_container(recipe(experiment))):
        partial = build.make(OmegaConf.create({**node, "_partial_": True}))
        assert callable(partial.func)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_have_the_right_types(experiment):
    assert check_types(recipe(experiment), entry_of(experiment)) is None


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_say_what_they_are(experiment):
    text = (CONF_DIR / "experiment" / f"{experiment}.yaml").read_text()
    assert re.match(r"# @package _global_\n# \w", text)


def options():
    for group in GROUPS:
        for path in sorted((CONF_DIR / group).glob("*.yaml")):
            yield group, path.stem


@pytest.mark.parametrize(("group", "option"), list(options()), ids=str)
def test_every_option_composes(group, option):
    given = [f"{group}={option}", "++data.root=somewhere", "++seed.weights=seed.pth"]
    given += ["architecture.path=net.txt"] if option == "file" else []
    # The default experiment sets what these detectors have not.
    given += {
        "classifier": ["experiment=demo/seed"],
        "ssdlite": ["experiment=fna/ssdlite_coco"],
        "yolof": ["experiment=bccd/yolof"],
        "faster_rcnn": ["experiment=bccd/faster_rcnn"],
        "faster_rcnn_small": ["experiment=cells/subnet_finetune"],
        "deeplabv3": ["experiment=camvid/train"],
        "deeplabv3plus": ["experiment=camvid/train"],
    }.get(option, [])
    config = composed("train", *given)
    assert not OmegaConf.missing_keys(config)
    assert group in config
    check_types(config, "train")


@pytest.mark.parametrize("search", ["bilevel", "evolution", "random"])
@pytest.mark.parametrize("experiment", [name for name in EXPERIMENTS if entry_of(name) == "search"])
def test_another_search_takes_the_place_of_a_recipes(experiment, search):
    given = (f"search={search}", "++data.root=somewhere", "++seed.weights=seed.pth")
    config = composed("search", f"experiment={experiment}", *given)
    check_types(config, "search")
    assert config.search == composed("search", "experiment=fna/retinanet_coco_search", *given).search


@pytest.mark.parametrize("entry", ["train", "search", "evaluate"])
def test_defaults_compose_and_name_what_is_missing(entry):
    config = composed(entry, resolve=False)
    assert set(OmegaConf.missing_keys(config)) == ({"checkpoint"} if entry == "evaluate" else set())


def test_evaluate_takes_another_set():
    config = composed(
        "evaluate", "checkpoint=run", "data=coco", "data.root=somewhere", "+task.backend=pycocotools"
    )
    assert config.data.root == "somewhere"
    assert config.task.backend == "pycocotools"


@pytest.mark.parametrize(
    ("entry", "override"),
    [
        ("train", "nonsense=1"),
        ("train", "trainer.nonsense=1"),
        ("search", "search.nonsense=1"),
        ("search", "space.nonsense=1"),
        ("train", "remap=nonsense"),
        ("train", "experiment=nonsense"),
    ],
)
def test_what_is_unknown_is_refused(entry, override):
    with pytest.raises((HydraException, OmegaConfBaseException)):
        composed(entry, override)


def test_options_of_one_group_have_one_set_of_keys():
    """So that changing the option keeps the other overrides valid."""
    for group in ("remap", "seed", "strategy"):
        names = [path.stem for path in (CONF_DIR / group).glob("*.yaml")]
        keys = {frozenset(composed("train", f"{group}={name}", resolve=False)[group]) for name in names}
        assert len(keys) == 1, group


# FNA, RetinaNet on COCO: spec FNA 3.1 to 3.4.
SEARCH = {
    "trainer.max_epochs": 14,
    "search.warmup_epochs": 8,
    "search.share": 0.5,
    "search.weight_steps": 1,
    "search.temperature": 1.0,
    "search.clip_weights": 35,
    "search.clip_architecture": 35,
    "search.weights._target_": "torch.optim.SGD",
    "search.weights.lr": 0.02,
    "search.weights.momentum": 0.9,
    "search.weights.weight_decay": 1e-4,
    "search.schedule.milestones": [8, 11],
    "search.schedule.gamma": 0.1,
    "search.schedule.warmup_steps": 500,
    "search.schedule.warmup_factor": 1 / 3,
    "search.architecture._target_": "torch.optim.Adam",
    "search.architecture.lr": 3e-4,
    "search.architecture.betas": [0.5, 0.999],
    "search.architecture.weight_decay": 1e-3,
    "cost.weight": 0.02,
    "cost.log_base": 10,
    "cost.target": None,
    "cost.input_size": [800, 1088],
    "space.depths": {2: 4, 3: 4, 4: 4, 5: 4, 6: 4, 7: 1},
    "space.candidates": ["k3_e3", "k3_e6", "k5_e3", "k5_e6", "k7_e3", "k7_e6"],
    "space.skip": True,
    "data.batch_size": 1,
}
# Parameter adaptation: spec FNA 6.1.
TRAIN = {
    "trainer.max_epochs": 12,
    "optimizer._target_": "torch.optim.SGD",
    "optimizer.lr": 0.05,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 5e-5,
    "schedule.milestones": [8, 11],
    "schedule.gamma": 0.1,
    "schedule.warmup_steps": 500,
    "schedule.warmup_factor": 1 / 3,
    "clip": 35,
    "strategy.sync_batchnorm": True,
    "data.batch_size": 4,
    "cost.input_size": [800, 1088],
}
BOTH = {
    "data.short_side": 800,
    "data.long_side": 1333,
    "data.flip": 0.5,
    "data.pad": 32,
    "detector.strides": [8, 16, 32],
    "detector.fpn_channels": 256,
    "detector.head_depth": 4,
    "detector.anchor_scale": 4.0,
    "detector.scales_per_octave": 3,
    "detector.anchor_ratios": [0.5, 1.0, 2.0],
    "detector.positive_iou": 0.5,
    "detector.negative_iou": 0.4,
    "detector.focal_alpha": 0.25,
    "detector.focal_gamma": 2.0,
    "detector.box_beta": 0.11,
    "detector.score_threshold": 0.05,
    "detector.nms_threshold": 0.5,
    "detector.candidates_per_level": 1000,
    "detector.max_detections": 100,
    "remap.strategy": "fna",
    "remap.source": "seed",
}
# FNA, SSDLite on COCO: the released schedule of spec FNA 3.4, and what the paper has otherwise.
RMSPROP = {"_target_": "torch.optim.RMSprop", "alpha": 0.99, "eps": 1.0, "momentum": 0.9, "weight_decay": 4e-5}
SSDLITE_SEARCH = {
    **{key: value for key, value in SEARCH.items() if not key.startswith("search.weights.")},
    **{f"search.weights.{key}": value for key, value in RMSPROP.items()},
    "trainer.max_epochs": 30,
    "search.warmup_epochs": 15,
    "search.weight_steps": 5,
    "search.temperature": 0.9,
    "search.clip_weights": None,
    "search.weights.lr": 0.05,
    "search.schedule.milestones": [18, 25, 28],
    "cost.weight": 0.15,
    "cost.input_size": [320, 320],
    "space.first_candidates": {6: ["k3_e6", "k5_e6", "k7_e6"]},
    "data.batch_size": 16,
}
SSDLITE_PAPER_SEARCH = SSDLITE_SEARCH | {
    "trainer.max_epochs": 24,
    "search.warmup_epochs": 12,
    "search.weights.lr": 0.03,
    "search.schedule.milestones": [16, 22],
    "search.schedule.warmup_factor": 1 / 500,
    "cost.weight": 0.2,
    "data.batch_size": 8,
}
# Parameter adaptation: spec FNA 6.2.
SSDLITE_TRAIN = {
    **{f"optimizer.{key}": value for key, value in RMSPROP.items()},
    "trainer.max_epochs": 60,
    "optimizer.lr": 0.2,
    "schedule.milestones": [36, 50, 56],
    "schedule.gamma": 0.1,
    "schedule.warmup_steps": 500,
    "schedule.warmup_factor": 1 / 3,
    "clip": None,
    "strategy.sync_batchnorm": True,
    "data.batch_size": 64,
    "cost.input_size": [320, 320],
}
SSDLITE = {
    "data.size": [320, 320],
    "data.repeat": 5,
    "data.flip": 0.5,
    "data.pad": 1,
    "data.augmentation._target_": "fna_lightning.data.augmentation.ssd.SSDAugmentation",
    "detector.strides": ["16.expand", "head"],
    "detector.extra_channels": [512, 256, 256, 128],
    "detector.norm_eps": 1e-3,
    "detector.anchor_base": 300,
    "detector.anchor_range": [0.2, 0.95],
    "detector.anchor_ratios": [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
    "detector.positive_iou": 0.5,
    "detector.negative_iou": 0.5,
    "detector.negatives_per_positive": 3,
    "detector.box_std": [0.1, 0.1, 0.2, 0.2],
    "detector.box_beta": 1.0,
    "detector.score_threshold": 0.02,
    "detector.nms_threshold": 0.6,
    "detector.max_detections": 200,
    "detector.mean": [123.675, 116.28, 103.53],
    "detector.std": [1.0, 1.0, 1.0],
    "remap.strategy": "fna",
    "remap.source": "seed",
}
# FNA, DeepLabV3 on Cityscapes: spec FNA 2.1 and 3.4, the columns of segmentation.
DEEPLAB_SEARCH = {
    "trainer.max_epochs": 80,
    "space.depths": {2: 4, 3: 4, 4: 6, 5: 6, 6: 4, 7: 1},
    "search.share": 0.2,
    "search.warmup_epochs": 30,
    "search.weights._target_": "torch.optim.SGD",
    "search.weights.lr": 0.02,
    "search.weights.momentum": 0.9,
    "search.weights.weight_decay": 5e-4,
    "search.schedule._target_": "fna_lightning.schedules.cosine",
    "search.schedule.warmup_steps": 740,
    "search.schedule.warmup_factor": 0.005,
    "search.schedule.final_lr": 1e-3,
    "search.architecture.lr": 1e-3,
    "search.architecture.weight_decay": 4e-5,
    "cost.weight": 9e-3,
    "cost.log_base": 45,
    "data.batch_size": 16,
    "data.resize": [512, 1024],
    "data.crop": [321, 321],
}
# Parameter adaptation and evaluation: spec FNA 6.3.
DEEPLAB_TRAIN = {
    "optimizer._target_": "torch.optim.SGD",
    "optimizer.lr": 0.01,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 5e-4,
    "schedule._target_": "fna_lightning.schedules.poly",
    "schedule.power": 0.9,
    "schedule.warmup_steps": 5000,
    "schedule.warmup_factor": 0.01,
    "parameters.norm_decay": False,
    "parameters.head_lr_factor": 10,
    "remap.calibration_batches": 2000,
    "strategy.sync_batchnorm": True,
    "clip": None,
    "data.batch_size": 4,
    "data.resize": None,
    "data.scales": [0.75, 1.0, 1.25, 1.5, 1.75, 2.0],
    "data.crop": [769, 769],
    "data.flip": 0.5,
    "task.window": 769,
    "task.stride": None,
    "task.scales": [1.0],
    "task.flip": False,
    "cost.input_size": [1024, 2048],
}
DEEPLAB = {
    "data._target_": "fna_lightning.data.CityscapesDataModule",
    "data.classes": None,
    "detector._target_": "fna_lightning.segmenters.DeepLabV3",
    "detector.strides": ["last"],
    "detector.output_stride": 16,
    "detector.channels": 256,
    "detector.atrous_rates": [6, 12, 18],
    "detector.dropout": 0.1,
    "remap.strategy": "fna",
    "remap.source": "seed",
}


@pytest.mark.parametrize(
    ("experiment", "numbers"),
    [
        ("fna/retinanet_coco_search", SEARCH | BOTH),
        ("fna/retinanet_coco", TRAIN | BOTH),
        ("fna/ssdlite_coco_search", SSDLITE_SEARCH | SSDLITE),
        ("fna/ssdlite_coco_paper_search", SSDLITE_PAPER_SEARCH | SSDLITE),
        ("fna/ssdlite_coco", SSDLITE_TRAIN | SSDLITE),
        ("fna/deeplabv3_cityscapes_search", DEEPLAB_SEARCH | DEEPLAB),
        ("fna/deeplabv3_cityscapes", DEEPLAB_TRAIN | DEEPLAB),
    ],
)
def test_numbers_of_the_paper(experiment, numbers):
    assert numbers_of(recipe(experiment), numbers) == numbers


def test_iterations_of_deeplabs_recipe():
    """100 K of 16 pictures, and a warm-up of 5 epochs in the search (spec FNA 3.4 and 6.3)."""
    train, search, pictures = recipe("fna/deeplabv3_cityscapes"), recipe("fna/deeplabv3_cityscapes_search"), 2975
    passes = train.data.repeat * train.trainer.max_epochs
    assert passes * pictures / 16 == pytest.approx(100_000, rel=0.01)
    epoch = int(pictures * (1 - search.search.share)) // search.data.batch_size
    assert search.search.schedule.warmup_steps == 5 * epoch


def test_all_gpus():
    config = composed("train", "strategy=ddp")
    assert (config.strategy.devices, config.strategy.accelerator, config.strategy.strategy) == (-1, "gpu", "ddp")
