"""The recipes in conf/experiment, which entry point each is of, and what they are composed to."""

import re

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from fna_lightning.files import CONF_DIR

FOLDER = CONF_DIR / "experiment"
EXPERIMENTS = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


def entry_of(experiment):
    """Recipes of searches, and of supernets to search, are named so."""
    return "search" if re.search(r"[_/]search(_|$)|/supernet_", experiment) else "train"


def composed(entry, *overrides, resolve=True):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose(entry, list(overrides), return_hydra_config=False)
    config.paths.output = "run"
    if resolve:
        OmegaConf.resolve(config)
    return config


def recipe(experiment):
    entry = entry_of(experiment)
    given = ["++data.root=somewhere", "++seed.weights=seed.pth"]
    return composed(entry, f"experiment={experiment}", *given, *supernet(experiment))


def supernet(experiment):
    """The run directory that a recipe needs which goes on from another search's supernet."""
    config = composed(entry_of(experiment), f"experiment={experiment}", resolve=False)
    return ["search.supernet=run"] if "search.supernet" in OmegaConf.missing_keys(config) else []


def numbers_of(config, keys):
    """Values by dotted key, as plain data."""
    found = {key: OmegaConf.select(config, key) for key in keys}
    return {
        key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value for key, value in found.items()
    }
