"""Whether a gradient says more than its noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class GradientSignal(nn.Module):
    """Signal over noise of the gradients of some steps: whether they agree on a direction.

    Its sums are part of a run's state, so that one that is resumed logs what it would have logged.

    Args:
        sizes: of the parameters.
    """

    steps: Tensor
    total: Tensor
    squares: Tensor

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("total", torch.zeros(sum(sizes)))
        self.register_buffer("squares", torch.zeros(sum(sizes)))

    @torch.no_grad()
    def take_in(self, gradients: Sequence[Tensor]) -> None:
        """Add the gradients of one step, one tensor a parameter."""
        flat = torch.cat([gradient.detach().flatten() for gradient in gradients])
        self.steps += 1
        self.total += flat
        self.squares += flat.square()

    def value(self) -> float:
        """|mean|^2 over what it would be if steps had nothing in common but their spread: 1 where all is noise.

        NaN for fewer than two steps. It grows with the number of steps: 2 says that as much of the mean is signal
        as is noise.
        """
        number = int(self.steps)
        if number < 2:
            return float("nan")
        mean = self.total.double() / number
        variance = (self.squares.double() / number - mean.square()).clamp_min(0) / (number - 1)
        return float(mean.square().sum() / variance.sum().clamp_min(1e-30))

    def forget(self) -> None:
        """Begin anew."""
        for buffer in (self.steps, self.total, self.squares):
            buffer.zero_()
