"""Networks of ShuffleNetV2's blocks (DetNAS, SPOS), as data.

The text form gives layout and stem width, then for every stage its width and a digit a block, and last the tail's
width: `shuffle detnas: 16 | 64: 2120 | 160: 2112 | 320: 33130031 | 640: 3132 | 1024`. Published
forms are read as well, see `shuffle_encodings`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from fna_lightning.architectures.kinds import Architecture, register_kind
from fna_lightning.architectures.levels import Level, turn_strides_into_dilations
from fna_lightning.architectures.reading import Reader
from fna_lightning.architectures.shuffle_encodings import (
    CANDIDATES,
    Setting,
    is_mmrazor,
    parse_candidate,
    parse_integers,
    parse_mmrazor,
)
from fna_lightning.errors import ArchitectureError

STRIDE = 2
"""Of the stem and of every stage's first block."""


class Layout(NamedTuple):
    """How blocks split, join and shuffle their channels (spec DetNAS 1.2)."""

    split: Literal["unbalanced", "half"]
    """Of a stage's first block: the side branch keeps its input's width, or each branch gives one half."""
    shuffle: Literal["entry_transpose", "entry_evenodd", "exit"]
    """At entry into first half and second half of the channels transposed as two groups, or into even and odd
    ones; or at exit, the halves of the input as they are."""
    bias: bool
    """Whether the convolutions of stem and tail have a bias, although a norm follows."""

    @property
    def divisor(self) -> int:
        """Of every stage's width: halves of halves, where both are shuffled at entry."""
        return 4 if self.shuffle == "entry_transpose" else 2


LAYOUTS = {
    "detnas": Layout("unbalanced", "entry_evenodd", bias=True),
    "detnas_supernet": Layout("unbalanced", "entry_transpose", bias=True),
    "mmrazor": Layout("half", "exit", bias=False),
}
"""Those of the authors' retrained networks, of their supernets, and of mmrazor. Weights of one are of no use to
another."""

_HEADER = re.compile(r"shuffle\s+(\w{1,40})\s*:\s*([0-9]{1,6})")
_STAGE = re.compile(rf"([0-9]{{1,6}})\s*:\s*([0-{len(CANDIDATES) - 1}]{{1,999}})")
_WIDTH = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True)
class ShuffleStage:
    """Blocks of one output width by the names of their operations; the first halves the resolution."""

    width: int
    layers: tuple[str, ...]


