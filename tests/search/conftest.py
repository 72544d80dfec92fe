"""A search small enough to be done by hand: a classifier around five choices."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from fna_lightning.backbones import Classifier
from fna_lightning.search import BilevelSearch, CostObjective
from fna_lightning.supernets import build_supernet


@pytest.fixture
def problem(small_space, randomise, searched):
    """make(dtype) -> network, choices, losses, a batch, and search(**settings)."""

    def make(dtype=torch.float32, weight=0.5, temperature=1.0, **settings):
        torch.manual_seed(0)
        supernet = build_supernet(small_space, [3])
        view = searched(supernet, (16, 16), temperature)
        network = randomise(Classifier(supernet, 3, dropout=0.0).train()).to(dtype)
        generator = torch.Generator().manual_seed(1)
        for alpha in view.alphas:
            alpha.data = torch.randn(alpha.shape, generator=generator, dtype=dtype)
        images = torch.rand(6, 3, 16, 16, generator=generator, dtype=dtype) * 255
        labels = torch.tensor([0, 1, 2, 0, 1, 2])

        def losses(batch):
            images, labels = batch
            return {"classification": F.cross_entropy(network(images), labels)}

        return SimpleNamespace(
            network=network,
            supernet=supernet,
            choices=view.choices,
            cost=view.cost,
            costs=view.costs,
            draw=view.draw,
            probabilities=view.parameters.probabilities,
            losses=losses,
            batch=(images, labels),
            weights=list(network.parameters()),
            alphas=view.alphas,
            search=BilevelSearch(
                network,
                view.choices,
                losses,
                view.parameters,
                lambda weights: CostObjective(weight)(view.cost, weights),
                random_seed=3,
                **settings,
            ),
        )

    return make


@pytest.fixture
def state():
    """state(module) -> a copy of all parameters and buffers by name."""
    return lambda module: {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


@pytest.fixture
def changed():
    """changed(before, after) -> names of the tensors that differ."""
    return lambda before, after: {name for name in before if not torch.equal(before[name], after[name])}
