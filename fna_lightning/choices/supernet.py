"""What a part of a network that is searched must know."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import nn

from fna_lightning.architectures import Architecture
from fna_lightning.choices.decisions import Joint


class Supernet(nn.Module, ABC):
    """A named part of a network, backbone or head, that contains choices."""

    @abstractmethod
    def architecture_of(self, path: Sequence[int]) -> Architecture:
        """The architecture that `path` stands for: one candidate for each of `Choices(self)`, in their order."""

    def path_of(self, architecture: Architecture) -> list[int] | None:
        """The path that stands for a network such as `architecture`; None where none does, or none is known."""
        del architecture
        return None

    def joint(self) -> list[Joint]:
        """The choices in it that are made together; by default every choice is made alone."""
        return []
