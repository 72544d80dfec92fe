"""The recipes in conf/experiment, and which entry point each is of."""

import re

from fna_lightning.files import CONF_DIR

FOLDER = CONF_DIR / "experiment"
EXPERIMENTS = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


def entry_of(experiment):
    """Recipes of searches, and of supernets to search, are named so."""
    return "search" if re.search(r"[_/]search(_|$)|/supernet_", experiment) else "train"
