"""Spaces of several parts of a network, searched in one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class BackboneAndHead:
    """A space of the backbone and one of the head, under one cost of the whole network.

    Attributes:
        backbone: such as `MobileSpace`.
        head: such as `TowerSpace`.
    """

    backbone: Any
    head: Any

    def parts(self) -> Mapping[str, Any]:
        """The space of each part."""
        return {"backbone": self.backbone, "head": self.head}
