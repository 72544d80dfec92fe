"""A search over two processes is that of one process with all the images."""

import numpy as np
import pytest
from ranks import search, search_in_two

from fna_lightning.data import ShapesDetectionDataModule


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks") / "set"
    ShapesDetectionDataModule(folder, num_train=40, num_val=4, image_size=64).prepare_data()
    return folder


@pytest.fixture(scope="module")
def alone(root):
    return search(root)


def difference(found, wanted):
    """Of all gradients, as a part of those wanted."""
    assert found.keys() == wanted.keys()
    assert len(wanted) > 5
    ours, theirs = (np.concatenate([g[name].ravel() for name in wanted]) for g in (found, wanted))
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


strategies = pytest.mark.parametrize("strategy", ["active", "ddp_find_unused_parameters_true"])


@strategies
def test_gradients_are_those_of_one_process(strategy, root, alone):
    for rank in search_in_two(root, strategy=strategy):
        for kind in ("alphas", "weights"):
            assert difference(rank["gradients"][kind], alone["gradients"][kind]) <= 1e-5


@strategies
def test_second_order_gradients_and_those_of_the_mixture_too(strategy, root, alone):
    settings = {"order": 2, "weights_on": "mixture", "rate": 1.0}
    wanted = search(root, **settings)["gradients"]
    assert difference(alone["gradients"]["alphas"], wanted["alphas"]) > 0.1  # the rate is large enough to see it
    for rank in search_in_two(root, strategy=strategy, **settings):
        assert difference(rank["gradients"]["alphas"], wanted["alphas"]) <= 1e-4
        assert difference(rank["gradients"]["weights"], wanted["weights"]) <= 1e-5


def test_ranks_stay_the_same_for_fifty_steps(root, alone):
    one, other = search_in_two(root, iterations=50)
    assert one["iteration"] == other["iteration"] == 50
    assert one["paths"] == other["paths"]
    assert len(set(one["paths"])) > 20
    moved = 0
    for name, value in one["state"].items():
        assert np.array_equal(value, other["state"][name]), name
        moved += not np.array_equal(value, alone["state"][name])
    assert moved > 100


def test_ranks_on_different_paths_are_stopped(root):
    ranks = search_in_two(root, by_rank={1: {"random_seed": 1}})
    assert ["different paths" in rank["error"] for rank in ranks] == [True, True]


def test_a_broken_picture_of_one_rank_stops_all_and_is_named(root):
    one, other = search_in_two(root, iterations=5, spoil=1)
    assert one["error"] == other["error"]
    assert one["error"].startswith("loss or gradient is not finite")
    assert one["error"].count("iteration 2") == 1  # the other rank's batch is fine
