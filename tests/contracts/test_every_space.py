"""What every space must hold to: paths, mixtures, costs against counting, derivation."""

from itertools import islice, product

import numpy as np
import pytest
import torch
from systems import CLASSES, SIZE, SYSTEMS, table_of
from torch import nn

from fna_lightning.backbones import build_backbone
from fna_lightning.checkpoints import Seed
from fna_lightning.choices import Choices
from fna_lightning.costs import count
from fna_lightning.errors import ConfigError
from fna_lightning.modules import searched_part
from fna_lightning.remapping import remap
from fna_lightning.search import Alphas

every_space = pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)


@pytest.fixture
def images():
    return torch.rand(4, 3, *SIZE) * 255


def some_paths(choices):
    """Both ends, and some between."""
    sizes = choices.decisions.sizes
    ends = [[0] * len(sizes), [size - 1 for size in sizes]]
    return [*map(choices.decisions.path, ends), *(choices.draw(3, number) for number in range(4))]


@every_space
def test_choices_have_names_of_their_own(system):
    choices = Choices(system.searched())
    assert len(choices) == len(set(choices.names)) == len(choices.sizes) > 0
    assert choices.sizes == tuple(len(choice.names) for choice in choices)
    assert all(len(set(choice.names)) == len(choice.names) for choice in choices)


@every_space
def test_nothing_runs_before_a_path_is_chosen(system, images):
    with pytest.raises(RuntimeError, match="set_path"):
        system.searched()(images)


@every_space
def test_paths_and_mixtures_run(system, images):
    network = system.searched()
    choices = Choices(network)
    for path in some_paths(choices):
        choices.set_path(path)
        assert network(images).shape == (4, CLASSES)
    alphas = Alphas(choices)
    choices.set_mixture(alphas.weights())
    network(images).square().sum().backward()
    assert all(alpha.grad is not None and alpha.grad.abs().max() > 0 for alpha in alphas.values)


@every_space
def test_paths_that_do_not_exist(system):
    choices = Choices(system.searched())
    good = [0] * len(choices)
    for path in (good[1:], [*good, 0], [-1, *good[1:]], [*good[1:], choices.sizes[-1]]):
        for use in (choices.set_path, choices.derive, choices.check_path):
            with pytest.raises(ConfigError, match="path"):
                use(path)


@every_space
def test_no_alphas_in_the_network(system):
    """A search without them has nothing in its checkpoints, and no parameter that DDP waits for."""
    network = system.searched()
    assert not [name for name in network.state_dict() if "alpha" in name or "start" in name]
    choices = Choices(network)
    for index in range(max(choices.sizes)):
        choices.set_path([min(index, size - 1) for size in choices.sizes])
        network(torch.rand(4, 3, *SIZE) * 255).square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@every_space
@pytest.mark.parametrize("quantity", ["madds", "params"])
def test_costs_are_those_of_the_derived_network(system, quantity):
    network = system.searched()
    table = table_of(network, quantity)
    for path in some_paths(Choices(network)):
        assert table.of(path) == getattr(count(system.derived(network, path), SIZE), quantity), path


@every_space
def test_the_expected_cost_is_the_mean_over_all_paths(system):
    table = table_of(system.searched())
    rows = [torch.softmax(torch.randn(size, dtype=torch.float64), 0) for size in table.sizes]
    mean = sum(
        np.prod([float(row[index]) for row, index in zip(rows, path, strict=True)]) * table.of(path)
        for path in product(*map(range, table.sizes))
    )
    assert table.expected(rows).item() == pytest.approx(mean, rel=1e-9)
    assert table.searched(rows).item() == pytest.approx(mean - table.fixed, rel=1e-9)


@every_space
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_the_best_path_within_a_limit_against_trying_all(system, share):
    table = table_of(system.searched())
    rows = [torch.softmax(2 * torch.randn(size), 0) for size in table.sizes]
    costs = {path: table.of(path) for path in product(*map(range, table.sizes))}
    assert table.bounds() == (min(costs.values()), max(costs.values()))
    least, most = table.bounds()
    limit = least + share * (most - least)

    def probability(path):
        return float(np.prod([float(row[index]) for row, index in zip(rows, path, strict=True)]))

    found = table.best_within(limit, rows)
    assert table.of(found) <= limit
    within = [path for path, cost in costs.items() if cost <= limit - len(rows) * (limit - least) / 20_000]
    assert probability(found) >= max(map(probability, within), default=0) * (1 - 1e-5)
    with pytest.raises(ConfigError, match="cannot be met"):
        table.best_within(least - 1, rows)


@every_space
def test_derived_networks_differ_where_paths_do(system):
    network = system.searched()
    choices = Choices(searched_part(network))
    paths = [list(path) for path in islice(product(*map(range, choices.sizes)), 12)]
    found = [choices.derive(path) for path in paths]
    assert all(set(parts) == {system.space.part} for parts in found)
    assert len({str(parts) for parts in found}) == len(paths)


@every_space
def test_derived_networks_run(system, images):
    network = system.searched()
    for path in some_paths(Choices(network))[:3]:
        assert system.derived(network, path)(images).shape == (4, CLASSES)


@every_space
@torch.no_grad()
def test_the_derived_network_computes_what_the_path_computed(system, images):
    """From the supernet's tensors, on batch statistics: searched layers keep no others."""
    network = system.searched()
    for path in some_paths(Choices(network))[:3]:
        Choices(network).set_path(path)
        derived = system.derived(network, path)
        searched, target = (each.parts()[system.space.part] for each in (network, derived))
        prefix = next(name for name, module in network.named_modules() if module is searched)
        around = {name: value for name, value in network.state_dict().items() if not name.startswith(prefix)}
        own = derived.state_dict()
        # Where widths are searched, what reads them has more channels in the supernet.
        around = {name: value[tuple(map(slice, own[name].shape))] for name, value in around.items()}
        derived.load_state_dict(around, strict=False)
        remap(None, target, supernet_state=searched.state_dict())
        for module in [*network.modules(), *derived.modules()]:
            if isinstance(module, nn.Dropout):
                module.p = 0
        torch.testing.assert_close(derived.train()(images), network.train()(images))


@every_space
def test_seeds_reach_every_layer_of_the_supernet(system, randomise):
    """Of a backbone; heads have no seeds."""
    network, base = system.searched(), system.base["backbone"]
    maps = [level.name for level in base.levels() if level.form != "expand"]
    seed = Seed(base, randomise(build_backbone(base, maps)).state_dict())
    if system.space.part == "backbone":
        report = remap(seed, network.backbone)
        assert {entry.how for entry in report.entries} <= {"copied", "resized"}
    else:
        with pytest.raises(ConfigError, match="remap=random"):
            remap(seed, network.parts()[system.space.part])
