"""The two steps of the search, against single networks and finite differences."""

from functools import reduce
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn


def sgd(parameters, lr=0.1, momentum=0.9, weight_decay=0.01):
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01, betas=(0.5, 0.999), weight_decay=1e-3)


def off_path(problem):
    """Names of the parameters of all candidates that are not active."""
    names = set()
    for place, module in problem.network.named_modules():
        for choice in [module] if module in list(problem.choices) else []:
            for index, (name, candidate) in enumerate(choice.candidates.items()):
                if index != choice.active:
                    names |= {f"{place}.candidates.{name}.{key}" for key, _ in candidate.named_parameters()}
    return names


class Recorder:
    """An optimiser that moves nothing and keeps the gradients it was asked to step by."""

    def __init__(self, parameters):
        self.parameters = list(parameters)

    def zero_grad(self):
        for parameter in self.parameters:
            parameter.grad = None

    def step(self):
        self.gradients = [None if p.grad is None else p.grad.clone() for p in self.parameters]


def norm(gradients):
    return torch.stack([g.norm() for g in gradients if g is not None]).norm().item()


def weight_step(p, optimizer, iteration, policy="uniform"):
    rows = p.probabilities() if policy == "probability" else None
    return p.search.weight_step(p.batch, optimizer, iteration, rows)


def test_parameters_are_split_in_two(problem):
    p = problem()
    assert {id(w) for w in p.search.weights} == {id(x) for x in p.network.parameters()}
    assert {id(w) for w in p.weights} & {id(a) for a in p.alphas} == set()
    assert [a.shape for a in p.alphas] == [(size,) for size in p.choices.sizes]


@pytest.mark.parametrize("policy", ["uniform", "probability"])
def test_weight_step_leaves_every_alpha(problem, state, changed, policy):
    p = problem()
    before, alphas = state(p.network), state(p.search.alphas)
    optimizer = sgd(p.weights)
    for iteration in range(3):
        weight_step(p, optimizer, iteration, policy)
        assert all(alpha.grad is None for alpha in p.alphas)
    assert changed(before, state(p.network))
    assert not changed(alphas, state(p.search.alphas))


def test_architecture_step_leaves_every_weight_and_buffer(problem, state, changed):
    p = problem()
    before, alphas = state(p.network), state(p.search.alphas)
    optimizer = adam(p.alphas)
    for _ in range(3):
        p.search.architecture_step(p.batch, optimizer)
        assert all(weight.grad is None for weight in p.weights)
    assert any("running_mean" in name for name in before)
    assert changed(before, state(p.network)) == set()
    assert changed(alphas, state(p.search.alphas)) == set(alphas)


def test_unsampled_candidates_do_not_move(problem, state, changed):
    """Not by their momentum either, which they have from having been sampled before, nor by decay."""
    p = problem()
    optimizer = sgd(p.weights)
    seen, rested_with_momentum = set(), set()
    names = {id(parameter): name for name, parameter in p.network.named_parameters()}
    for iteration in range(12):
        before = state(p.network)
        weight_step(p, optimizer, iteration)
        resting = off_path(p)
        assert not changed(before, state(p.network)) & resting
        rested_with_momentum |= resting & seen
        seen |= set(names.values()) - resting
        with_state = {names[id(parameter)] for parameter in optimizer.state}
        assert with_state == seen
        assert all(parameter.grad is None for parameter in p.network.parameters())
    assert rested_with_momentum


def test_adam_does_not_move_what_is_not_sampled(problem, state, changed):
    p = problem()
    optimizer = torch.optim.AdamW(p.weights, lr=0.1, weight_decay=0.1)
    for iteration in range(6):
        before = state(p.network)
        weight_step(p, optimizer, iteration)
        assert not changed(before, state(p.network)) & off_path(p)


def test_paths_are_those_of_seed_and_iteration(problem):
    p = problem()
    optimizer = sgd(p.weights)
    paths = []
    for iteration in (7, 2, 7, 100):
        for policy in ("uniform", "probability"):
            weight_step(p, optimizer, iteration, policy)
            path = [choice.active for choice in p.choices]
            assert path == p.draw(3, iteration, policy)
            paths.append(tuple(path))
    assert paths[:2] == paths[4:6]
    assert len(set(paths)) > 2


