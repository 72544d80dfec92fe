"""Bilevel architecture search: weights on sampled paths, architecture parameters on the mixture.

FNA, section 3.3; spec FNA 2.4, 3.2 and 3.3. Free of Lightning.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fna_lightning.choices import Choices
from fna_lightning.search.alphas import Alphas
from fna_lightning.search.single_path import Losses, SinglePathTraining, Stepper

CostTerm = Callable[[Sequence[Tensor]], Tensor]
"""The mixture's weights per choice -> scalar, differentiable."""


class BilevelSearch(SinglePathTraining):
    """The two alternating steps of the search.

    Args:
        network: what is trained.
        choices: of `network`.
        losses: runs the network on a batch.
        alphas: the architecture parameters, one tensor a choice.
        cost_term: what architecture steps add to the losses.
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
        clip_architecture: float | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(network, choices, losses, **settings)
        self.alphas = alphas
        self._cost_term = cost_term
        self._clip_architecture = clip_architecture

    def architecture_step(self, batch: Any, optimizer: Stepper) -> dict[str, Tensor]:
        """Train the architecture parameters on the mixture of all paths; no weight and no statistic moves.

        Returns:
            The loss terms, the cost term and their sum, detached.
        """
        weights = self.alphas.weights()
        self.choices.set_mixture(weights)
        with _frozen(self.weights), _untracked(self.network):
            losses = self._losses(batch)
            losses["cost"] = self._cost_term(self.alphas.weights())
            found = self._step(losses, optimizer, list(self.alphas.values), self._clip_architecture, batch)
        self.choices.set_mixture([row.detach() for row in weights])  # lets go of the graph
        return found


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
