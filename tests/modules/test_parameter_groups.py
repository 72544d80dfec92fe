"""Which parameter gets which rate and decay, by a plain look at the modules that hold them."""

from functools import partial

import pytest
import torch
from torch import nn

from fna_lightning.backbones import build_backbone
from fna_lightning.modules import ParameterGroups
from fna_lightning.supernets import build_supernet

SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01)


class Network(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


@pytest.fixture
def network(small):
    return Network(build_backbone(small, [3]))


def settings_of(optimizer):
    """Parameter -> its rate and decay; none may come twice."""
    groups = optimizer.param_groups
    rows = [(id(p), group["lr"], group["weight_decay"]) for group in groups for p in group["params"]]
    assert len({row[0] for row in rows}) == len(rows)
    return {key: (rate, decay) for key, rate, decay in rows}


@pytest.mark.parametrize("norm_decay", [True, False])
@pytest.mark.parametrize("factor", [1.0, 10.0])
def test_every_parameter_has_its_rate_and_decay(network, norm_decay, factor):
    optimizer = ParameterGroups(norm_decay, factor).optimizer(SGD, network, network.parameters())
    found = settings_of(optimizer)
    assert len(found) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        holder = network.get_submodule(name.rpartition(".")[0])
        rate, decay = found[id(parameter)]
        assert rate == pytest.approx(0.1 * (factor if name.startswith("head") else 1))
        assert decay == (0 if isinstance(holder, nn.BatchNorm2d) and not norm_decay else 0.01)
    assert optimizer.param_groups[0]["lr"] == 0.1  # what the log shows
    assert all(group["momentum"] == 0.9 for group in optimizer.param_groups)


@pytest.mark.parametrize("groups", [ParameterGroups(bias_lr_factor=2, bias_decay=False),
                                    ParameterGroups(False, 10, 2, False), ParameterGroups(True, 10, 2),
                                    ParameterGroups(bias_decay=False)])  # fmt: skip
def test_the_rule_of_biases(network, groups):
    """FAD: twice the rate, no decay; shifts of norms are biases too, their scales are not."""
    optimizer = groups.optimizer(SGD, network, network.parameters())
    found = settings_of(optimizer)
    assert len(found) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        holder, _, own = name.rpartition(".")
        is_norm = isinstance(network.get_submodule(holder), nn.BatchNorm2d)
        rate, decay = found[id(parameter)]
        factor = groups.head_lr_factor if name.startswith("head") else 1
        assert rate == pytest.approx(0.1 * factor * (groups.bias_lr_factor if own == "bias" else 1))
        fixed = (own == "bias" and not groups.bias_decay) or (is_norm and not groups.norm_decay)
        assert decay == (0 if fixed else 0.01)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_one_group_by_default(network):
    optimizer = ParameterGroups().optimizer(SGD, network, network.parameters())
    assert [len(group["params"]) for group in optimizer.param_groups] == [len(list(network.parameters()))]


def test_only_the_parameters_that_are_given(small_space):
    network = Network(build_supernet(small_space, [3]))
    weights = [parameter for name, parameter in network.named_parameters() if ".candidates." not in name]
    assert 0 < len(weights) < len(list(network.parameters()))
    found = settings_of(ParameterGroups(False, 10).optimizer(SGD, network, weights))
    assert set(found) == {id(weight) for weight in weights}


def test_schedules_keep_the_ratio(network):
    optimizer = ParameterGroups(False, 10).optimizer(SGD, network, network.parameters())
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, 10)
    for _ in range(5):
        optimizer.step()
        schedule.step()
    rates = sorted({group["lr"] for group in optimizer.param_groups})
    assert rates == pytest.approx([0.05, 0.5])
