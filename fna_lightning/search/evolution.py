"""Evolution over the paths of any space, under whatever limit (spec DetNAS 4; random search is its first part)."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fna_lightning.choices import Decisions
from fna_lightning.errors import ConfigError

Genes = tuple[int, ...]
"""An option of every decision, as a key."""

_TRIES = 200
"""To find one candidate by chance, before others ways are gone."""
_SMALL = 4096
"""Paths of a space up to which all that is left of it is listed instead."""


@dataclass(frozen=True)
class Breeding:
    """How a generation comes from those before; the published settings (spec DetNAS 4.1).

    Attributes:
        population: candidates of a generation.
        parents: the best of all before, from which it comes.
        mutations: candidates that are a parent, each gene drawn anew with probability `mutation_rate`.
        crossovers: candidates that take each gene from either of two parents.
        mutation_rate: on [0, 1].

    What mutation and crossover leave of a population is drawn uniformly. With neither it is random search.

    Raises:
        ConfigError: naming the setting that cannot be.
    """

    population: int = 50
    parents: int = 10
    mutations: int = 20
    crossovers: int = 20
    mutation_rate: float = 0.1

    def __post_init__(self) -> None:
        if min(self.population, self.parents) < 1 or min(self.mutations, self.crossovers) < 0:
            raise ConfigError(
                "search.population and parents: give at least 1, mutations and crossovers at least 0"
            )
        if self.mutations + self.crossovers > self.population:
            raise ConfigError(
                f"search.mutations={self.mutations} and search.crossovers={self.crossovers} are more than "
                f"search.population={self.population}"
            )
        if not 0 <= self.mutation_rate <= 1:
            raise ConfigError(f"search.mutation_rate={self.mutation_rate}: give a probability")


class Evolution:
    """Gives candidates one by one and is told their scores; no candidate comes twice.

    A generation is a function of the random seed, its number and the scores before it. The scores are therefore
    all that has to be kept: a search that is resumed from them, on whatever rank, goes on as it would have.

    Args:
        decisions: what a path decides; genes are their options.
        allowed: whether a path keeps the limits.
        refuge: a path that does, towards which others are moved until they do, such as the cheapest.
        breeding: how generations come about.
        generations: how many there are.
        random_seed: fixes what is drawn.
        first: paths that the first generation begins with, such as the seed's own network.
        excess: by how much a path breaks the limits, 0 for one that keeps them. Where it is given, a path is first
            moved by single genes that lower it, which keeps more of a path than the refuge does.
        proposals: (candidates,) weights per choice, by which genes are drawn; uniformly without.

    Attributes:
        history: (path, score) in the order in which they were told.

    Raises:
        ConfigError: where `refuge` is not allowed.
    """

    def __init__(
        self,
        decisions: Decisions,
        allowed: Callable[[Sequence[int]], bool],
        refuge: Sequence[int],
        breeding: Breeding = Breeding(),
        generations: int = 20,
        random_seed: int = 0,
        first: Sequence[Sequence[int]] = (),
        excess: Callable[[Sequence[int]], float] | None = None,
        proposals: Sequence[Tensor] | None = None,
    ) -> None:
        if not allowed(refuge):
            raise ConfigError("no path keeps the limits of the search")
        self.decisions = decisions
        self.history: list[tuple[tuple[int, ...], float]] = []
        self._allowed = allowed
        self._refuge = decisions.genes(refuge)
        self._breeding = breeding
        self._generations = generations
        self._random_seed = random_seed
        self._first = [tuple(decisions.genes(path)) for path in first]
        self._excess = excess
        weights = None if proposals is None else [each.weights(proposals).cumsum(0).numpy() for each in decisions]
        self._steps = None if weights is None else [row / row[-1] for row in weights]
        self._pool: list[Genes] = []
        self._ends: list[int] = []  # of the generations, in the pool
        self._seen: set[Genes] = set()
        self._made, self._kept = 0, 0
        self._used_up = False

    @property
    def budget(self) -> int:
        """Candidates in all, where the space has as many."""
        return self._generations * self._breeding.population

    @property
    def used_up(self) -> bool:
        """Whether the space has no path within the limits that has not been scored."""
        return self._used_up

    @property
    def feasible_share(self) -> float:
        """Part of all that was drawn, mutated and crossed so far which kept the limits as it was; 1 before any."""
        return self._kept / self._made if self._made else 1.0

    def blocks(self, size: int) -> int:
        """How many blocks of `size` the budget takes, see `block`."""
        return self._generations * math.ceil(self._breeding.population / size)

    def block(self, size: int) -> list[tuple[int, ...]]:
        """The next candidates that can be scored side by side: `size`, or fewer at the end of a generation.

        The next generation waits for all their scores. None at the end of budget or space.
        """
        first = self.ask()
        told = len(self.history)
        return [] if first is None else [self._path(genes) for genes in self._pool[told : told + size]]

    @property
    def best(self) -> tuple[tuple[int, ...], float]:
        """The path of the highest score, the first one where several are equal."""
        return self.ranking()[0]

    def ask(self) -> tuple[int, ...] | None:
        """The next candidate; the same one until its score is told. None at the end of budget or space."""
        told = len(self.history)
        if told >= self.budget:
            return None
        if told == len(self._pool) and not self._used_up:
            self._pool += self._generation(len(self._ends))
            self._ends.append(len(self._pool))
            self._used_up = told == len(self._pool)
        return self._path(self._pool[told]) if told < len(self._pool) else None

    def generation_of(self, number: int) -> int:
        """The generation of candidate `number`, both from 0; one that found no more new paths is shorter."""
        return bisect_right(self._ends, number)

    def tell(self, score: float) -> None:
        """Score the candidate that was asked for last; what is not a number counts as the worst.

        Raises:
            RuntimeError: where none was.
        """
        path = self.ask()
        if path is None:
            raise RuntimeError("there is no candidate whose score could be told")
        self.history.append((path, score if not math.isnan(score) else -math.inf))

    def restore(self, scores: Sequence[float]) -> None:
        """Go on behind these scores, told by a search of the same settings."""
        for score in scores[len(self.history) :]:
            self.tell(score)

    def ranking(self) -> list[tuple[tuple[int, ...], float]]:
        """All that were scored, the best first."""
        return sorted(self.history, key=lambda entry: -entry[1])  # stable: the earlier one of equals

    def _generation(self, number: int) -> list[Genes]:
        rng = np.random.default_rng([self._random_seed, number])
        parents = [tuple(self.decisions.genes(path)) for path, _ in self.ranking()[: self._breeding.parents]]
        makers: list[Callable[[], Genes]] = []
        if parents:
            makers += [lambda: self._mutant(rng, parents)] * self._breeding.mutations
            makers += [lambda: self._child(rng, parents)] * self._breeding.crossovers
        else:
            makers += [partial(tuple, genes) for genes in self._first[: self._breeding.population]]
        makers += [lambda: self._drawn(rng)] * (self._breeding.population - len(makers))
        return list(self._distinct(rng, makers))

    def _distinct(self, rng: np.random.Generator, makers: Sequence[Callable[[], Genes]]) -> Iterator[Genes]:
        """One new candidate of each maker; a drawn one where it has no other, until the space is used up."""
        for make in makers:
            found = self._new(make) or self._new(lambda: self._drawn(rng)) or self._rest(rng)
            if found is None:
                return
            self._seen.add(found)
            yield found

    def _new(self, make: Callable[[], Genes]) -> Genes | None:
        for number in range(_TRIES):
            genes = make()
            allowed = self._allowed(self._path(genes))
            self._made, self._kept = self._made + 1, self._kept + allowed
            # Where the limit is tight, chance alone would not keep it.
            genes = genes if allowed else self._moved(genes, number)
            if genes not in self._seen:
                return genes
        return None

    def _moved(self, genes: Genes, number: int) -> Genes:
        """`genes` with as many of the refuge's in a random order as it takes to keep the limits."""
        moved = list(genes)
        rng = np.random.default_rng([self._random_seed, number, *genes])
        if self._excess is not None and self._eased(moved, self._excess, rng):
            return tuple(moved)
        for place in rng.permutation(len(moved)):
            moved[place] = self._refuge[place]
            if self._allowed(self._path(moved)):
                break
        return tuple(moved)

    def _eased(self, genes: list[int], excess: Callable[[Sequence[int]], float], rng: np.random.Generator) -> bool:
        """Change single genes where that lowers the excess; whether the limits are kept then."""
        left = excess(self._path(genes))
        for _ in range(_TRIES):
            place = int(rng.integers(len(genes)))
            before, genes[place] = genes[place], int(rng.integers(self.decisions.sizes[place]))
            now = excess(self._path(genes))
            if now >= left:
                genes[place] = before
            else:
                left = now
            if left <= 0:
                return True
        return False

    def _rest(self, rng: np.random.Generator) -> Genes | None:
        """What is left of a small space."""
        if math.prod(self.decisions.sizes) > _SMALL:
            return None
        everything = product(*map(range, self.decisions.sizes))
        rest = [genes for genes in everything if genes not in self._seen and self._allowed(self._path(genes))]
        return rest[int(rng.integers(len(rest)))] if rest else None

    def _drawn(self, rng: np.random.Generator) -> Genes:
        return tuple(self._genes(rng).tolist())

    def _genes(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """One of each, by the proposals."""
        if self._steps is None:
            return rng.integers(self.decisions.sizes)
        draws = rng.random(len(self._steps))
        return np.array(
            [np.searchsorted(row, draw, side="right") for row, draw in zip(self._steps, draws, strict=True)]
        )

    def _path(self, genes: Sequence[int]) -> tuple[int, ...]:
        return tuple(self.decisions.path(genes))

    def _mutant(self, rng: np.random.Generator, parents: Sequence[Genes]) -> Genes:
        parent = parents[int(rng.integers(len(parents)))]
        anew = rng.random(len(parent)) < self._breeding.mutation_rate
        return tuple(np.where(anew, self._genes(rng), parent).tolist())

    def _child(self, rng: np.random.Generator, parents: Sequence[Genes]) -> Genes:
        one, other = (parents[number] for number in rng.integers(len(parents), size=2))
        return tuple(np.where(rng.random(len(one)) < 0.5, one, other).tolist())