def test_architecture_step_runs_the_mixture(problem):
    p = problem()
    weight_step(p, sgd(p.weights), 0)
    p.search.architecture_step(p.batch, Recorder(p.alphas))
    assert all(choice.active is None for choice in p.choices)


class Single:
    """The network of one path as plain functions with parameters of its own: a second implementation."""

    def __init__(self, p, path):
        self.parameters = {}
        self.layers = [self.unit(p.supernet.stages[0], stride=2, padding=1)]
        self.layers.append(self.block(p.supernet.stages[1][0], 1))
        choices = zip(p.choices, path, strict=True)
        for number, (choice, active) in enumerate(choices):
            layer = list(choice.candidates.values())[active]
            if not isinstance(layer, nn.Identity):
                self.layers.append(self.block(layer, 2 if number in (0, 3) else 1))
        self.linear = self.copies(p.network.classifier)

    def copies(self, module):
        for name, value in module.named_parameters():
            self.parameters[module, name] = value.detach().clone().requires_grad_()
        return [value for (owner, _), value in self.parameters.items() if owner is module]

    def unit(self, module, activation=True, **options):
        (weight,), affine = self.copies(module.conv), self.copies(module.norm)

        def run(x):
            y = F.batch_norm(F.conv2d(x, weight, **options), None, None, *affine, training=True)
            return y.clamp(0, 6) if activation else y

        return run

    def block(self, module, stride):
        depthwise = module.depthwise.conv.weight
        options = {"stride": stride, "padding": depthwise.shape[-1] // 2, "groups": len(depthwise)}
        parts = [] if isinstance(module.expand, nn.Identity) else [self.unit(module.expand)]
        parts += [self.unit(module.depthwise, **options), self.unit(module.project, activation=False)]

        def run(x):
            y = reduce(lambda value, part: part(value), parts, x)
            return x + y if x.shape == y.shape else y

        return run

    def loss(self, images, labels):
        mean = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1).to(images)
        std = torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1).to(images)
        features = reduce(lambda value, layer: layer(value), self.layers, (images - mean) / std)
        logits = features.mean((2, 3)) @ self.linear[0].T + self.linear[1]
        return (logits.logsumexp(1) - logits[range(len(labels)), labels]).mean()


@pytest.mark.parametrize("iteration", [0, 5])
def test_weight_steps_are_plain_steps_of_the_single_network(problem, iteration):
    p = problem(torch.float64)
    path = p.draw(3, iteration, "probability")
    single = Single(p, path)
    optimizer, lr, momentum, decay = sgd(p.weights), 0.1, 0.9, 0.01
    velocity = dict.fromkeys(single.parameters, 0.0)
    for _ in range(2):
        weight_step(p, optimizer, iteration, "probability")
        gradients = torch.autograd.grad(single.loss(*p.batch), list(single.parameters.values()))
        for (key, value), gradient in zip(single.parameters.items(), gradients, strict=True):
            velocity[key] = momentum * velocity[key] + gradient + decay * value.detach()
            value.data -= lr * velocity[key]
    for (module, name), value in single.parameters.items():
        torch.testing.assert_close(getattr(module, name).detach(), value.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 0.9])
