"""The words in which settings are described: what a value may be besides its type, and what a group is.

A dataclass derived from `Group` lists the keys of a group, their types and what they mean. It is read by
`fna_lightning.runs.validation` and never instantiated; the values themselves are in `conf/`. A class that is named
by a `_target_` may own such a class as its attribute `Settings`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple


class Limit(NamedTuple):
    """What a value of the right type must satisfy besides."""

    holds: Callable[[Any], bool]
    words: str


Count = Annotated[int, Limit(lambda number: number >= 0, "0 or more")]
Positive = Annotated[int, Limit(lambda number: number >= 1, "1 or more")]
Amount = Annotated[float, Limit(lambda number: number >= 0, "0 or more")]
PositiveAmount = Annotated[float, Limit(lambda number: number > 0, "above 0")]
Share = Annotated[float, Limit(lambda number: 0 < number < 1, "between 0 and 1")]


@dataclass
class Group:
    """Settings that belong together."""


@dataclass
class Built(Group):
    """A group whose `_target_` is called with it."""

    given: ClassVar[tuple[str, ...]] = ()
    """Arguments that the run gives, and no setting."""


@dataclass
class Optimizer(Built):
    """`optimizer`, and the two of a search."""

    given: ClassVar[tuple[str, ...]] = ("params",)

    lr: Amount
    """Learning rate at the start, after the warm-up."""
    weight_decay: Amount
    """Factor of the L2 term, for AdamW of the decay."""


@dataclass
class Schedule(Built):
    """`schedule` of the learning rate."""

    given: ClassVar[tuple[str, ...]] = ("optimizer", "steps_per_epoch", "epochs")

    warmup_steps: Count
    """Iterations at the start with a lower rate."""
    warmup_factor: Annotated[float, Limit(lambda factor: 0 < factor <= 1, "above 0, at most 1")]
    """Share of the learning rate with which it starts."""
