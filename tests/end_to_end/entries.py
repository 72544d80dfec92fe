"""Entry points run in this process as their command line would, and settings that make them small."""

import logging
import os
import runpy
import sys
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra

import fna_lightning

TOP = Path(fna_lightning.__file__).parents[1]

DETECTION = (
    "data.num_train=16",
    "data.num_val=4",
    "data.image_size=64",
    "data.batch_size=2",
    "data.num_workers=0",
    "detector.fpn_channels=8",
    "detector.head_depth=1",
    "cost.input_size=[64,64]",
    "trainer.enable_progress_bar=false",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=3",
    "trainer.log_every_n_steps=1",
)
SEARCH = (*DETECTION, "search.warmup_epochs=1", "search.log_every=2", "space.candidates=[k3_e3,k5_e6]")
CLASSIFICATION = (
    "experiment=demo/seed",
    "data.num_train=16",
    "data.num_val=8",
    "data.image_size=32",
    "data.batch_size=4",
    "data.num_workers=0",
    "trainer.enable_progress_bar=false",
    "trainer.max_epochs=1",
)


def start(entry, *overrides, full_error=False):
    """Run `python <entry>.py <overrides>`; SystemExit comes through."""
    root = logging.getLogger()
    handlers, level, argv, environment = list(root.handlers), root.level, sys.argv, dict(os.environ)
    os.environ["HYDRA_FULL_ERROR"] = str(int(full_error))
    os.environ.pop("FNA_LIGHTNING_FULL_ERROR", None)
    GlobalHydra.instance().clear()
    sys.argv = [str(TOP / f"{entry}.py"), *overrides]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        GlobalHydra.instance().clear()
        sys.argv = argv
        os.environ.clear()
        os.environ.update(environment)
        root.handlers[:] = handlers
        root.setLevel(level)