def test_architecture_gradient_equals_finite_differences(problem, temperature):
    p = problem(torch.float64, weight=2.0, temperature=temperature)
    recorder = Recorder(p.alphas)
    losses = p.search.architecture_step(p.batch, recorder)

    def objective():
        with torch.no_grad():
            rows = [torch.softmax(alpha / temperature, 0) for alpha in p.alphas]
            p.choices.set_mixture(rows)
            cost = sum((row * costs).sum() for row, costs in zip(rows, p.costs, strict=True))
            return F.cross_entropy(p.network(p.batch[0]), p.batch[1]) + 2.0 * torch.log10(cost / 1e9)

    assert float(losses["loss"]) == pytest.approx(float(objective()), rel=1e-5)
    assert set(losses) == {"classification", "cost", "loss"}
    step = 1e-6
    for alpha, gradient in zip(p.alphas, recorder.gradients, strict=True):
        wanted = torch.zeros_like(alpha)
        for k in range(len(alpha)):
            for sign in (1, -1):
                alpha.data[k] += sign * step
                wanted[k] += sign * objective() / (2 * step)
                alpha.data[k] -= sign * step
        torch.testing.assert_close(gradient, wanted.detach(), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("mixed", [False, True])
def test_architecture_steps_are_of_the_weights_as_they_are(problem, mixed):
    """FAD's release takes them on a copy from before training (spec FAD 7.1)."""
    p = problem(torch.float64, weight=0.0, mixed=mixed)
    recorder, optimizer, seen = Recorder(p.alphas), sgd(p.weights), []
    for iteration in range(3):
        p.search.architecture_step(p.batch, recorder)
        p.choices.set_mixture([torch.softmax(alpha, 0) for alpha in p.alphas])
        wanted = torch.autograd.grad(p.losses(p.batch)["classification"], p.alphas)
        for gradient, own in zip(recorder.gradients, wanted, strict=True):
            torch.testing.assert_close(gradient, own)
        seen.append(torch.cat(recorder.gradients))
        weight_step(p, optimizer, iteration)
    assert min(float((a - b).norm() / b.norm()) for a, b in pairwise(seen)) > 0.1


def test_clipping_bounds_the_right_set(problem):
    free = problem()
    recorders = Recorder(free.weights), Recorder(free.alphas)
    weight_step(free, recorders[0], 0)
    free.search.architecture_step(free.batch, recorders[1])
    norms = [norm(recorder.gradients) for recorder in recorders]

    def clipped(**limits):
        p = problem(**limits)
        weights, alphas = Recorder(p.weights), Recorder(p.alphas)
        weight_step(p, weights, 0)
        p.search.architecture_step(p.batch, alphas)
        return [norm(weights.gradients), norm(alphas.gradients)]

    assert clipped(clip_weights=norms[0] / 2) == pytest.approx([norms[0] / 2, norms[1]], rel=1e-4)
    assert clipped(clip_architecture=norms[1] / 2) == pytest.approx([norms[0], norms[1] / 2], rel=1e-4)
    assert clipped(clip_weights=norms[0] * 2, clip_architecture=norms[1] * 2) == pytest.approx(norms, rel=1e-4)


def test_adam_on_alphas_with_weight_decay(problem):
    """One step against the formula; the decay is part of the gradient, as in Adam with L2."""
    p = problem(torch.float64)
    recorder = Recorder(p.alphas)
    p.search.architecture_step(p.batch, recorder)
    before = [alpha.detach().clone() for alpha in p.alphas]
    p.search.architecture_step(p.batch, adam(p.alphas))
    for alpha, old, gradient in zip(p.alphas, before, recorder.gradients, strict=True):
        g = gradient + 1e-3 * old
        first, second = 0.5 * g / 0.5, 0.001 * g**2 / 0.001
        torch.testing.assert_close(
            alpha.detach(), old - 0.01 * first / (second.sqrt() + 1e-8), rtol=1e-9, atol=1e-9
        )


def test_an_exception_leaves_nothing_frozen(problem):
    p = problem()
    p.weights[0].requires_grad_(False)  # frozen by the user, and stays so
    wanted = [weight.requires_grad for weight in p.network.parameters()]
    tracked = [m.track_running_stats for m in p.network.modules() if isinstance(m, nn.BatchNorm2d)]
    with pytest.raises(ValueError, match="batch"):
        p.search.architecture_step((p.batch[0], p.batch[1][:2]), adam(p.alphas))
    assert [weight.requires_grad for weight in p.network.parameters()] == wanted
    assert [m.track_running_stats for m in p.network.modules() if isinstance(m, nn.BatchNorm2d)] == tracked
    p.search.architecture_step(p.batch, adam(p.alphas))
    assert [weight.requires_grad for weight in p.network.parameters()] == wanted


def test_statistics_move_in_weight_steps_alone(problem, state, changed):
    p = problem()
    before = state(p.network)
    p.search.architecture_step(p.batch, adam(p.alphas))
    statistics = {name for name in before if "running" in name or "tracked" in name}
    assert not changed(before, state(p.network)) & statistics
    weight_step(p, sgd(p.weights), 0)
    assert changed(before, state(p.network)) >= statistics


def test_losses_come_back_detached(problem):
    p = problem()
    losses = weight_step(p, sgd(p.weights), 0)
    assert set(losses) == {"classification", "loss"}
    assert not any(loss.requires_grad for loss in losses.values())
