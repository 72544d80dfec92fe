"""Choices that are made together, such as the edges of a node of which two are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from fna_lightning.choices.choice import Choice
from fna_lightning.errors import ConfigError


class Joint(NamedTuple):
    """Choices of which a path may have only some combinations, as a supernet declares them.

    Attributes:
        choices: k of them.
        options: (n, k) the combinations, each the indices of the candidates.
        counted: (n, k) whose probabilities speak for an option: that of the product of these.
    """

    choices: Sequence[Choice]
    options: NDArray[np.int64]
    counted: NDArray[np.bool_]


@dataclass(frozen=True)
class Decision:
    """What is decided at once: one choice, or several together.

    Attributes:
        choices: their numbers, ascending.
        options: see `Joint`, as for `counted`.
    """

    choices: tuple[int, ...]
    options: NDArray[np.int64]
    counted: NDArray[np.bool_]

    @classmethod
    def alone(cls, number: int, size: int) -> Decision:
        """One choice, of which a path takes any candidate."""
        return cls((number,), np.arange(size)[:, None], np.ones((size, 1), bool))

    @property
    def is_joint(self) -> bool:
        """Whether several choices are made together."""
        return len(self.choices) > 1

    def weights(self, rows: Sequence[Tensor]) -> Tensor:
        """(n,) float64 of every option, by the (candidates,) `rows` of all choices: products of what counts."""
        if not self.is_joint:
            return rows[self.choices[0]].double()
        own = torch.stack(
            [rows[number].double()[index] for number, index in zip(self.choices, self._indices(rows), strict=True)]
        )
        counted = torch.from_numpy(self.counted.T).to(own.device)
        return own.where(counted, 1.0).prod(dim=0)

    def taken(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """(candidates,) per choice of it: one where the option of the largest weight has it, zero elsewhere."""
        best = self.weights(rows).argmax()
        return [
            one_hot(index[best], len(rows[number])).to(rows[number].dtype)
            for number, index in zip(self.choices, self._indices(rows), strict=True)
        ]

    def _indices(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """(n,) per choice of it: the options, where the rows lie."""
        return [torch.from_numpy(column).to(rows[self.choices[0]].device) for column in self.options.T.copy()]


class Decisions:
    """All decisions of a network in the order of their first choices; every choice is in one of them.

    A path says which candidate every choice takes; its genes which option every decision takes.

    Args:
        sizes: candidates of each choice.
        joint: the decisions over several choices; every other choice is alone.

    Attributes:
        sizes: options of each decision.
    """

    def __init__(self, sizes: Sequence[int], joint: Sequence[Decision] = ()) -> None:
        together = {number for each in joint for number in each.choices}
        alone = [Decision.alone(number, size) for number, size in enumerate(sizes) if number not in together]
        self._decisions = sorted([*joint, *alone], key=lambda each: each.choices)
        self._choices = len(sizes)
        self.sizes = tuple(len(each.options) for each in self._decisions)
        self._genes = [
            {tuple(option): number for number, option in enumerate(each.options.tolist())}
            for each in self._decisions
        ]

    def __iter__(self) -> Iterator[Decision]:
        return iter(self._decisions)

    def __len__(self) -> int:
        return len(self._decisions)

    def path(self, genes: Sequence[int]) -> list[int]:
        """The path of these options."""
        path = [0] * self._choices
        for each, gene in zip(self._decisions, genes, strict=True):
            for number, index in zip(each.choices, each.options[gene].tolist(), strict=True):
                path[number] = index
        return path

    def genes(self, path: Sequence[int]) -> list[int]:
        """The options of a path.

        Raises:
            ConfigError: where it has candidates that do not go together.
        """
        found = []
        for each, known in zip(self._decisions, self._genes, strict=True):
            option = tuple(int(path[number]) for number in each.choices)
            if option not in known:
                raise ConfigError(
                    f"path entries {', '.join(map(str, each.choices))}: {', '.join(map(str, option))} do not go "
                    "together in this space"
                )
            found.append(known[option])
        return found

    def log_probability(self, rows: Sequence[Tensor], path: Sequence[int]) -> Tensor:
        """Scalar: of `path` among those that `rows` draw, differentiable in these; see `Choices.draw`."""
        logs = []
        for each, gene in zip(self._decisions, self.genes(path), strict=True):
            if each.is_joint:
                weights = each.weights(rows)
                logs.append((weights[gene] / weights.sum()).log().to(rows[0].dtype))
            else:
                logs.append(rows[each.choices[0]][gene].log())
        return torch.stack(logs).sum()

    def most_probable(self, rows: Sequence[Tensor]) -> list[int]:
        """The path of the largest weights, the first option where several are equal; see `Decision.weights`."""
        return self.path([int(each.weights(rows).argmax()) for each in self._decisions])

    def taken(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """(n,) per choice: one on the path of the largest weights, zero elsewhere; made where `rows` lie."""
        found: dict[int, Tensor] = {}
        for each in self._decisions:
            found |= zip(each.choices, each.taken(rows), strict=True)
        return [found[number] for number in range(self._choices)]
