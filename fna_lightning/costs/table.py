"""What every path of a network costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fna_lightning.choices import Decisions, Path
from fna_lightning.costs.knapsack import Term, best_path_within, cheapest_path
from fna_lightning.errors import ConfigError

Quantity = Literal["madds", "params"]
UNITS: dict[Quantity, str] = {"madds": "multiply-adds", "params": "parameters"}


def amount_text(cost: float) -> str:
    """A cost in words of a message."""
    return f"{cost / 1e6:.1f} M" if cost >= 1e6 else f"{cost:,.0f}"


class CostTable(nn.Module):
    """The cost of a network's paths: a fixed part and a sum of terms over one choice or a few together.

    Its numbers are buffers, so that it follows the module that holds it to its device; none is saved.

    Attributes:
        quantity: what is counted.
        fixed: of all that no choice has a part in.
        sizes: candidates of each choice.
        terms: what depends on the choices.
        decisions: which choices are made together; each alone where none are given.
    """

    def __init__(
        self,
        quantity: Quantity,
        fixed: float,
        sizes: Sequence[int],
        terms: Sequence[Term],
        decisions: Decisions | None = None,
    ) -> None:
        super().__init__()
        self.quantity: Quantity = quantity
        self.fixed = fixed
        self.sizes = tuple(sizes)
        self.terms = tuple(terms)
        self.decisions = decisions or Decisions(sizes)
        for number, term in enumerate(self.terms):
            self.register_buffer(f"term_{number}", torch.from_numpy(term.costs), persistent=False)

    def of(self, path: Path) -> float:
        """The cost of a path, the fixed part included."""
        return self.fixed + sum(float(costs[tuple(path[k] for k in choices)]) for choices, costs in self.terms)

    def of_all(self, paths: NDArray[np.int64]) -> NDArray[np.float64]:
        """(P,) the costs of P paths, (P, number of choices)."""
        costs = [term[tuple(paths[:, choices].T)] for choices, term in self.terms]
        return self.fixed + np.sum(costs, axis=0)

    def expected(self, weights: Sequence[Tensor]) -> Tensor:
        """Scalar float64: the mean cost of paths drawn by `weights`, differentiable; see `searched`."""
        return self.searched(weights) + self.fixed

    def searched(self, weights: Sequence[Tensor]) -> Tensor:
        """`expected` without the fixed part, which is what FNA's objective takes (spec FNA 3.3).

        Exact also where a term depends on several choices, since these are drawn independently.

        Args:
            weights: (n,) probabilities per choice.
        """
        sums = []
        for number, (choices, _) in enumerate(self.terms):
            product = weights[choices[0]].double()
            for choice in choices[1:]:
                product = product[..., None] * weights[choice].double()
            sums.append((product * self.get_buffer(f"term_{number}")).sum())
        return torch.stack(sums).sum()

    def cheapest(self) -> list[int]:
        """The path of the least cost."""
        return self.decisions.path(cheapest_path(self.decisions.sizes, self.decided()))

    def decided(self) -> list[Term]:
        """The terms over decisions in place of choices, by the options of each."""
        return [_decided(term, self.decisions) for term in self.terms]

    def check_limit(self, limit: float | None) -> None:
        """Complain of a limit that no path keeps.

        Raises:
            ConfigError: naming what the cheapest path needs.
        """
        least = self.of(self.cheapest())
        if limit is not None and least > limit:
            raise ConfigError(
                f"a limit of {amount_text(limit)} {UNITS[self.quantity]} cannot be met: "
                f"the cheapest path needs {amount_text(least)}"
            )

    def best_within(
        self, limit: float | None, probabilities: Sequence[Tensor], least: float | None = None
    ) -> list[int]:
        """The most probable path that costs at most `limit`, the first one where several are equal.

        Args:
            limit: of the whole cost, the fixed part included; None for no limit.
            probabilities: (n,) per choice, on the CPU; weights of any sum are taken as well.
            least: cost that the path reaches as well, where some path within the limit does.

        Raises:
            ConfigError: where no path is as cheap as `limit`.
        """
        self.check_limit(limit)
        path = self.decisions.most_probable(probabilities)
        cost = self.of(path)
        fits, reaches = limit is None or cost <= limit, least is None or cost >= least
        if fits and reaches:
            return path
        logs, terms = [each.weights(probabilities).log().numpy() for each in self.decisions], self.decided()
        if least is not None:
            most = 1.01 * self.bounds()[1] if limit is None else limit
            found = best_path_within(logs, terms, most - self.fixed, least - self.fixed)
            if found is not None:
                return self.decisions.path(found)
        if limit is None or fits:
            return path
        found = best_path_within(logs, terms, limit - self.fixed)
        return self.cheapest() if found is None else self.decisions.path(found)

    def bounds(self) -> tuple[float, float]:
        """The least and the largest cost of a path."""
        turned = [Term(choices, costs.max() - costs) for choices, costs in self.decided()]
        dearest = self.decisions.path(cheapest_path(self.decisions.sizes, turned))
        return self.of(self.cheapest()), self.of(dearest)


def _decided(term: Term, decisions: Decisions) -> Term:
    """`term`, whose axes are choices, with axes that are decisions."""
    own = [(number, each) for number, each in enumerate(decisions) if set(each.choices) & set(term.choices)]
    index: list[NDArray[np.int64]] = []
    for choice in term.choices:
        axis, each = next((axis, each) for axis, (_, each) in enumerate(own) if choice in each.choices)
        shape = [1] * len(own)
        shape[axis] = -1
        index.append(each.options[:, each.choices.index(choice)].reshape(shape))
    return Term(tuple(number for number, _ in own), term.costs[tuple(index)])
