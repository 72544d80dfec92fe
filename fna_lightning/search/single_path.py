"""Training the weights of a supernet one path at a time, with and without architecture parameters.

Spec FNA 2.4 and 3.2, DetNAS 3.1. Free of Lightning; optimisers and the backward function are given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from fna_lightning.choices import Choices, Path

Losses = Callable[[Any], dict[str, Tensor]]
"""Batch -> scalar loss terms whose sum is minimised."""


Draw = Callable[[int, int], Path]
"""(random seed, iteration) -> the path of a weight step, the same on every rank."""


@dataclass(frozen=True)
class Update:
    """A change of parameters that is about to happen, its gradients computed."""

    loss: Tensor
    """Scalar: the sum of all terms, detached."""
    parameters: list[nn.Parameter]
    """What has a gradient."""
    batch: Any
    """Where it comes from."""
    path: Path
    """The path of a weight step; empty for the mixture."""
    of: Literal["weights", "architecture"] = "weights"
    """What is trained."""


class Stepper(Protocol):
    """What is asked of an optimiser: torch's, or Lightning's wrapper of it."""

    def step(self) -> Any:
        """Update the parameters."""

    def zero_grad(self) -> None:
        """Forget the gradients, by setting them to None."""


def total_of(losses: dict[str, Tensor]) -> Tensor:
    """Scalar: the sum of all terms."""
    return torch.stack([loss.float() for loss in losses.values()]).sum()


class SinglePathTraining:
    """Weight steps on drawn paths.

    Args:
        network: what is trained.
        choices: of `network`.
        losses: runs the network on a batch.
        random_seed: with the iteration it fixes every drawn path.
        clip_weights: largest L2 norm of the weights' gradient; None leaves it as it is.
        backward: called on a loss; Lightning's `manual_backward`, or `Tensor.backward`.
        before_update: sees every update before gradients are clipped, may change them (as by averaging them
            over ranks), and leaves the update out by returning False.
        draw: gives the paths of steps without probabilities; uniform ones by default.
    """

    def __init__(
        self,
        network: nn.Module,
        choices: Choices,
        losses: Losses,
        *,
        random_seed: int = 0,
        clip_weights: float | None = None,
        backward: Callable[[Tensor], Any] = Tensor.backward,
        before_update: Callable[[Update], bool] = lambda _: True,
        draw: Draw | None = None,
    ) -> None:
        self.network = network
        self.choices = choices
        self.weights = list(network.parameters())
        self._losses = losses
        self._random_seed = random_seed
        self._clip_weights = clip_weights
        self._backward = backward
        self._before_update = before_update
        self._draw = draw

    def weight_step(
        self, batch: Any, optimizer: Stepper, iteration: int, probabilities: Sequence[Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Train the weights of one drawn path; no other parameter moves, momentum and decay included.

        Parameters off the path get no gradient, and optimisers pass those over. A parameter of which the path
        takes a slice is a parameter of the path: the rest of it decays and goes on by its momentum.

        Args:
            batch: what `losses` takes.
            optimizer: of `weights`.
            iteration: counts weight steps.
            probabilities: by which the path is drawn, see `Choices.draw`; by `draw` without.

        Returns:
            The loss terms and their sum, detached.
        """
        if probabilities is None and self._draw is not None:
            path = self._draw(self._random_seed, iteration)
        else:
            path = self.choices.draw(self._random_seed, iteration, probabilities)
        self.choices.set_path(path)
        return self._step(self._losses(batch), optimizer, self.weights, self._clip_weights, batch, path)

    def _step(
        self,
        losses: dict[str, Tensor],
        optimizer: Stepper,
        parameters: Sequence[nn.Parameter],
        clip: float | None,
        batch: Any,
        path: Path = (),
        of: Literal["weights", "architecture"] = "weights",
    ) -> dict[str, Tensor]:
        total = total_of(losses)
        optimizer.zero_grad()
        self._backward(total)
        moving = [parameter for parameter in parameters if parameter.grad is not None]
        if self._before_update(Update(total.detach(), moving, batch, path, of)):
            if clip is not None:
                clip_grad_norm_(moving, clip)
            optimizer.step()
        # Freed at once: the other step would carry these gradients in its peak memory.
        optimizer.zero_grad()
        return {name: loss.detach() for name, loss in {**losses, "loss": total}.items()}
