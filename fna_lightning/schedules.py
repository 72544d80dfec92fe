"""Learning-rate schedules, stepped once an iteration, from torch's own parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    PolynomialLR,
    SequentialLR,
)


def multistep(
    optimizer: Optimizer,
    *,
    steps_per_epoch: int,
    epochs: int,  # noqa: ARG001 - every schedule is told the same
    milestones: Sequence[float],
    gamma: float = 0.1,
    warmup_steps: int = 0,
    warmup_factor: float = 1 / 3,
    warmup: Literal["linear", "constant"] = "linear",
) -> LRScheduler:
    """Multiply by `gamma` at each of `milestones` (epochs), after a warm-up.

    It is linear from `warmup_factor` to 1, or constant at that factor (FCOS, FAD) until it ends.
    """
    steps = [round(epoch * steps_per_epoch) for epoch in milestones]
    scheduler = MultiStepLR(optimizer, steps, gamma)
    if warmup_steps == 0:
        return scheduler
    # Both multiply the current rate, so that chaining gives their product; milestones count from the start.
    rise = LinearLR if warmup == "linear" else ConstantLR
    return ChainedScheduler([scheduler, rise(optimizer, warmup_factor, total_iters=warmup_steps)], optimizer)


def cosine(
    optimizer: Optimizer,
    *,
    steps_per_epoch: int,
    epochs: int,
    final_lr: float = 0.0,
    warmup_steps: int = 0,
    warmup_factor: float = 1 / 3,
) -> LRScheduler:
    """A linear warm-up from `warmup_factor`, then half a cosine down to `final_lr` over the rest of the run."""
    rest = max(1, steps_per_epoch * epochs - warmup_steps)
    return _after_warmup(optimizer, CosineAnnealingLR(optimizer, rest, final_lr), warmup_steps, warmup_factor)


def poly(
    optimizer: Optimizer,
    *,
    steps_per_epoch: int,
    epochs: int,
    power: float = 0.9,
    warmup_steps: int = 0,
    warmup_factor: float = 1 / 3,
) -> LRScheduler:
    """A linear warm-up from `warmup_factor`, then (1 - t / T)^`power` over the T iterations that are left.

    The schedule of DeepLab (Chen et al. 2017, 1606.00915, section 4.1.1).
    """
    rest = max(1, steps_per_epoch * epochs - warmup_steps)
    return _after_warmup(optimizer, PolynomialLR(optimizer, rest, power), warmup_steps, warmup_factor)


def _after_warmup(optimizer: Optimizer, scheduler: LRScheduler, steps: int, factor: float) -> LRScheduler:
    if steps == 0:
        return scheduler
    return SequentialLR(optimizer, [LinearLR(optimizer, factor, total_iters=steps), scheduler], [steps])
