"""Runs that the tests of the entry points share."""

from types import SimpleNamespace

import pytest
from entries import CLASSIFICATION, DETECTION, SEARCH, start


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
