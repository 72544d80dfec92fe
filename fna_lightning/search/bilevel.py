"""Bilevel architecture search: weights on sampled paths or the mixture, architecture parameters on the mixture.

FNA, section 3.3, and DARTS, section 2.3; spec FNA 2.4, 3.2 and 3.3, spec FAD 3. Free of Lightning.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from fna_lightning.blocks import untracked
from fna_lightning.choices import Choices
from fna_lightning.search.alphas import Alphas
from fna_lightning.search.second_order import LookAhead, NextStep
from fna_lightning.search.single_path import Losses, SinglePathTraining, Stepper, Update, total_of

CostTerm = Callable[[Sequence[Tensor]], Tensor]
"""The mixture's weights per choice -> scalar, differentiable."""

_OTHER_DRAWS = 1_000_003
"""Added to the random seed: architecture steps draw other paths than weight steps."""


class BilevelSearch(SinglePathTraining):
    """The two alternating steps of the search.

    Args:
        network: what is trained.
        choices: of `network`.
        losses: runs the network on a batch.
        alphas: the architecture parameters, one tensor a choice.
        cost_term: what architecture steps add to the losses.
        drawn: paths whose losses give the gradient of an architecture step, see `architecture_step`; 0 takes that
            of the mixture.
        mixed: whether weight steps train the mixture of all paths, as DARTS and FAD do, and not a drawn one.
        clip_architecture: largest L2 norm of their gradient; None leaves it as it is.
        settings: as for `SinglePathTraining`.
    """

    def __init__(
        self,
        network: nn.Module,
        choices: Choices,
        losses: Losses,
        alphas: Alphas,
        cost_term: CostTerm,
        *,
        drawn: int = 0,
        mixed: bool = False,
        clip_architecture: float | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(network, choices, losses, **settings)
        self.alphas = alphas
        self._cost_term = cost_term
        self._drawn = drawn
        self._mixed = mixed
        self._look_ahead = LookAhead(self._of_mixture, self.weights, list(alphas.values))
        self._clip_architecture = clip_architecture
        self._allowed = self._before_update
        self._before_update = self._observed
        self._of_cost: Sequence[Tensor] = ()

    def weight_step(
        self, batch: Any, optimizer: Stepper, iteration: int, probabilities: Sequence[Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Train the weights of a drawn path, see `SinglePathTraining.weight_step`, or those of the mixture.

        The mixture is that of the architecture parameters as they are, which get no gradient; nothing is drawn.
        """
        if not self._mixed:
            return super().weight_step(batch, optimizer, iteration, probabilities)
        self._set_detached_mixture()
        return self._step(self._losses(batch), optimizer, self.weights, self._clip_weights, batch)

    def architecture_step(
        self, batch: Any, optimizer: Stepper, iteration: int = 0, ahead: NextStep | None = None
    ) -> dict[str, Tensor]:
        """Train the architecture parameters; no weight and no statistic moves.

        The gradient of the losses is that of the mixture of all paths, as published, or is estimated from the
        losses of some paths that are drawn by the parameters: the score function's gradient (Williams, 1992), the
        mean of the other paths as each one's baseline (Kool et al., 2019). All paths see the same images, of which
        a difference between two therefore holds no noise, and each runs as in a weight step, unlike a mixture.
        The mixture's gradient may also go through the weights' next step, see `LookAhead`: that is one of the
        mixture as well, whatever weight steps train.

        Args:
            batch: what the losses take.
            optimizer: of the architecture parameters.
            iteration: counts the steps; with the random seed it fixes the paths that are drawn.
            ahead: the weights' next step, for the second-order gradient; None takes that of the weights as they
                are. Paths that are drawn have no such gradient.

        Returns:
            The loss terms, with `ahead` those after that step, the cost term and their sum, detached.
        """
        frozen = _frozen(self.weights) if ahead is None else contextlib.nullcontext()
        with frozen, untracked(self.network):
            if ahead is not None:
                losses = self._look_ahead(batch, ahead)
            else:
                losses = self._of_paths(batch, iteration) if self._drawn else self._of_mixture(batch)
            losses["cost"] = self._cost_term(self.alphas.weights())
            self._of_cost = torch.autograd.grad(
                losses["cost"], list(self.alphas.values), retain_graph=True, materialize_grads=True
            )
            found = self._step(
                losses, optimizer, list(self.alphas.values), self._clip_architecture, batch, of="architecture"
            )
        self._set_detached_mixture()  # lets go of the graph
        return found

    def _set_detached_mixture(self) -> None:
        self.choices.set_mixture([row.detach() for row in self.alphas.weights()])

    def _of_mixture(self, batch: Any) -> dict[str, Tensor]:
        self.choices.set_mixture(self.alphas.weights())
        return self._losses(batch)

    def _of_paths(self, batch: Any, iteration: int) -> dict[str, Tensor]:
        """The mean loss of the drawn paths, with the gradient of its expectation."""
        weights = self.alphas.weights()
        probabilities = self.alphas.probabilities()
        found = []
        for number in range(self._drawn):
            draw = iteration * self._drawn + number
            path = self.choices.draw(self._random_seed + _OTHER_DRAWS, draw, probabilities)
            self.choices.set_path(path)
            with torch.no_grad():
                loss = total_of(self._losses(batch))
            found.append((loss, self.choices.decisions.log_probability(weights, path)))
        losses, logs = (torch.stack(values) for values in zip(*found, strict=True))
        advantages = (losses - losses.mean()) / (self._drawn - 1)
        score = (advantages * logs).sum()
        return {"paths": losses.mean() + score - score.detach()}

    def _observed(self, update: Update) -> bool:
        """Ask whether an update may happen; of one of the architecture parameters note what the losses say."""
        allowed = self._allowed(update)
        if allowed and update.of == "architecture":
            gradients = [cast("Tensor", value.grad) for value in self.alphas.values]
            self.alphas.signal.take_in([own - cost for own, cost in zip(gradients, self._of_cost, strict=True)])
        return allowed


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
