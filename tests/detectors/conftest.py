import pytest
import torch
from tiny_backbone import TinyBackbone


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def tiny_backbone():
    return TinyBackbone()


@pytest.fixture(scope="session")
def make_backbone():
    return TinyBackbone
