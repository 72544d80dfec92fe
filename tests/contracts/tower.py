"""A toy system: a head whose tower of chosen layers runs on every map of the backbone (as FAD's does)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fna_lightning.architectures import Architecture, register_kind
from fna_lightning.blocks import SEARCHED_NORM, Backbone, ConvNorm, Network, Norm
from fna_lightning.choices import Choices, LayerChoice, Supernet
from fna_lightning.remapping import chosen_layers


@register_kind
@dataclass(frozen=True)
class TowerArchitecture(Architecture):
    """The kernels of a tower, one a layer."""

    kind: ClassVar[str] = "tower"
    part: ClassVar[str] = "head"
    text_form: ClassVar[str] = "a tower"

    kernels: tuple[int, ...]

    def __str__(self) -> str:
        return f"tower{self.kernels}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"kind": self.kind, "kernels": list(self.kernels)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TowerArchitecture:
        """From plain data."""
        return cls(tuple(data["kernels"]))

    @classmethod
    def recognises(cls, line: str) -> bool:
        """`tower(...)`."""
        return line.strip().startswith("tower(")

    @classmethod
    def from_text(cls, text: str) -> TowerArchitecture:
        """From `tower(...)`."""
        return cls(tuple(int(number) for number in re.findall(r"[0-9]+", text)))


@dataclass(frozen=True)
class TowerSpace:
    """Every layer may have any of the kernels."""

    part: ClassVar[str] = "head"

    kernels: tuple[int, ...] = (1, 3, 5)
    depth: int = 2


class TowerSupernet(Supernet):
    """All kernels side by side, shared by the maps that the tower runs on."""

    def __init__(self, space: TowerSpace, channels: int) -> None:
        super().__init__()
        self.space = space
        self.layers = nn.Sequential(
            *(
                LayerChoice({f"k{k}": ConvNorm(channels, channels, k, norm=SEARCHED_NORM) for k in space.kernels})
                for _ in range(space.depth)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same."""
        return self.layers(x)

    def architecture_of(self, path: Sequence[int]) -> TowerArchitecture:
        """The tower of `path`."""
        assert len(path) == len(Choices(self))
        return TowerArchitecture(tuple(self.space.kernels[index] for index in path))


class Tower(nn.Module):
    """A fixed tower."""

    def __init__(self, architecture: TowerArchitecture, channels: int) -> None:
        super().__init__()
        self.architecture = architecture
        self.layers = nn.Sequential(*(ConvNorm(channels, channels, kernel) for kernel in architecture.kernels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> the same."""
        return self.layers(x)


@chosen_layers.register
def _(target: Tower) -> dict[str, str]:
    return {f"layers.{index}": f"k{kernel}" for index, kernel in enumerate(target.architecture.kernels)}


class PyramidClassifier(Network):
    """Every map through the one tower, averaged, and a linear layer."""

    def __init__(
        self, backbone: Backbone, num_classes: int, head: TowerArchitecture | TowerSpace, channels: int = 6
    ) -> None:
        super().__init__(backbone, num_classes)
        self.laterals = nn.ModuleDict(
            {name: ConvNorm(width, channels, norm=Norm()) for name, width in backbone.out_channels.items()}
        )
        if isinstance(head, TowerSpace):
            self.tower: nn.Module = TowerSupernet(head, channels)
        else:
            self.tower = Tower(head, channels)
        self.classifier = nn.Linear(channels, num_classes)

    def parts(self) -> dict[str, nn.Module]:
        """The tower is the head."""
        return {**super().parts(), "head": self.tower}

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) on [0, 255] -> (N, num_classes)."""
        maps = self.maps(images)
        pooled = [self.tower(layer(maps[name])).mean((2, 3)) for name, layer in self.laterals.items()]
        return self.classifier(torch.stack(pooled).mean(0))
