"""Every search over every space in two processes: they train one and the same network, and find the same."""

from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
from systems import SEARCHES, SYSTEMS, job_of
from two_ranks import in_two

from fna_lightning.data import ShapesClassificationDataModule
from fna_lightning.modules import ActivePathStrategy


def search_rank(_, system, search, images, folder, ranks=2, epochs=2):
    """(parameters before, parameters behind, path, figures) of one rank."""
    data = ShapesClassificationDataModule(images, 24, 8, 32, 3, batch_size=2, num_workers=0)
    record = SimpleNamespace(module=None)

    def trainer():
        return L.Trainer(
            accelerator="cpu",
            devices=ranks,
            strategy=ActivePathStrategy() if ranks > 1 else "auto",
            max_epochs=epochs,
            num_sanity_val_steps=0,
            logger=False,
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )

    data.setup("fit")
    job = job_of(SYSTEMS[system], data, folder, trainer, record=record)
    before = {name: parameter.detach().numpy().copy() for name, parameter in job.network.named_parameters()}
    result = SEARCHES[search]().run(job)
    behind = {name: parameter.detach().numpy() for name, parameter in record.module.named_parameters()}
    return before, behind, list(result.path), {**result.metrics, "objective": result.objective}


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("system", SYSTEMS)
def test_ranks_train_and_find_the_same(system, search, shapes_folder, tmp_path):
    (before, one, path, figures), (_, other, other_path, other_figures) = in_two(
        search_rank, system, search, shapes_folder, tmp_path
    )
    assert [name for name, value in one.items() if not np.array_equal(value, other[name])] == []
    moved = [name for name, value in before.items() if not np.array_equal(value, one[f"network.{name}"])]
    assert len(moved) > len(before) / 2
    assert path == other_path
    assert figures == other_figures


@pytest.mark.parametrize("system", SYSTEMS)
def test_two_ranks_score_as_one_does(system, shapes_folder, tmp_path):
    """Nothing is trained where the only epoch is for candidates: the same ones, of the same scores to the bit."""
    settings = (system, "evolution", shapes_folder, tmp_path)
    *_, path, figures = search_rank(0, *settings, ranks=1, epochs=1)
    alone = (tmp_path / "candidates.csv").read_bytes()
    for *_, other_path, other_figures in in_two(search_rank, *settings, 2, 1):
        assert other_path == path
        assert other_figures == figures
    assert (tmp_path / "candidates.csv").read_bytes() == alone
