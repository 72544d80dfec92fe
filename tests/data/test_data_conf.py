"""The config files name real settings, all of them, and the recipes' numbers."""

import inspect
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from fna_lightning.data import CityscapesDataModule, DataModule, DetectionDataModule, SegmentationDataModule
from fna_lightning.data.label_maps import CITYSCAPES_CLASSES
from fna_lightning.overrides import readable

CONF = Path(__file__).parents[2] / "conf" / "data"
NAMES = (
    "cityscapes",
    "coco",
    "imagenet",
    "yolo",
    "shapes_classification",
    "shapes_detection",
    "shapes_segmentation",
)


def load(name, root):
    with initialize_config_dir(str(CONF.parent), version_base="1.3"):
        return compose("check", [f"data={name}", f"data.root={root}", "random_seed=7"]).data


@pytest.mark.parametrize("name", NAMES)
def test_config_gives_a_module(name, tmp_path):
    data = instantiate(load(name, tmp_path / name))
    assert isinstance(data, DataModule)
    assert data.random_seed == 7


@pytest.mark.parametrize("name", ["cityscapes", "coco", "imagenet", "masks", "yolo"])
def test_config_has_every_key(name, tmp_path):
    config = load(name, tmp_path)
    keys = set(config) - {"_target_"}
    owners = [owner for owner in get_class(config["_target_"]).__mro__ if issubclass(owner, DataModule)]
    arguments = {name for owner in owners for name in inspect.signature(owner).parameters}
    assert keys == arguments - {"settings"}


def test_numbers_of_the_paper():
    defaults = {key: value.default for key, value in inspect.signature(DetectionDataModule).parameters.items()}
    config = OmegaConf.load(CONF / "coco.yaml")
    for key in ("short_side", "long_side", "flip", "pad"):
        assert config[key] == defaults[key]
    assert (config.short_side, config.long_side, config.flip, config.pad) == (800, 1333, 0.5, 32)


def test_numbers_of_the_paper_for_segmentation():
    owners = (CityscapesDataModule, SegmentationDataModule)
    parameters = [item for owner in owners for item in inspect.signature(owner).parameters.items()]
    defaults = {key: value.default for key, value in parameters}
    config = OmegaConf.load(CONF / "cityscapes.yaml")
    for key in ("scales", "crop", "flip", "train_split", "images_folder", "image_suffix", "label_suffix"):
        value = OmegaConf.to_container(config)[key]
        assert (tuple(value) if isinstance(value, list) else value) == defaults[key]
    assert list(config.scales) == [0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    assert (list(config.crop), config.flip, config.batch_size) == ([769, 769], 0.5, 16 // 4)


def label_map(*overrides):
    with initialize_config_dir(str(CONF.parent), version_base="1.3"):
        config = compose("check", ["data.root=somewhere", *overrides])
    return instantiate(config.data).label_map


def test_classes_of_segmentation_sets():
    assert label_map("data=cityscapes").class_names == tuple(CITYSCAPES_CLASSES)
    camvid = label_map("data=camvid")
    assert len(camvid.class_names) == 11
    assert camvid.ignored == (0,)
    pairs = zip(camvid.class_names, camvid.class_ids, strict=True)
    assert all(CITYSCAPES_CLASSES[name] == ids[0] for name, ids in pairs)


def test_classes_on_the_command_line_take_the_place_of_those_of_cityscapes():
    found = label_map("data=cityscapes", *readable(['data.classes={"traffic sign": 20, road: [7, 8]}']))
    assert found.class_names == ("traffic sign", "road")
    assert found.class_ids == ((20,), (7, 8))
    assert set(found.ignored) == {*range(34), 255} - {7, 8, 20}
