"""The config files name real settings, all of them, and the recipes' numbers."""

import inspect
from pathlib import Path

import pytest
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from fna_lightning.data import DataModule, DetectionDataModule

CONF = Path(__file__).parents[2] / "conf" / "data"
NAMES = ("coco", "imagenet", "shapes_classification", "shapes_detection")


def load(name, root):
    config = OmegaConf.create({"random_seed": 7, "data": OmegaConf.load(CONF / f"{name}.yaml")})
    config.data.root = str(root)
    config.data.pop("defaults", None)  # of other groups, which Hydra would put in
    return config.data


@pytest.mark.parametrize("name", NAMES)
def test_config_gives_a_module(name, tmp_path):
    data = instantiate(load(name, tmp_path / name))
    assert isinstance(data, DataModule)
    assert data.random_seed == 7


@pytest.mark.parametrize("name", ["coco", "imagenet"])
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
