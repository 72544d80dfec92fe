"""Bilevel architecture search: weights on sampled paths, architecture parameters on the mixture.

FNA, section 3.3; spec FNA 2.4, 3.2 and 3.3. Free of Lightning: optimisers and the backward function are given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grad_norm_

from fna_lightning.search.objective import CostObjective
from fna_lightning.supernets import Policy, Supernet

Losses = Callable[[Any], dict[str, Tensor]]
"""Batch -> scalar loss terms whose sum is minimised."""


@dataclass(frozen=True)
class Update:
    """A change of parameters that is about to happen, its gradients computed."""

    loss: Tensor
    """Scalar: the sum of all terms, detached."""
    parameters: list[nn.Parameter]
    """What has a gradient."""
    batch: Any
    """Where it comes from."""
    path: Sequence[int]
    """The path of a weight step; empty for the mixture."""


class Stepper(Protocol):
    """What is asked of an optimiser: torch's, or Lightning's wrapper of it."""

    def step(self) -> Any:
        """Update the parameters."""

    def zero_grad(self) -> None:
        """Forget the gradients, by setting them to None."""


def architecture_weights(network: nn.Module, supernet: Supernet) -> list[nn.Parameter]:
    """All parameters of `network` but the architecture parameters of `supernet`, which it contains."""
    alphas = {id(alpha) for alpha in supernet.alphas()}
    return [parameter for parameter in network.parameters() if id(parameter) not in alphas]


class BilevelSearch:
    """The two alternating steps of the search.

    Args:
        network: what is trained; contains `supernet`.
        supernet: what is searched.
        losses: runs the network on a batch.
        objective: the cost term of architecture steps.
        seed: with the iteration it fixes every sampled path.
        clip_weights: largest L2 norm of the weights' gradient; None leaves it as it is.
        clip_architecture: the same for the architecture parameters.
        backward: called on a loss; Lightning's `manual_backward`, or `Tensor.backward`.
        before_update: sees every update before gradients are clipped, may change them (as by averaging them
            over ranks), and leaves the update out by returning False.
    """

    def __init__(
        self,
        network: nn.Module,
        supernet: Supernet,
        losses: Losses,
        objective: CostObjective,
        *,
        seed: int = 0,
        clip_weights: float | None = None,
        clip_architecture: float | None = None,
        backward: Callable[[Tensor], Any] = Tensor.backward,
        before_update: Callable[[Update], bool] = lambda _: True,
    ) -> None:
        self.network = network
        self.supernet = supernet
        self.weights = architecture_weights(network, supernet)
        self._losses = losses
        self._objective = objective
        self._seed = seed
        self._clip_weights = clip_weights
        self._clip_architecture = clip_architecture
        self._backward = backward
        self._before_update = before_update

    def weight_step(self, batch: Any, optimizer: Stepper, iteration: int, policy: Policy) -> dict[str, Tensor]:
        """Train the weights of one sampled path; nothing else moves, momentum and decay included.

        The path's mixture weight is 1, so that alpha has no part in it. Parameters off the path get no
        gradient, and optimisers pass those over.

        Returns:
            The loss terms and their sum, detached.
        """
        path = self.supernet.sample_path(self._seed, iteration, policy)
        self.supernet.set_path(path)
        return self._step(self._losses(batch), optimizer, self.weights, self._clip_weights, batch, path)

    def architecture_step(self, batch: Any, optimizer: Stepper) -> dict[str, Tensor]:
        """Train the architecture parameters on the mixture of all paths; no weight and no statistic moves.

        Returns:
            The loss terms, the cost term and their sum, detached.
        """
        self.supernet.set_mixture()
        with _frozen(self.weights), _untracked(self.network):
            losses = self._losses(batch)
            losses["cost"] = self._objective(self.supernet)
            return self._step(losses, optimizer, self.supernet.alphas(), self._clip_architecture, batch)

    def _step(
        self,
        losses: dict[str, Tensor],
        optimizer: Stepper,
        parameters: Sequence[nn.Parameter],
        clip: float | None,
        batch: Any,
        path: Sequence[int] = (),
    ) -> dict[str, Tensor]:
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        optimizer.zero_grad()
        self._backward(total)
        moving = [parameter for parameter in parameters if parameter.grad is not None]
        if self._before_update(Update(total.detach(), moving, batch, path)):
            if clip is not None:
                clip_grad_norm_(moving, clip)
            optimizer.step()
        # Freed at once: the other step would carry these gradients in its peak memory.
        optimizer.zero_grad()
        return {name: loss.detach() for name, loss in {**losses, "loss": total}.items()}


@contextlib.contextmanager
def _frozen(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """No gradient for `parameters`: their part of the backward pass is not computed at all."""
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def _untracked(network: nn.Module) -> Iterator[None]:
    """Batch norms use the batch's statistics and leave their running ones alone."""
    # Looked for at every step: a strategy may have put synchronised norms in their places.
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
