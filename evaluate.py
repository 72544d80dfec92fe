"""Score a trained network.

`python evaluate.py --help` shows all settings.
"""

import hydra
from omegaconf import DictConfig

from fna_lightning.runs.entry import friendly, launch


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(config: DictConfig) -> float:
    """Called by Hydra with the composed configuration."""
    from fna_lightning.runs.evaluate import (
        evaluate,
    )  # heavy imports wait until the command line is known to be right

    with friendly():
        return evaluate(config)


if __name__ == "__main__":
    launch(main)
