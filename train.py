"""Train a network whose parameters were carried over from a seed (parameter adaptation).

`python train.py --help` shows all settings.
"""

import hydra
from omegaconf import DictConfig

from fna_lightning.runs.entry import launch


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> float:
    """Called by Hydra with the composed configuration."""
    # Heavy imports wait until the command line is known to be right.
    from fna_lightning.runs.processes import run_job
    from fna_lightning.runs.train import train

    return run_job(__file__, train, config)


if __name__ == "__main__":
    launch(main, __file__)
