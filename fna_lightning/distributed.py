"""What the ranks of one run do together; in a single process every function leaves its arguments as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

_alone = False


def num_ranks() -> int:
    """Processes that work together: those of this run, 1 without a process group and inside `alone`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() and not _alone else 1


def works_together() -> bool:
    """Whether there is another rank to talk to."""
    return num_ranks() > 1


@contextmanager
def alone() -> Iterator[None]:
    """For work that each rank does by itself: what asks `num_ranks`, metrics among it, talks to no other rank."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of `value` over all ranks, without gradient; it stays on its device, and nobody waits for it."""
    value = value.detach().float()
    if num_ranks() > 1:
        dist.all_reduce(value)
        value = value / num_ranks()
    return value


def maximum_over_ranks(value: Tensor) -> Tensor:
    """The element-wise maximum of `value` over all ranks, in place."""
    if num_ranks() > 1:
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return value


def gather_objects(value: Any) -> list[Any]:
    """What every rank gives, by rank; for rare messages, not for tensors of a training step."""
    if num_ranks() == 1:
        return [value]
    values: list[Any] = [None] * num_ranks()
    dist.all_gather_object(values, value)
    return values


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace the gradients of `parameters` by their mean over all ranks, in one message per data type.

    Every rank must give the same parameters in the same order; those without gradient take no part.
    """
    average([parameter.grad for parameter in parameters if parameter.grad is not None])


@torch.no_grad()
def average(tensors: Sequence[Tensor]) -> None:
    """Replace `tensors` by their mean over all ranks, in one message per data type.

    Every rank must give tensors of the same shapes and types in the same order.
    """
    if num_ranks() == 1:
        return
    ordered = sorted(tensors, key=lambda tensor: str(tensor.dtype))  # stable: the order within a type stays
    for _, group in groupby(ordered, key=lambda tensor: tensor.dtype):
        members = list(group)
        bucket = torch.cat([tensor.reshape(-1) for tensor in members])
        dist.all_reduce(bucket)
        bucket /= num_ranks()
        parts = bucket.split([tensor.numel() for tensor in members])
        means = [part.view(tensor.shape) for part, tensor in zip(parts, members, strict=True)]
        torch._foreach_copy_(members, means)  # pyright: ignore[reportPrivateImportUsage]


@torch.no_grad()
def broadcast_state(module: nn.Module) -> None:
    """Give every rank the first rank's parameters and buffers."""
    if num_ranks() > 1:
        for tensor in [*module.parameters(), *module.buffers()]:
            dist.broadcast(tensor.data, src=0)
