"""The gradient through the weights' next step, against exact products with the Hessian and real optimisers."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fna_lightning.choices import Choices, LayerChoice
from fna_lightning.errors import ConfigError
from fna_lightning.search import Alphas, BilevelSearch, NextStep


class Smooth(nn.Module):
    """Two choices without kinks, a batch norm, and a dropout if asked for."""

    def __init__(self, dropout=0.0):
        super().__init__()

        def choice():
            return LayerChoice(
                {
                    "tanh": nn.Sequential(nn.Linear(4, 4), nn.Tanh()),
                    "gelu": nn.Sequential(nn.Linear(4, 4), nn.GELU()),
                    "none": nn.Identity(),
                }
            )

        self.layers = nn.Sequential(choice(), nn.BatchNorm1d(4), nn.Dropout(dropout), choice(), nn.Linear(4, 1))
        self.idle = nn.Linear(2, 2)  # in no loss

    def forward(self, x):
        return self.layers(x)


class Recorder:
    """An optimiser that keeps gradients and moves nothing."""

    def __init__(self, parameters):
        self.parameters = list(parameters)
        self.gradients = []

    def step(self):
        self.gradients = [parameter.grad.clone() for parameter in self.parameters]

    def zero_grad(self):
        for parameter in self.parameters:
            parameter.grad = None


class Toy:
    """A search of `Smooth` by squared errors, in float64."""

    def __init__(self, dropout=0.0, temperature=1.0):
        torch.manual_seed(4)
        self.network = Smooth(dropout).double()
        self.choices = Choices(self.network)
        self.parameters = Alphas(self.choices, temperature).double()
        self.alphas = list(self.parameters.values)
        for alpha in self.alphas:
            nn.init.normal_(alpha)
        self.batches = [(torch.randn(16, 4).double(), torch.randn(16, 1).double()) for _ in range(2)]
        self.seen = []
        self.search = BilevelSearch(
            self.network, self.choices, self.losses, self.parameters, lambda rows: 0.3 * rows[0][0], mixed=True
        )

    def losses(self, batch):
        self.seen.append([weight.detach().clone() for weight in self.network.parameters()])
        inputs, wanted = batch
        return {
            "error": F.mse_loss(self.network(inputs), wanted),
            "size": 0.1 * self.network(inputs).square().mean(),
        }

    def total(self, batch):
        """The losses, differentiable in weights and parameters; no statistic matters in training mode."""
        self.choices.set_mixture([torch.softmax(a / self.parameters.temperature, 0) for a in self.alphas])
        with torch.random.fork_rng([]):
            return sum(self.losses(batch).values())

    def gradient(self, optimizer):
        """Of an architecture step that looks ahead, the cost's left out."""
        recorder = Recorder(self.alphas)
        self.search.architecture_step(self.batches[1], recorder, 0, NextStep(self.batches[0], optimizer))
        cost = torch.autograd.grad(
            0.3 * torch.softmax(self.alphas[0] / self.parameters.temperature, 0)[0], self.alphas[0]
        )[0]
        return [recorder.gradients[0] - cost, *recorder.gradients[1:]]


def of_network(toy, **settings):
    return torch.optim.SGD(toy.network.parameters(), **{"lr": 0.3, **settings})


