"""Batch-norm statistics of a whole network, estimated anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm


class _Kept(NamedTuple):
    """What a norm was before."""

    momentum: float | None
    training: bool
    statistics: dict[str, Tensor]


@torch.no_grad()
def reestimate_statistics(
    network: nn.Module, inputs: Iterable[Any], run: Callable[[Any], Any] | None = None
) -> None:
    """Replace running statistics by the plain mean over what the norms meet when `network` runs on `inputs`.

    Wanted where parameters and statistics do not come from the same network: after remapping (spec FNA 5.4, 6.3),
    and for every path of a supernet that is scored (spec DetNAS 4.3). The mean does not depend on the order of
    inputs; a norm that one input passes several times counts each of them. Norms that no input reaches, such as
    those beside the active path, keep their statistics, and all of them do where a pass fails.

    A network in training mode runs as it is, and norms in it that are set to evaluation are left alone. Of a
    network in evaluation mode only the norms are put into training mode for the time, so that they see what they
    will see when it is scored. In a distributed run synchronised norms estimate together, which asks for as many
    inputs on every rank; others estimate from their rank's inputs.

    Args:
        network: the network that runs, its head included.
        inputs: what it runs on, one after the other, on its device.
        run: runs it on an input; by default its forward. One that has norms elsewhere, such as in a box head, is
            run as in training, by its losses.
    """
    norms = [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm)
        and module.track_running_stats
        and (module.training or not network.training)
    ]
    if not norms:
        return
    run = run or network
    kept = [_Kept(norm.momentum, norm.training, _copies(norm)) for norm in norms]
    finished = False
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the cumulative mean
            norm.train()
        for value in inputs:
            run(value)
        finished = True
    finally:
        for norm, old in zip(norms, kept, strict=True):
            norm.momentum, norm.training = old.momentum, old.training
            if not finished or not norm.num_batches_tracked:
                for name, statistic in norm.named_buffers(recurse=False):
                    statistic.copy_(old.statistics[name])


@contextmanager
def without_synchronisation(network: nn.Module) -> Iterator[None]:
    """Let synchronised norms of `network` see their own rank's inputs alone, where ranks run different paths."""
    norms = [module for module in network.modules() if isinstance(module, SyncBatchNorm)]
    try:
        for norm in norms:
            norm.forward = MethodType(_BatchNorm.forward, norm)
        yield
    finally:
        for norm in norms:
            vars(norm).pop("forward", None)


@contextmanager
def untracked(network: nn.Module) -> Iterator[None]:
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


def _copies(norm: _BatchNorm) -> dict[str, Tensor]:
    return {name: statistic.clone() for name, statistic in norm.named_buffers(recurse=False)}
