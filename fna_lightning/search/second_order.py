"""The second-order gradient of the architecture parameters (DARTS, equations 6 to 8; spec FAD 3.3)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import SGD, Optimizer

from fna_lightning.distributed import average
from fna_lightning.errors import ConfigError
from fna_lightning.search.single_path import Losses, total_of

_CHANGE = 0.01
"""L2 norm of the change of all weights over which the difference is taken (DARTS, section 2.3)."""


@dataclass(frozen=True)
class NextStep:
    """The step of the weights that an architecture step looks ahead to.

    Attributes:
        batch: what the weights would be trained on.
        optimizer: of the weights, with its momentum and its rates as they are now.

    Raises:
        ConfigError: where it is another than SGD: through what others do, the gradient is not that of DARTS.
    """

    batch: Any
    optimizer: Optimizer

    def __post_init__(self) -> None:
        check_unrollable(self.optimizer)


def check_unrollable(optimizer: Optimizer) -> None:
    """Complain of an optimiser through whose steps no second-order gradient is known.

    Raises:
        ConfigError: naming what would do.
    """
    if not isinstance(optimizer, SGD):
        name = type(optimizer).__name__
        raise ConfigError(
            f"search.order=2 looks ahead to a step of SGD, and search.weights is {name}: give "
            "optimizer@search.weights=sgd, or search.order=1"
        )


class LookAhead:
    """Losses whose gradient goes through the weights' next step, w' = w - xi (m b + dL(w, a; x)/dw + d w).

    It is dL(w', a; x')/da - xi d2L(w, a; x)/da dw * v with v = dL(w', a; x')/dw', and the product a central
    difference of dL/da between the weights w + e v and w - e v, with e = 0.01 / |v|. The momentum b, the decay d
    and the rate xi are the optimiser's, by its parameter groups; no gradient is clipped. Weights are changed in
    place, and are the old ones afterwards to the last bit, whatever happens; the optimiser's state is only read.
    Two copies of the weights are held at most, and none of the network.

    All passes draw the same random numbers, since the difference would blow up that of two dropouts; so will a
    weight step behind them. Several ranks take the step, and the v, that one process with all the images would.

    Args:
        losses: of the mixture by the architecture parameters as they are, differentiable in these and the weights.
        weights: those of the network; others than the next step trains stay as they are.
        alphas: the architecture parameters.
    """

    def __init__(self, losses: Losses, weights: Sequence[nn.Parameter], alphas: Sequence[nn.Parameter]) -> None:
        self._losses = losses
        self._weights = weights
        self._alphas = list(alphas)

    def __call__(self, batch: Any, ahead: NextStep) -> dict[str, Tensor]:
        """The loss terms on `batch` after the next step; only their sum's gradient means anything.

        Args:
            batch: x', on which the architecture parameters are trained.
            ahead: the weights' next step.
        """
        moved, gradients = self._gradients(ahead)
        average(gradients)
        with _restored(moved):
            steps = _steps(ahead.optimizer, moved, gradients)
            del gradients
            found = self._run(batch)
            inputs = [*self._alphas, *moved]
            every = torch.autograd.grad(total_of(found), inputs, materialize_grads=True)
        direct, onward = every[: len(self._alphas)], list(every[len(self._alphas) :])
        average(onward)
        through = self._product(ahead.batch, moved, _weighted(onward, steps), max(steps, default=0.0))
        # Carries the gradient to the backward pass and adds nothing to the sum.
        terms = zip(self._alphas, direct, through, strict=True)
        carrier = torch.stack([(alpha * (own - other)).sum() for alpha, own, other in terms]).sum()
        losses = {name: loss.detach() for name, loss in found.items()}
        first = next(iter(losses))
        return {**losses, first: losses[first] + carrier - carrier.detach()}

    def _gradients(self, ahead: NextStep) -> tuple[list[nn.Parameter], list[Tensor]]:
        """The weights that the next step moves, and their gradients on its batch."""
        owned = [weight for group in ahead.optimizer.param_groups for weight in group["params"]]
        known = {id(weight) for weight in self._weights if weight.requires_grad}
        wanted = [weight for weight in owned if id(weight) in known]
        found = torch.autograd.grad(total_of(self._run(ahead.batch)), wanted, allow_unused=True)
        pairs = [(weight, own) for weight, own in zip(wanted, found, strict=True) if own is not None]
        return [weight for weight, _ in pairs], [gradient for _, gradient in pairs]

    def _product(
        self, batch: Any, moved: Sequence[nn.Parameter], direction: Sequence[Tensor], rate: float
    ) -> Sequence[Tensor]:
        """`rate` times d2L/da dw times `direction`, by a central difference."""
        length = float(get_total_norm(direction)) if moved else 0.0
        if rate == 0 or length == 0:
            return [torch.zeros_like(alpha) for alpha in self._alphas]
        change = _CHANGE / length
        sides = []
        for signed in (change, -change):
            with _restored(moved), _exact():
                _add(moved, direction, signed)
                total = total_of(self._run(batch))
                sides.append(torch.autograd.grad(total, self._alphas, materialize_grads=True))
        return [(plus - minus) * (rate / (2 * change)) for plus, minus in zip(*sides, strict=True)]

    def _run(self, batch: Any) -> dict[str, Tensor]:
        """The losses by random numbers that are drawn again by what comes next."""
        device = self._alphas[0].device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            return self._losses(batch)


@torch.no_grad()
def _steps(optimizer: Optimizer, moved: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> list[float]:
    """Take SGD's next step, its state left alone.

    Returns:
        By what each weight moves for a change of its gradient.
    """
    groups = {id(weight): group for group in optimizer.param_groups for weight in group["params"]}
    found = []
    for weight, gradient in zip(moved, gradients, strict=True):
        group = groups[id(weight)]
        momentum, rate, kept = group["momentum"], float(group["lr"]), 1.0
        step = gradient.add(weight, alpha=group["weight_decay"])
        buffer = optimizer.state[weight].get("momentum_buffer") if weight in optimizer.state else None
        if momentum:
            velocity = step
            if buffer is not None:
                kept = 1 - group["dampening"]
                velocity = buffer.mul(momentum).add_(step, alpha=kept)
            step = step.add(velocity, alpha=momentum) if group["nesterov"] else velocity
            kept = kept * momentum + 1 if group["nesterov"] else kept
        weight.add_(step, alpha=-rate)
        found.append(rate * kept)
    return found


def _weighted(onward: list[Tensor], steps: Sequence[float]) -> list[Tensor]:
    """v, in place, by each weight's step as a part of the largest: v itself where all have the same rate."""
    largest = max(steps, default=0.0) or 1.0
    for gradient, step in zip(onward, steps, strict=True):
        if step != largest:
            gradient.mul_(step / largest)
    return onward


@torch.no_grad()
def _add(weights: Sequence[Tensor], direction: Sequence[Tensor], factor: float) -> None:
    for weight, change in zip(weights, direction, strict=True):
        weight.add_(change, alpha=factor)


@contextlib.contextmanager
def _restored(weights: Sequence[Tensor]) -> Iterator[None]:
    """Whatever is done to `weights` inside, afterwards they are what they were."""
    kept = [weight.detach().clone() for weight in weights]
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, old in zip(weights, kept, strict=True):
                weight.copy_(old)


@contextlib.contextmanager
def _exact() -> Iterator[None]:
    """Convolutions and products of matrices without TF32, which rounds away the change of a single weight."""
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products