@register_kind
@dataclass(frozen=True)
class ShuffleArchitecture(Architecture):
    """A network of ShuffleNetV2's blocks.

    Stages are counted from 1: 0 is the stem, a 3x3 convolution of stride 2, and `len(stages) + 1` the tail, a 1x1
    convolution of `tail_width` channels, which a backbone builds only where it is asked for.

    Raises:
        ArchitectureError: where no network with these numbers can be built.
    """

    kind: ClassVar[str] = "shuffle"
    part: ClassVar[str] = "backbone"
    text_form: ClassVar[str] = "DetNAS's integers"

    layout: str
    stem_width: int
    stages: tuple[ShuffleStage, ...]
    tail_width: int

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ArchitectureError(f"layout {self.layout[:40]!r} is unknown: give one of {', '.join(LAYOUTS)}")
        if not self.stages:
            raise ArchitectureError("an architecture needs at least one stage")
        for name, width in (("stem", self.stem_width), ("tail", self.tail_width)):
            if width < 1:
                raise ArchitectureError(f"{name} width {width}: give a positive number")
        for number, (in_width, stage) in enumerate(zip(self.in_widths, self.stages, strict=True), start=1):
            self._check_stage(number, in_width, stage)

    def _check_stage(self, number: int, in_width: int, stage: ShuffleStage) -> None:
        if stage.width < 1 or stage.width % self.form.divisor:
            raise ArchitectureError(
                f"stage {number} has width {stage.width}: layout {self.layout} needs multiples of "
                f"{self.form.divisor}"
            )
        if self.form.split == "unbalanced" and stage.width <= in_width:
            raise ArchitectureError(
                f"stage {number} goes from {in_width} to {stage.width} channels: its first block keeps the "
                f"{in_width} beside new ones; give more, or layout mmrazor"
            )
        if not stage.layers:
            raise ArchitectureError(f"stage {number} has no layers")
        for place, name in enumerate(stage.layers):
            if name not in CANDIDATES:
                raise ArchitectureError(
                    f"stage {number} layer {place} is {name!r}: choose {', '.join(CANDIDATES)}"
                )

    def shares_weights_with(self, other: Architecture) -> bool:
        """See `Architecture.shares_weights_with`: only where channels are split and shuffled alike."""
        return isinstance(other, ShuffleArchitecture) and self.form == other.form

    @property
    def form(self) -> Layout:
        """What `layout` names."""
        return LAYOUTS[self.layout]

    @property
    def in_widths(self) -> tuple[int, ...]:
        """Input channels of each of `stages`."""
        return (self.stem_width, *(stage.width for stage in self.stages[:-1]))

    @property
    def tail_stage(self) -> int:
        """The number of the last 1x1 convolution."""
        return len(self.stages) + 1

    @property
    def widths(self) -> tuple[int, ...]:
        """Output channels of every stage by number: stem, `stages`, tail."""
        return (self.stem_width, *(stage.width for stage in self.stages), self.tail_width)

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of every stage by number: stem, `stages`, tail (1)."""
        return (*[STRIDE] * self.tail_stage, 1)

    def strides_and_dilations(self, output_stride: int | None = None) -> tuple[tuple[int, int], ...]:
        """(stride, dilation) of every stage by number, see `turn_strides_into_dilations`."""
        return turn_strides_into_dilations(self.strides, output_stride)

    def levels(self, output_stride: int | None = None) -> tuple[Level, ...]:
        """See `Architecture.levels`; a map is named by the number of its stage."""
        result, total = [], 1
        layout = zip(self.strides_and_dilations(output_stride), self.widths, strict=True)
        for number, ((stride, _), width) in enumerate(layout):
            total *= stride
            result.append(Level(str(number), total, width, "head" if number == self.tail_stage else "stage"))
        return tuple(result)

    def __str__(self) -> str:
        stages = [
            f"{stage.width}: {''.join(str(CANDIDATES.index(name)) for name in stage.layers)}"
            for stage in self.stages
        ]
        return " | ".join([f"shuffle {self.layout}: {self.stem_width}", *stages, str(self.tail_width)])

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings; `from_dict` reads it back equal."""
        return {
            "kind": self.kind,
            "layout": self.layout,
            "stem_width": self.stem_width,
            "stages": [{"width": stage.width, "layers": list(stage.layers)} for stage in self.stages],
            "tail_width": self.tail_width,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ShuffleArchitecture:
        """Read what `to_dict` gives; operations may have the authors' or mmrazor's names.

        Raises:
            ArchitectureError: naming the key that is missing, unknown or of the wrong type.
        """
        reader = Reader(data, cls.kind)
        stages = []
        for number, item in enumerate(reader.take("stages", list), start=1):
            stage = Reader(item, f"stage {number}")
            layers = tuple(
                parse_candidate(name, f"stage {number} layer {place}")
                for place, name in enumerate(stage.take("layers", list))
            )
            stages.append(ShuffleStage(stage.take("width", int), layers))
            stage.finish()
        layout, stem_width = reader.take("layout", str), reader.take("stem_width", int)
        tail_width = reader.take("tail_width", int)
        reader.finish()
        return cls(layout, stem_width, tuple(stages), tail_width)

    @classmethod
    def from_published(cls, data: Mapping[Any, Any]) -> ShuffleArchitecture | None:
        """Read mmrazor's YAML, which gives the network in mmrazor's layout; see `parse_mmrazor`."""
        return cls._of_setting("mmrazor", *parse_mmrazor(data)) if is_mmrazor(data) else None

    @classmethod
    def recognises(cls, line: str) -> bool:
        """Whether this line begins the text form, or a list or tuple of integers, or YAML's."""
        return re.match(r"\s*(shuffle\s|-\s+\d|[\[(]\s*([0-9+-]|$))", line) is not None

    @classmethod
    def from_text(cls, text: str) -> ShuffleArchitecture:
        """Read the text form, or the authors' bare integers, which give a retrained network in their layout.

        Raises:
            ArchitectureError: naming the stage or integer and what is wrong with it.
        """
        if not text.lstrip().startswith("shuffle"):
            return cls._of_setting("detnas", *parse_integers(text))
        first, *middle = [part.strip() for part in text.split("|")]
        header = _HEADER.fullmatch(first)
        if header is None:
            raise ArchitectureError(f"{first[:60]!r} begins no network: write 'shuffle <layout>: <stem width>'")
        if not middle or not _WIDTH.fullmatch(middle[-1]):
            raise ArchitectureError(f"{text.strip()[-60:]!r} does not end with '| <width of the tail>'")
        stages = []
        for number, part in enumerate(middle[:-1], start=1):
            match = _STAGE.fullmatch(part)
            if match is None:
                raise ArchitectureError(
                    f"stage {number} is {part[:60]!r}: "
                    f"write <width>: <a digit from 0 to {len(CANDIDATES) - 1} for each block>"
                )
            stages.append(ShuffleStage(int(match[1]), tuple(CANDIDATES[int(digit)] for digit in match[2])))
        return cls(header[1], int(header[2]), tuple(stages), int(middle[-1]))

    @classmethod
    def _of_setting(cls, layout: str, setting: Setting, layers: Sequence[str]) -> ShuffleArchitecture:
        stages = map(ShuffleStage, setting.widths, setting.by_stage(layers))
        return cls(layout, setting.stem_width, tuple(stages), setting.tail_width)
