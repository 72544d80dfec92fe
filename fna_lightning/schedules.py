"""Learning-rate schedules, stepped once an iteration, from torch's own parts."""

from __future__ import annotations

from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ChainedScheduler, CosineAnnealingLR, LinearLR, LRScheduler, MultiStepLR


def multistep(
    optimizer: Optimizer,
    *,
    steps_per_epoch: int,
    epochs: int,  # noqa: ARG001 - every schedule is told the same
    milestones: Sequence[float],
    gamma: float = 0.1,
    warmup_steps: int = 0,
    warmup_factor: float = 1 / 3,
) -> LRScheduler:
    """Multiply by `gamma` at each of `milestones` (epochs), after a linear warm-up from `warmup_factor`."""
    steps = [round(epoch * steps_per_epoch) for epoch in milestones]
    return _warmed_up(optimizer, MultiStepLR(optimizer, steps, gamma), warmup_steps, warmup_factor)


def cosine(
    optimizer: Optimizer,
    *,
    steps_per_epoch: int,
    epochs: int,
    final_lr: float = 0.0,
    warmup_steps: int = 0,
    warmup_factor: float = 1 / 3,
) -> LRScheduler:
    """Half a cosine down to `final_lr` over the whole run, after a linear warm-up from `warmup_factor`."""
    scheduler = CosineAnnealingLR(optimizer, max(1, steps_per_epoch * epochs), final_lr)
    return _warmed_up(optimizer, scheduler, warmup_steps, warmup_factor)


def _warmed_up(optimizer: Optimizer, scheduler: LRScheduler, steps: int, factor: float) -> LRScheduler:
    if steps == 0:
        return scheduler
    # Both multiply the current rate, so that chaining gives their product.
    return ChainedScheduler([scheduler, LinearLR(optimizer, factor, total_iters=steps)], optimizer)
