"""What a space must not do is refused by name, before anything is trained."""

import pytest
import torch
from systems import SIZE, SYSTEMS
from torch import nn

from fna_lightning.choices import Choices, LayerChoice, ValueChoice
from fna_lightning.costs import tabulate
from fna_lightning.errors import ConfigError


def two_of(system, **parts):
    """A network of two searched ones."""
    return nn.ModuleDict({name: SYSTEMS[system].searched() for name in ("one", "other")} | parts)


def test_two_architectures_of_one_part():
    network = two_of("fna")
    with pytest.raises(TypeError, match="two supernets give an architecture of the backbone"):
        Choices(network).derive([0] * len(Choices(network)))


def test_a_choice_that_nobody_derives():
    network = nn.ModuleDict({"net": SYSTEMS["fna"].searched(), "more": LayerChoice({"a": nn.ReLU()})})
    with pytest.raises(TypeError, match="more: these choices are in no Supernet"):
        Choices(network).derive([0] * len(Choices(network)))


@pytest.mark.parametrize("values", [[], [4, 2], [2, 2], [0, 3]])
def test_numbers_out_of_order(values):
    with pytest.raises(ConfigError, match="positive ones, ascending, each once"):
        ValueChoice(values)


class Sliced(nn.Module):
    """A layer that reads some numbers, and computes nothing by them."""

    def __init__(self, choices):
        super().__init__()
        for number, choice in enumerate(choices):
            self.add_module(f"width{number}", choice)

    def forward(self, x):
        return x


def test_more_combinations_than_can_be_counted():
    widths = [ValueChoice(range(1, 11)) for _ in range(6)]
    with pytest.raises(ConfigError, match="Sliced depends on 1,000,000 combinations of width0, width1"):
        tabulate(Sliced(widths), SIZE)


def test_a_list_of_choices_costs_nothing_itself():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.widths = nn.ModuleList(ValueChoice(range(1, 11)) for _ in range(6))
            self.layers = nn.Sequential(*(Sliced(self.widths[k : k + 2]) for k in range(5)))

        def forward(self, x):
            return self.layers(x)

    table = tabulate(Net(), SIZE)
    assert [term.choices for term in table.terms] == [(k, k + 1) for k in range(5)]


@pytest.mark.parametrize("system", SYSTEMS)
def test_costs_are_counted_under_a_mixture_too(system):
    network = SYSTEMS[system].searched()
    choices = Choices(network)
    path = [0] * len(choices)
    before = tabulate(network, SIZE).of(path)
    choices.set_mixture([torch.ones(size, requires_grad=True).softmax(0) for size in choices.sizes])
    assert tabulate(network, SIZE).of(path) == before
