"""Seeds of a small network, read."""

import pytest
import torch
from wrapped import state_of

from fna_lightning.checkpoints import load_seed


@pytest.fixture
def load(tmp_path):
    """The seed of a file with some content."""

    def read(content, **options):
        torch.save(content, tmp_path / "weights.pth")
        return load_seed(tmp_path / "weights.pth", **options)

    return read


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "weights.pth"
    torch.save(state_of(), path)
    return load_seed(path)
