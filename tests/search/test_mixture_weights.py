"""Weight steps on the mixture of all candidates, and searches whose best candidates are known."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fna_lightning.choices import Choices, LayerChoice
from fna_lightning.costs import CostTable
from fna_lightning.costs.knapsack import Term
from fna_lightning.search import Alphas, BilevelSearch, NextStep, likely_paths


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01)


def test_all_weights_move_and_no_architecture_parameter(problem, state, changed):
    p = problem(mixed=True)
    before, alphas = state(p.network), state(p.search.alphas)
    p.search.weight_step(p.batch, sgd(p.weights), 0)
    assert all(alpha.grad is None for alpha in p.alphas)
    assert not changed(alphas, state(p.search.alphas))
    moved = changed(before, state(p.network))
    assert {name for name, _ in p.network.named_parameters()} <= moved
    assert {name for name in before if "running" in name or "tracked" in name} <= moved
    assert all(not choice.weights.requires_grad for choice in p.choices)


def test_the_step_is_a_plain_one_of_the_mixture(problem):
    """By parameters of which one choice is all but decided; what is drawn and its probabilities have no say."""
    p = problem(torch.float64, temperature=0.7, mixed=True)
    p.alphas[0].data[1] += 5.0
    other = copy.deepcopy(p.network)
    optimizer, plain = sgd(p.weights), sgd(other.parameters())
    Choices(other).set_mixture([torch.softmax(alpha.detach() / 0.7, 0) for alpha in p.alphas])
    for iteration in range(3):
        p.search.weight_step(p.batch, optimizer, 7 * iteration, p.probabilities())
        plain.zero_grad()
        F.cross_entropy(other(p.batch[0]), p.batch[1]).backward()
        plain.step()
    for name, value in other.state_dict().items():
        torch.testing.assert_close(p.network.state_dict()[name], value)


def test_the_gradient_is_clipped_as_on_paths(problem):
    steps = []
    for clip in (None, 1e-3):
        p = problem(torch.float64, mixed=True, clip_weights=clip)
        before = [weight.detach().clone() for weight in p.weights]
        p.search.weight_step(p.batch, torch.optim.SGD(p.weights, 1.0), 0)
        moved = [old - weight.detach() for old, weight in zip(before, p.weights, strict=True)]
        steps.append(float(torch.stack([step.norm() for step in moved]).norm()))
    assert steps[0] > 1e-2
    assert steps[1] == pytest.approx(1e-3, rel=1e-2)


class Square(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, x):
        return self.linear(x * x)


class Zero(nn.Module):
    def forward(self, x):
        return 0.0 * x[:, :1]


class Sum(nn.Module):
    """Two choices over the two halves of the input; of squares and a linear function only one can fit each."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(
            LayerChoice({"linear": nn.Linear(3, 1), "none": Zero(), "square": Square()}) for _ in range(2)
        )
        self.mean = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.mean + sum(part(half) for part, half in zip(self.parts, x.split(3, dim=1), strict=True))


@pytest.mark.parametrize("random_seed", range(5))
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("mixed", [False, True], ids=["paths", "mixture"])
def test_the_candidates_that_can_fit_are_found(mixed, order, random_seed):
    """The first half counts by its squares, the second as it is, which no other candidates can learn."""
    torch.manual_seed(random_seed)
    network = Sum()
    choices = Choices(network)
    alphas = Alphas(choices)
    teacher = torch.randn(2, 3)

    def losses(batch):
        return {"error": F.mse_loss(network(batch[0]), batch[1])}

    def batch():
        inputs = torch.randn(32, 6)
        wanted = inputs[:, :3].square() @ teacher[0] + inputs[:, 3:] @ teacher[1]
        return inputs, wanted[:, None]

    search = BilevelSearch(
        network, choices, losses, alphas, lambda rows: 0.0 * rows[0].sum(), mixed=mixed, random_seed=random_seed
    )
    # The decay makes large weights in place of large parameters dear, without which a mixture can stay one.
    weights = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, weight_decay=0.03)
    architecture = torch.optim.Adam(alphas.parameters(), lr=0.05, betas=(0.5, 0.999))
    for iteration in range(150):
        own = batch()
        ahead = NextStep(own, weights) if order == 2 else None
        search.architecture_step(batch(), architecture, iteration, ahead)
        search.weight_step(own, weights, iteration, alphas.probabilities())
    assert [int(row.argmax()) for row in alphas.probabilities()] == [2, 0]
    assert min(float(row.max()) for row in alphas.probabilities()) > 0.5


@pytest.fixture
def decided():
    """decided(rows, derive) -> the parameters of as many choices."""

    def make(rows, derive="probability"):
        network = nn.Sequential(*(LayerChoice({str(k): nn.Identity() for k in range(len(row))}) for row in rows))
        alphas = Alphas(Choices(network), derive=derive)
        for value, row in zip(alphas.values, rows, strict=True):
            value.data = torch.tensor(row)
        return alphas

    return make


def test_raw_parameters_are_compared_across_choices(decided):
    """FAD keeps edges of the largest parameters, DARTS those of the largest probabilities; here they differ."""
    rows = [[2.0, 1.9, 1.8], [1.0, -3.0, -3.0]]
    probability, raw = decided(rows).preferences(), decided(rows, "raw").preferences()
    assert probability[0].max() < probability[1].max()
    assert raw[0].max() == 1.0 > raw[1].max()
    for row, wanted in zip(raw, rows, strict=True):
        torch.testing.assert_close(row.log(), torch.tensor(wanted).double() - 2.0)
    assert all(torch.equal(a, b) for a, b in zip(decided(rows, "raw").probabilities(), probability, strict=True))


def test_far_parameters_keep_their_order(decided):
    """Where float32 would call them all zero."""
    raw = decided([[0.0, -300.0, -200.0], [-400.0, -500.0, -390.0]], "raw").preferences()
    assert [row.argsort().tolist() for row in raw] == [[1, 2, 0], [1, 0, 2]]


@pytest.mark.parametrize("random_seed", range(3))
def test_choices_by_themselves_are_derived_alike(decided, random_seed):
    """Within a limit as well, where the sum of the logarithms decides, and in the draws of other paths."""
    generator = torch.Generator().manual_seed(random_seed)
    rows = [torch.randn(size, generator=generator).tolist() for size in (3, 4, 2, 3)]
    sizes = [len(row) for row in rows]
    terms = [Term((k,), torch.rand(n, generator=generator).double().numpy()) for k, n in enumerate(sizes)]
    cost = CostTable("madds", 0.0, sizes, terms)
    low, high = cost.bounds()
    probability, raw = (decided(rows, derive).preferences() for derive in ("probability", "raw"))
    for share in (None, 0.2, 0.5, 0.8):
        limit = None if share is None else low + share * (high - low)
        least = None if share is None else low + 0.8 * share * (high - low)
        path = cost.best_within(limit, probability, least)
        assert cost.best_within(limit, raw, least) == path
        assert likely_paths(cost, raw, limit, least, 3, 0)[0] == path
        if limit is not None:
            assert all(cost.of(other) <= limit for other in likely_paths(cost, raw, limit, least, 3, 0))
