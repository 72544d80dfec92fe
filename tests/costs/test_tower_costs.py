"""What the edges of searched heads cost, which run on every level of a pyramid and in every cell."""

import pytest
import torch

from fna_lightning.choices import Choices
from fna_lightning.costs import count, tabulate
from fna_lightning.supernets import TowerSpace

SIZE = (24, 32)
SPACES = {
    "published": (TowerSpace(), 1, 4),
    "two cells": (TowerSpace(nodes=2), 2, 4),
    "no bottleneck": (TowerSpace(nodes=2), 1, 8),
    "twelve chains": (TowerSpace(nodes=2, dilation_3=True), 1, 4),
    "nothing shared": (TowerSpace(nodes=2, sharing=False), 1, 4),
}


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("quantity", ["madds", "params"])
def test_costs_are_those_of_the_derived_network(name, quantity, pyramid, genotype_paths):
    """Whose edges have biases and nothing to decouple."""
    space, cells, channels = SPACES[name]
    network = pyramid(space, cells, channels)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    table = tabulate(network, SIZE, quantity)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert len(table.terms) == len(Choices(network)) * cells
    for path in genotype_paths(network.head, 3):
        derived = pyramid(Choices(network).derive(path)["head"], cells, channels)
        assert table.of(path) == getattr(count(derived, SIZE), quantity)


def test_every_level_counts(pyramid, genotype_paths):
    """A standard block of 4 channels between 8 on five levels, by hand; none costs nothing."""
    network = pyramid(TowerSpace(nodes=2), levels=5)
    table = tabulate(network, SIZE)
    pixels = 24 * 32 + 12 * 16 + 6 * 8 + 3 * 4 + 2 * 2
    edge = (8 * 4 + 4) + (9 * 4 * 4 + 4) + (4 * 8 + 8)
    for term in table.terms:
        assert term.costs[0] == edge * pixels
        assert term.costs[:-1].min() > term.costs[-1] == 0
    expected = table.expected([torch.full((11,), 1 / 11, dtype=torch.float64)] * 10)
    assert float(expected) == pytest.approx(table.fixed + sum(term.costs.mean() for term in table.terms))
    (path,) = genotype_paths(network.head, 1)
    assert table.of(path) == count(pyramid(network.head.architecture_of(path), levels=5), SIZE).madds
