"""Entry points run in this process as their command line would, on sets of a few small images."""

import logging
import os
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
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


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A seed, a search from it, and the found network trained: run directories by name."""
    folder = tmp_path_factory.mktemp("runs")
    seed, search, train = (folder / name for name in ("seed", "search", "train"))
    detection, classification = f"data.root={folder / 'detection'}", f"data.root={folder / 'classification'}"
    from_seed = ["seed=custom", f"seed.weights={seed}"]
    start("train", *CLASSIFICATION, classification, f"hydra.run.dir={seed}")
    start("search", *SEARCH, detection, *from_seed, f"hydra.run.dir={search}")
    start("train", *DETECTION, detection, *from_seed, f"architecture={search}", f"hydra.run.dir={train}")
    return SimpleNamespace(
        folder=folder, seed=seed, search=search, train=train, detection=detection, from_seed=from_seed
    )


@pytest.fixture
def cli(tmp_path, monkeypatch, runs):
    """start, the small overrides, and the sets of `runs`, in a directory of this test's own."""
    monkeypatch.chdir(tmp_path)
    return SimpleNamespace(
        start=start, detection=(*DETECTION, runs.detection), search=(*SEARCH, runs.detection), here=tmp_path
    )
