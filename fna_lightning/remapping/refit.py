"""Fewer channels of a stream, and its reader refitted to those that stay."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fna_lightning.checkpoints import Moments

_RIDGE = 1e-6
"""Of the mean variance; keeps channels that are constant, or repeat another, from being divided by zero."""


@dataclass(frozen=True)
class Refit:
    """A pointwise convolution over some of its channels, nearest to the whole one in the mean square.

    Attributes:
        kept: (k,) int64, ascending: the channels that stay.
        weight: (C, k) over them.
        mean: (C,) of what it writes, its bias left out.
        variance: (C,) likewise.
        ratio: (C,) its deviation over that of the whole one, on [0, 1]: by which a norm behind it has to scale
            less, so that what followed the mean square stays of the same size.
    """

    kept: Tensor
    weight: Tensor
    mean: Tensor
    variance: Tensor
    ratio: Tensor

    def ranked(self, importance: Tensor) -> Refit:
        """The same with the channels that stay in the order of their (h,) importance, the largest first."""
        order = importance[self.kept].argsort(descending=True)
        return replace(self, kept=self.kept[order], weight=self.weight[:, order])


def refit(weight: Tensor, scale: Tensor, moments: Moments, wanted: int) -> Refit:
    """Drop channels one by one, always the one whose loss the others make up for best.

    Least squares throughout: with the inverse C of the covariance of what is left, dropping channel j costs
    |w_j|^2 / C_jj, and the others take over -w_j C_j / C_jj (the optimal brain surgeon, Hassibi and Stork, NeurIPS
    1992, of a linear layer).

    Args:
        weight: (C, h) of a pointwise convolution with a batch norm behind it.
        scale: (C,) that norm's weight: what it writes counts in units of its deviation, times this.
        moments: of the h channels that it reads.
        wanted: channels that stay, at most h.
    """
    whole = weight.double()
    covariance = moments.covariance.to(whole.device)
    deviation = _deviation(whole, covariance)
    counted = (scale.double().abs() / deviation.clamp_min(1e-12))[:, None]
    left = torch.arange(whole.shape[1])
    ridge = _RIDGE * covariance.diagonal().mean().clamp_min(1e-12)
    inverse = torch.linalg.inv(covariance + ridge * torch.eye(len(covariance), dtype=torch.float64))
    fitted = whole * counted
    while len(left) > wanted:
        worth = fitted.square().sum(dim=0) / inverse.diagonal()
        worst = int(worth.argmin())
        column = inverse[:, worst] / inverse[worst, worst]
        fitted = fitted - fitted[:, worst, None] * column
        inverse = inverse - column[:, None] * inverse[worst]
        stays = torch.arange(len(left)) != worst
        left, fitted, inverse = left[stays], fitted[:, stays], inverse[stays][:, stays]
    fitted = fitted / counted
    own = covariance[left][:, left]
    reached = _deviation(fitted, own)
    ratio = (reached / deviation.clamp_min(1e-12)).clamp(max=1.0)
    return Refit(left, fitted, fitted @ moments.mean[left], reached.square(), ratio)


def _deviation(weight: Tensor, covariance: Tensor) -> Tensor:
    return ((weight @ covariance) * weight).sum(dim=1).clamp_min(0).sqrt()
