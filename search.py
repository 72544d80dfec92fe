"""Search a backbone for a detector, starting from a trained seed network (architecture adaptation).

`python search.py --help` shows all settings.
"""

import hydra
from omegaconf import DictConfig

from fna_lightning.runs.entry import launch


@hydra.main(version_base="1.3", config_path="conf", config_name="search")
def main(config: DictConfig) -> float:
    """Called by Hydra with the composed configuration."""
    # Heavy imports wait until the command line is known to be right.
    from fna_lightning.runs.processes import run_job
    from fna_lightning.runs.search import search

    return run_job(__file__, search, config)


if __name__ == "__main__":
    launch(main, __file__)
