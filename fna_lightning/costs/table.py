"""What every path of a network costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fna_lightning.choices import Path
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
    """

    def __init__(self, quantity: Quantity, fixed: float, sizes: Sequence[int], terms: Sequence[Term]) -> None:
        super().__init__()
        self.quantity: Quantity = quantity
        self.fixed = fixed
        self.sizes = tuple(sizes)
        self.terms = tuple(terms)
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
        return cheapest_path(self.sizes, self.terms)

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
            probabilities: (n,) per choice, on the CPU.
            least: cost that the path reaches as well, where some path within the limit does.

        Raises:
            ConfigError: where no path is as cheap as `limit`.
        """
        self.check_limit(limit)
        path = [int(row.argmax()) for row in probabilities]
        cost = self.of(path)
        fits, reaches = limit is None or cost <= limit, least is None or cost >= least
        if fits and reaches:
            return path
        logs = [row.double().log().numpy() for row in probabilities]
        if least is not None:
            most = 1.01 * self.bounds()[1] if limit is None else limit
            found = best_path_within(logs, self.terms, most - self.fixed, least - self.fixed)
            if found is not None:
                return found
        if limit is None or fits:
            return path
        return best_path_within(logs, self.terms, limit - self.fixed) or self.cheapest()

    def bounds(self) -> tuple[float, float]:
        """The least and the largest cost of a path."""
        dearest = cheapest_path(self.sizes, [Term(choices, costs.max() - costs) for choices, costs in self.terms])
        return self.of(self.cheapest()), self.of(dearest)
