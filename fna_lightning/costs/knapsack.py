"""The best path under a hard limit of cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_STEPS = 20_000
_IMPROBABLE = -1e6
"""Stands for the logarithm of zero, so that a vanished probability stays above what the limit forbids."""


class Term(NamedTuple):
    """A part of the cost, and the choices that it depends on together."""

    choices: tuple[int, ...]
    """Their numbers, ascending."""
    costs: NDArray[np.float64]
    """One axis a choice, in that order."""


@dataclass(frozen=True)
class _Step:
    """One choice is taken up, and those that nothing later depends on are settled."""

    scope: tuple[int, ...]
    """The choices whose combinations are told apart here; the last is taken up."""
    kept: tuple[int, ...]
    """Those of them that a later term depends on."""
    costs: NDArray[np.float64]
    """Of every combination, one axis a choice of `scope`: the sum of the terms that end with the last."""

    @property
    def settled(self) -> tuple[int, ...]:
        return tuple(number for number in self.scope if number not in self.kept)


def cheapest_path(sizes: Sequence[int], terms: Sequence[Term]) -> list[int]:
    """The path of the smallest sum of `terms`, the first one where several are equal.

    Args:
        sizes: candidates of each choice.
        terms: what is added up; their costs are not negative.
    """
    steps = list(_steps(sizes, terms))
    needless = [np.zeros_like(step.costs, int) for step in steps]
    path = _best(sizes, steps, [-step.costs for step in steps], needless, 0)
    assert path is not None  # nothing is needed, so nothing is forbidden
    return path


def best_path_within(
    preferences: Sequence[NDArray[np.float64]], terms: Sequence[Term], budget: float, least: float | None = None
) -> list[int] | None:
    """Choose one candidate per choice: largest sum of `preferences` with a sum of `terms` of at most `budget`.

    A multiple-choice knapsack, solved by dynamic programming over the cost above the cheapest candidates, in
    `_STEPS` steps of equal size and rounded up: the budget always holds, and what is lost is at most one step a
    choice. Where a term depends on several choices, their combinations are told apart until the last term that
    depends on them; for products of neighbours that are few.

    Args:
        preferences: (n_i,) per choice, such as log-probabilities.
        terms: their costs are not negative.
        budget: in the unit of the costs.
        least: that the sum must reach besides. It always does; a path that reaches it by less than what rounding
            loses may be passed over.

    Returns:
        None where no path is found within the budget; with terms of one choice each only where there is none.
    """
    sizes = [len(row) for row in preferences]
    steps = list(_steps(sizes, terms))
    room = budget - sum(float(step.costs.min()) for step in steps)
    if room < 0:
        return None
    unit = max(room / _STEPS, 1e-9)
    gains, needs = [], []
    for step in steps:
        preference = np.maximum(preferences[step.scope[-1]], _IMPROBABLE)
        gains.append(np.broadcast_to(preference, step.costs.shape))
        excess = np.ceil((step.costs - step.costs.min()) / unit - 1e-9)
        needs.append(excess.clip(max=_STEPS + 1).astype(np.int64))
    if least is None:
        return _best(sizes, steps, gains, needs, _STEPS)
    floor = math.ceil((least - budget + room) / unit - 1e-9)
    # Every need is rounded up, by less than a step: what reaches the floor by as many steps reaches it in truth.
    for margin in (len(steps), 0):
        start = max(floor + margin, 0)
        path = _best(sizes, steps, gains, needs, _STEPS, start) if start <= _STEPS else None
        if path is not None and _sum(terms, path) >= least * (1 - 1e-12):
            return path
    return None


def _sum(terms: Sequence[Term], path: Sequence[int]) -> float:
    return sum(float(costs[tuple(path[number] for number in choices)]) for choices, costs in terms)


def _steps(sizes: Sequence[int], terms: Sequence[Term]) -> Iterator[_Step]:
    """The choices in the order in which terms name them, so that neighbours are settled soon."""
    order = list(dict.fromkeys([*(number for term in terms for number in term.choices), *range(len(sizes))]))
    last = [max(map(order.index, choices)) for choices, _ in terms]
    kept: tuple[int, ...] = ()
    for place, number in enumerate(order):
        scope = (*kept, number)
        costs = np.zeros([sizes[each] for each in scope])
        for (choices, own), end in zip(terms, last, strict=True):
            if end == place:
                axes = sorted(range(len(choices)), key=lambda axis: scope.index(choices[axis]))
                shape = [sizes[each] if each in choices else 1 for each in scope]
                costs = costs + own.transpose(axes).reshape(shape)
        later = {each for (choices, _), end in zip(terms, last, strict=True) if end > place for each in choices}
        kept = tuple(each for each in scope if each in later)
        yield _Step(scope, kept, costs)


def _best(
    sizes: Sequence[int],
    steps: Sequence[_Step],
    gains: Sequence[NDArray[np.float64]],
    needs: Sequence[NDArray[np.int64]],
    budget: int,
    least: int | None = None,
) -> list[int] | None:
    """The path of the largest sum of gains whose needs add up to `budget` steps at most, and `least` at least.

    None if there is none.
    """
    # One axis a kept choice, then by the steps that the choices so far may need; with a least sum, that they need.
    best = np.zeros(budget + 1)
    if least is not None:
        best[1:] = -np.inf
    taken: list[NDArray[np.int64]] = []
    for step, gain, need in zip(steps, gains, needs, strict=True):
        table = np.full((*gain.shape, budget + 1), -np.inf)
        for place in np.ndindex(*gain.shape):
            needed = need[place]
            table[place][needed:] = best[place[:-1]][: max(budget + 1 - needed, 0)] + gain[place]
        order = [step.scope.index(number) for number in (*step.kept, *step.settled)]
        table = table.transpose(*order, len(order)).reshape([*(sizes[k] for k in step.kept), -1, budget + 1])
        taken.append(table.argmax(axis=-2))
        best = table.max(axis=-2)
    left = budget if least is None else least + int(best[least:].argmax())
    if best[left] == -np.inf:
        return None
    path = [0] * len(steps)
    for step, need, choice in zip(reversed(steps), reversed(needs), reversed(taken), strict=True):
        index = choice[tuple(path[number] for number in step.kept)][left]
        found = np.unravel_index(index, [sizes[number] for number in step.settled])
        for number, candidate in zip(step.settled, found, strict=True):
            path[number] = int(candidate)
        left -= int(need[tuple(path[number] for number in step.scope)])
    return path
