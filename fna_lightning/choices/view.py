"""What can be asked of the choices of any network: backbone, head, or both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from torch import Tensor, nn

from fna_lightning.architectures import Architecture
from fna_lightning.choices.choice import Choice
from fna_lightning.choices.decisions import Decision, Decisions
from fna_lightning.choices.supernet import Supernet
from fna_lightning.errors import ConfigError

Path = Sequence[int]
"""One candidate's index for every choice of a network, in the order of `Choices`."""


class Choices:
    """The choices of `network`, each once, in the order in which the network was built.

    Attributes:
        names: dotted name of each choice in the network.
        sizes: number of candidates of each.
    """

    def __init__(self, network: nn.Module) -> None:
        found = {name: module for name, module in network.named_modules() if isinstance(module, Choice)}
        self._network = network
        self._choices = list(found.values())
        self.names = tuple(found)
        self.sizes = tuple(len(choice.names) for choice in self._choices)

    @cached_property
    def decisions(self) -> Decisions:
        """Which of them are made together."""
        return Decisions(self.sizes, list(self._joint()))

    def __len__(self) -> int:
        return len(self._choices)

    def __iter__(self) -> Iterator[Choice]:
        return iter(self._choices)

    def __getitem__(self, index: int) -> Choice:
        return self._choices[index]

    def check_path(self, path: Path) -> None:
        """Complain of a path that does not exist.

        Raises:
            ConfigError: where `path` does not name one candidate for every choice.
        """
        if len(path) != len(self):
            raise ConfigError(f"a path of {len(path)} entries: this supernet has {len(self)} choices")
        for number, (size, index) in enumerate(zip(self.sizes, path, strict=True)):
            if not 0 <= index < size:
                raise ConfigError(f"path entry {number} is {index}: choose 0 to {size - 1}")

    def set_path(self, path: Path) -> None:
        """Compute only the candidates of `path` from now on.

        Raises:
            ConfigError: as `check_path`.
        """
        self.check_path(path)
        for choice, index in zip(self, path, strict=True):
            choice.active, choice.weights = int(index), None

    def set_mixture(self, weights: Sequence[Tensor]) -> None:
        """Compute every candidate from now on and add them by `weights`, one (n,) tensor a choice."""
        for choice, row in zip(self, weights, strict=True):
            choice.active, choice.weights = None, row

    def draw(self, random_seed: int, iteration: int, probabilities: Sequence[Tensor] | None = None) -> list[int]:
        """Draw every decision independently; a function of (random_seed, iteration, probabilities).

        Every rank therefore draws the same path without communication, and a resumed run draws what
        the uninterrupted one would have drawn.

        Args:
            random_seed: of the run.
            iteration: counts the draws.
            probabilities: (n,) per choice, on the CPU; all options of a decision equally likely by default.
        """
        draws = np.random.default_rng([random_seed, iteration]).random(len(self.decisions))
        if probabilities is None:
            sizes = self.decisions.sizes
            return self.decisions.path([int(draw * size) for draw, size in zip(draws, sizes, strict=True)])
        genes = []
        for draw, decision in zip(draws, self.decisions, strict=True):
            steps = np.cumsum(decision.weights(probabilities).numpy())
            genes.append(int(np.searchsorted(steps / steps[-1], draw, side="right")))
        return self.decisions.path(genes)

    def derive(self, path: Path) -> dict[str, Architecture]:
        """The architectures that `path` stands for, by the part of the network that each is of.

        Raises:
            ConfigError: as `check_path`.
            TypeError: where a choice is in no `Supernet`, or two of them are of one part.
        """
        self.check_path(path)
        taken = {id(choice): index for choice, index in zip(self, path, strict=True)}
        found: dict[str, Architecture] = {}
        left = dict(zip(taken, self.names, strict=True))
        for supernet in (module for module in self._network.modules() if isinstance(module, Supernet)):
            own = Choices(supernet)
            architecture = supernet.architecture_of([taken[id(choice)] for choice in own])
            if architecture.part in found:
                raise TypeError(f"two supernets give an architecture of the {architecture.part}: make them one")
            found[architecture.part] = architecture
            left = {key: name for key, name in left.items() if key not in set(map(id, own))}
        if left:
            raise TypeError(
                f"{', '.join(left.values())}: these choices are in no Supernet, which would derive them"
            )
        return found

    def _joint(self) -> Iterator[Decision]:
        """What the supernets in the network declare to be decided together."""
        numbers = {id(choice): number for number, choice in enumerate(self._choices)}
        for supernet in (module for module in self._network.modules() if isinstance(module, Supernet)):
            for choices, options, counted in supernet.joint():
                places = [numbers[id(choice)] for choice in choices]
                order = np.argsort(places)
                yield Decision(tuple(sorted(places)), options[:, order], counted[:, order])
