"""Gradients from drawn paths against the sum over all paths, and the figure that says what they are worth."""

from itertools import product

import pytest
import torch

from fna_lightning.search import BilevelSearch, likely_paths
from fna_lightning.search.signal import GradientSignal


@pytest.fixture
def by_paths(problem):
    """The same search, with gradients from drawn paths and no cost."""

    def make(drawn, random_seed=3, cost=lambda weights: 0.0 * weights[0].sum()):
        made = problem(torch.float64)
        made.search = BilevelSearch(
            made.network,
            made.choices,
            made.losses,
            made.search.alphas,
            cost,
            drawn=drawn,
            random_seed=random_seed,
        )
        return made

    return make


class Recorder:
    """An optimiser that keeps gradients and moves nothing."""

    def __init__(self, parameters):
        self.parameters = list(parameters)
        self.seen = []

    def step(self):
        self.seen.append(torch.cat([parameter.grad.flatten() for parameter in self.parameters]))

    def zero_grad(self):
        for parameter in self.parameters:
            parameter.grad = None


def exact_gradient(made):
    """Of the expected loss of a drawn path, by going through all of them."""
    rows = [torch.softmax(alpha, 0) for alpha in made.alphas]
    total = 0.0
    made.network.train()
    for path in product(*(range(len(row)) for row in rows)):
        made.choices.set_path(path)
        with torch.no_grad():
            loss = sum(made.losses(made.batch).values())
        chance = torch.stack([row[index] for row, index in zip(rows, path, strict=True)]).prod()
        total = total + chance * loss
    return torch.cat([g.flatten() for g in torch.autograd.grad(total, list(made.alphas))])


def test_the_mean_gradient_is_that_of_the_expected_loss(by_paths):
    made = by_paths(8)
    wanted = exact_gradient(made)
    optimizer = Recorder(made.alphas)
    for iteration in range(250):
        made.search.architecture_step(made.batch, optimizer, iteration)
    seen = torch.stack(optimizer.seen)
    error = seen.std(0) / len(seen) ** 0.5
    assert ((seen.mean(0) - wanted).abs() < 4 * error + 1e-9).all()
    assert torch.cosine_similarity(seen.mean(0), wanted, dim=0) > 0.9


def test_a_step_is_a_function_of_seed_and_iteration(by_paths):
    gradients = []
    for random_seed, iteration in ((3, 5), (3, 5), (3, 6), (4, 5)):
        made = by_paths(4, random_seed)
        optimizer = Recorder(made.alphas)
        losses = made.search.architecture_step(made.batch, optimizer, iteration)
        assert losses.keys() == {"paths", "cost", "loss"}
        gradients.append(optimizer.seen[0])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)
    assert not torch.equal(gradients[0], gradients[2])
    assert not torch.equal(gradients[0], gradients[3])


def test_no_weight_and_no_statistic_moves(by_paths):
    made = by_paths(4)
    before = {name: tensor.clone() for name, tensor in made.network.state_dict().items()}
    made.search.architecture_step(made.batch, torch.optim.SGD(list(made.alphas), lr=1.0), 0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.network.state_dict().items())
    assert all(parameter.grad is None for parameter in made.weights)
    assert all(parameter.requires_grad for parameter in made.weights)


def test_the_signal_leaves_the_cost_out(by_paths):
    """Whose gradient is no noise, and would hide it."""
    made, pulled = by_paths(4), by_paths(4, cost=lambda weights: 100 * weights[0].square().sum())
    for search in (made, pulled):
        optimizer = Recorder(search.alphas)
        for iteration in range(6):
            search.search.architecture_step(search.batch, optimizer, iteration)
    ours, theirs = (each.search.alphas.signal.value() for each in (made, pulled))
    assert ours == pytest.approx(theirs, rel=1e-3)


def test_signal_and_noise():
    generator = torch.Generator().manual_seed(0)

    def value(mean, steps):
        signal = GradientSignal([40, 60])
        for _ in range(steps):
            flat = mean + torch.randn(100, generator=generator)
            signal.take_in([flat[:40], flat[40:]])
        return signal.value()

    noise = [value(0.0, 20) for _ in range(50)]
    assert sum(noise) / 50 == pytest.approx(1.0, abs=0.1)
    # A mean of 1 against a deviation of 1 / sqrt(20).
    assert value(1.0, 20) == pytest.approx(21, rel=0.15)
    assert value(1.0, 80) == pytest.approx(81, rel=0.15)


def test_a_signal_of_no_steps_is_none():
    signal = GradientSignal([2])
    assert signal.value() != signal.value()
    signal.take_in([torch.ones(2)])
    assert signal.value() != signal.value()
    signal.take_in([torch.ones(2)])
    assert signal.value() > 1e6
    signal.forget()
    assert signal.value() != signal.value()


def test_likely_paths_are_the_best_and_others_within_the_limits(problem):
    made = problem()
    probabilities = made.probabilities()
    low, high = made.cost.bounds()
    limit, least = low + 0.7 * (high - low), low + 0.4 * (high - low)
    paths = likely_paths(made.cost, probabilities, limit, least, 5, 0)
    assert paths[0] == made.cost.best_within(limit, probabilities, least)
    assert len({tuple(path) for path in paths}) == len(paths) == 5
    assert all(least <= made.cost.of(path) <= limit for path in paths)
    assert likely_paths(made.cost, probabilities, limit, least, 5, 0) == paths
    assert len(likely_paths(made.cost, probabilities, None, None, 1, 0)) == 1