def of_groups(toy):
    """Two rates, only one of which decays, and a frozen weight."""
    first, *others = toy.network.layers.parameters()
    first.requires_grad_(False)
    head = list(toy.network.layers[-1].parameters())
    rest = [first, *(p for p in others if all(p is not own for own in head))]
    groups = [{"params": rest}, {"params": head, "lr": 0.5, "momentum": 0.0, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.1)


OPTIMIZERS = {
    "plain": of_network,
    "decay": lambda toy: of_network(toy, weight_decay=0.1),
    "momentum": lambda toy: of_network(toy, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda toy: of_network(toy, momentum=0.9, weight_decay=0.1, nesterov=True),
    "dampening": lambda toy: of_network(toy, momentum=0.9, dampening=0.4),
    "groups": of_groups,
}
# With and without a momentum of steps before.
cases = pytest.mark.parametrize(
    ("optimizer", "steps"), [(name, steps) for name in OPTIMIZERS for steps in (0, 2)], ids=str
)


def prepared(optimizer, steps, **settings):
    toy = Toy(**settings)
    made = OPTIMIZERS[optimizer](toy)
    for iteration in range(steps):
        toy.search.weight_step(toy.batches[0], made, iteration)
    return toy, made


def step_of_optimizer(toy, optimizer):
    """A real step of the weights on the first batch, by the gradient of the mixture."""
    weights = [weight for weight in toy.network.parameters() if weight.requires_grad]
    gradients = torch.autograd.grad(toy.total(toy.batches[0]), weights, allow_unused=True)
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    optimizer.step()


@cases
def test_the_next_step_is_the_optimizers(optimizer, steps):
    """To the last bit, although it is taken and taken back."""
    toy, made = prepared(optimizer, steps)
    toy.seen.clear()
    toy.gradient(made)
    seen = toy.seen[1]  # on the architecture's batch
    step_of_optimizer(toy, made)
    for found, wanted in zip(seen, toy.network.parameters(), strict=True):
        assert torch.equal(found, wanted)


def change_for_gradient(toy, optimizer):
    """By what each weight moves for a change of its gradient, seen in two real steps."""
    moves = []
    for value in (0.0, 1.0):
        network, other = copy.deepcopy((toy.network, optimizer))
        for weight in (w for group in other.param_groups for w in group["params"] if w.requires_grad):
            weight.grad = torch.full_like(weight, value)
        other.step()
        moves.append([weight.detach().flatten()[0] for weight in network.parameters()])
    return [float(zero - one) for zero, one in zip(*moves, strict=True)]


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@cases
def test_the_gradient_is_that_of_an_exact_product(optimizer, steps, dropout):
    toy, made = prepared(optimizer, steps, dropout=dropout)
    factors = change_for_gradient(toy, made)
    found = toy.gradient(made)
    weights = list(toy.network.layers.parameters())
    before = [weight.detach().clone() for weight in weights]
    factors = dict(zip(map(id, toy.network.parameters()), factors, strict=True))
    step_of_optimizer(toy, made)
    moving = [weight for weight in weights if weight.requires_grad]
    every = torch.autograd.grad(toy.total(toy.batches[1]), [*toy.alphas, *moving])
    direct, onward = every[:2], every[2:]
    for weight, old in zip(weights, before, strict=True):
        weight.data.copy_(old)
    gradients = torch.autograd.grad(toy.total(toy.batches[0]), moving, create_graph=True)
    product = sum(
        (factors[id(weight)] * gradient * v).sum()
        for weight, gradient, v in zip(moving, gradients, onward, strict=True)
    )
    through = torch.autograd.grad(product, toy.alphas)
    for own, first, second in zip(found, direct, through, strict=True):
        assert second.norm() > 0.01 * first.norm()  # else it would not be seen
        torch.testing.assert_close(own, first - second, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@cases
def test_the_gradient_is_that_of_the_loss_after_a_real_step(optimizer, steps, temperature):
    """Finite differences in the parameters, each with a step of a copied optimiser."""
    toy, made = prepared(optimizer, steps, temperature=temperature)
    found = toy.gradient(made)

    def objective():
        other, network = toy.network.state_dict(), copy.deepcopy(toy.network.state_dict())
        state = copy.deepcopy(made.state_dict())
        step_of_optimizer(toy, made)
        with torch.no_grad():
            loss = float(toy.total(toy.batches[1]))
        for name, value in other.items():
            value.copy_(network[name])
        made.load_state_dict(state)
        return loss

    width = 1e-4
    for alpha, gradient in zip(toy.alphas, found, strict=True):
        for k in range(len(alpha)):
            sides = []
            for sign in (1, -1):
                alpha.data[k] += sign * width
                sides.append(objective())
                alpha.data[k] -= sign * width
            assert float(gradient[k]) == pytest.approx((sides[0] - sides[1]) / (2 * width), rel=1e-3, abs=1e-5)


def test_no_rate_leaves_the_first_order():
    toy = Toy()
    found = toy.gradient(of_network(toy, lr=0.0))
    wanted = torch.autograd.grad(toy.total(toy.batches[1]), toy.alphas)
    for own, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(own, other)


def state_of(toy, optimizer):
    buffers = {name: value.clone() for name, value in toy.network.state_dict().items()}
    momenta = {
        f"momentum.{k}": state["momentum_buffer"].clone() for k, state in enumerate(optimizer.state.values())
    }
    return {**buffers, **momenta, "drawn": torch.get_rng_state()}


@pytest.mark.parametrize("broken_pass", [None, 0, 1, 2, 3])
def test_nothing_but_the_parameters_has_changed(broken_pass):
    """To the last bit, wherever a pass fails: weights, statistics, momentum, what is drawn next."""
    toy, optimizer = prepared("momentum", 2, dropout=0.5)
    before, alphas = state_of(toy, optimizer), [alpha.detach().clone() for alpha in toy.alphas]
    assert len(before) > 12
    plain, passes = toy.losses, []

    def breaking(batch):
        passes.append(batch)
        if len(passes) - 1 == broken_pass:
            raise ValueError("broken")
        return plain(batch)

    toy.search._losses = breaking
    architecture, ahead = torch.optim.SGD(toy.alphas, 1.0), NextStep(toy.batches[0], optimizer)
    if broken_pass is None:
        toy.search.architecture_step(toy.batches[1], architecture, 0, ahead)
        assert len(passes) == 4
    else:
        with pytest.raises(ValueError, match="broken"):
            toy.search.architecture_step(toy.batches[1], architecture, 0, ahead)
    after = state_of(toy, optimizer)
    assert [name for name, value in before.items() if not torch.equal(value, after[name])] == []
    assert all(weight.grad is None and weight.requires_grad for weight in toy.network.parameters())
    moved = [not torch.equal(old, alpha) for old, alpha in zip(alphas, toy.alphas, strict=True)]
    assert moved == [broken_pass is None] * 2
    assert torch.backends.cudnn.allow_tf32


def test_a_broken_number_is_seen_in_loss_or_gradient():
    """So that the guard leaves the update out."""
    toy, optimizer = prepared("momentum", 1)
    toy.batches[0][0][0, 0] = float("nan")
    before = state_of(toy, optimizer)
    recorder = Recorder(toy.alphas)
    losses = toy.search.architecture_step(toy.batches[1], recorder, 0, NextStep(toy.batches[0], optimizer))
    assert not torch.cat([losses["loss"][None], *recorder.gradients]).isfinite().all()
    after = state_of(toy, optimizer)
    assert [name for name, value in before.items() if not torch.equal(value, after[name])] == []


def test_the_losses_are_those_after_the_step():
    toy, optimizer = prepared("momentum", 2)
    ahead = NextStep(toy.batches[0], optimizer)
    losses = toy.search.architecture_step(toy.batches[1], Recorder(toy.alphas), 0, ahead)
    assert losses.keys() == {"error", "size", "cost", "loss"}
    step_of_optimizer(toy, optimizer)
    wanted = float(toy.total(toy.batches[1]).detach())
    assert float(losses["error"] + losses["size"]) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.RMSprop])
def test_other_optimizers_are_refused(optimizer):
    toy = Toy()
    with pytest.raises(ConfigError, match=rf"search.weights is {optimizer.__name__}: give .*search.order=1"):
        NextStep(toy.batches[0], optimizer(toy.network.parameters()))
