"""Residual networks (He et al. 2015, 1512.03385; ResNeXt: Xie et al. 2016, 1611.05431), as data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

from fna_lightning.architectures.kinds import Architecture, register_kind
from fna_lightning.architectures.levels import Level
from fna_lightning.architectures.reading import Reader
from fna_lightning.errors import ArchitectureError

Block = Literal["basic", "bottleneck"]
EXPANSIONS: dict[Block, int] = {"basic": 1, "bottleneck": 4}
"""Output channels of each kind of block over its planes."""
PLANES = (64, 128, 256, 512)
"""Of the four stages."""
STEM_STRIDE = 2

_NUMBER = "([0-9]{1,4})"
_TEXT = re.compile(rf"resnet\((basic|bottleneck), \[{', '.join([_NUMBER] * 4)}\], {_NUMBER}x{_NUMBER}d\)")


@register_kind
@dataclass(frozen=True)
class ResNetArchitecture(Architecture):
    """A ResNet of torchvision's form: its bottlenecks have their stride in the 3x3 convolution.

    Maps are named by number: 0 is the stem before its pooling, 1 to 4 are the stages.

    Raises:
        ArchitectureError: where no network with these numbers can be built.
    """

    kind: ClassVar[str] = "resnet"
    part: ClassVar[str] = "backbone"
    text_form: ClassVar[str] = "a resnet(...)"

    block: Block
    depths: tuple[int, int, int, int]
    """Blocks of each stage."""
    groups: int = 1
    """Of a bottleneck's 3x3 convolution."""
    width_per_group: int = 64
    """Channels of a group in the first stage; the stages double it."""

    def __post_init__(self) -> None:
        if self.block not in EXPANSIONS:
            raise ArchitectureError(f"block {self.block!r}: give basic or bottleneck")
        if len(self.depths) != len(PLANES) or min(self.depths) < 1:
            raise ArchitectureError(f"depths {list(self.depths)}: give four positive numbers")
        for name, value in (("groups", self.groups), ("width_per_group", self.width_per_group)):
            if value < 1:
                raise ArchitectureError(f"{name} {value}: give a positive number")
        if self.block == "basic" and (self.groups, self.width_per_group) != (1, 64):
            raise ArchitectureError(
                "basic blocks have groups 1 and width_per_group 64: give bottleneck for others"
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Output channels of stem and stages."""
        return (PLANES[0], *(planes * EXPANSIONS[self.block] for planes in PLANES))

    def dilated(self, output_stride: int | None = None) -> tuple[bool, bool, bool]:
        """Which of the last three stages have dilation in place of their stride.

        Raises:
            ArchitectureError: where the network cannot have that output stride.
        """
        strides = (8, 16, 32)
        if output_stride not in (None, 4, *strides):
            raise ArchitectureError(f"output stride {output_stride} cannot be had: give 4, 8, 16 or 32")
        flags = tuple(output_stride is not None and stride > output_stride for stride in strides)
        if any(flags) and self.block == "basic":
            raise ArchitectureError(f"output stride {output_stride} cannot be had: basic blocks have no dilation")
        return cast("tuple[bool, bool, bool]", flags)

    def levels(self, output_stride: int | None = None) -> tuple[Level, ...]:
        """See `Architecture.levels`."""
        strides = [STEM_STRIDE, 2 * STEM_STRIDE]
        for dilated in self.dilated(output_stride):
            strides.append(strides[-1] * (1 if dilated else 2))
        named = enumerate(zip(strides, self.widths, strict=True))
        return tuple(Level(str(number), stride, width) for number, (stride, width) in named)

    def __str__(self) -> str:
        return f"resnet({self.block}, {list(self.depths)}, {self.groups}x{self.width_per_group}d)"

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings; `from_dict` reads it back equal."""
        return {
            "kind": self.kind,
            "block": self.block,
            "depths": list(self.depths),
            "groups": self.groups,
            "width_per_group": self.width_per_group,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ResNetArchitecture:
        """Read what `to_dict` gives.

        Raises:
            ArchitectureError: naming the key that is missing, unknown or of the wrong type.
        """
        reader = Reader(data, cls.kind)
        block = reader.take("block", str)
        depths = reader.take("depths", list)
        groups, width = reader.take("groups", int, 1), reader.take("width_per_group", int, 64)
        reader.finish()
        if not all(type(depth) is int for depth in depths):
            raise ArchitectureError(f"depths {depths}: give four positive numbers")
        return cls(cast("Block", block), cast("tuple[int, int, int, int]", tuple(depths)), groups, width)

    @classmethod
    def recognises(cls, line: str) -> bool:
        """`resnet(...)`."""
        return line.lstrip().startswith("resnet(")

    @classmethod
    def from_text(cls, text: str) -> ResNetArchitecture:
        """Read `resnet(<block>, [<depths>], <groups>x<width of a group>d)`, as papers write 64x4d.

        Raises:
            ArchitectureError: for any other text.
        """
        match = _TEXT.fullmatch(text.strip())
        if match is None:
            raise ArchitectureError(f"{text.strip()[:60]!r}: write resnet(bottleneck, [3, 4, 6, 3], 1x64d)")
        first, second, third, fourth, groups, width = (int(number) for number in match.groups()[1:])
        return cls(cast("Block", match[1]), (first, second, third, fourth), groups, width)
