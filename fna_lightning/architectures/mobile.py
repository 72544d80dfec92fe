"""Networks of inverted residual blocks (MobileNetV2 and what FNA, NAA and DenseNAS find), as data.

The text form is the `net_config` of FNA: one `[[C_in, C_out], [operation, ...], stride]` a stage,
joined by `|`. The stem (stride 2) and the last 1x1 convolution are implicit in it. A stage whose first layer
does not add its input, although it could, has a fourth entry, `'no_residual'`, which FNA's own form lacks.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any, ClassVar

from fna_lightning.architectures.kinds import SKIP, Architecture, register_kind
from fna_lightning.architectures.levels import Level, turn_strides_into_dilations
from fna_lightning.architectures.reading import Reader
from fna_lightning.errors import ArchitectureError

HEAD_OPERATION = "conv_2d_1x1"
DEFAULT_HEAD_WIDTH = 1280
NO_RESIDUAL = "no_residual"

_OPERATION = re.compile(r"k([0-9]{1,4})_e([0-9]{1,4})")


@dataclass(frozen=True, order=True)
class Operation:
    """One inverted residual block: depthwise `kernel` x `kernel`, hidden width `expansion` * C_in.

    Its text form is `k3_e6`.
    """

    kernel: int
    expansion: int

    def __post_init__(self) -> None:
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ArchitectureError(f"kernel {self.kernel}: give an odd, positive number")
        if self.expansion < 1:
            raise ArchitectureError(f"expansion {self.expansion}: give a positive whole number")

    def __str__(self) -> str:
        return f"k{self.kernel}_e{self.expansion}"

    @classmethod
    def parse(cls, text: str) -> Operation:
        """Read `k<kernel>_e<expansion>`.

        Raises:
            ArchitectureError: for any other text, `skip` included.
        """
        match = _OPERATION.fullmatch(text)
        if match is None:
            raise ArchitectureError(f"unknown operation {text[:40]!r}: write k<kernel>_e<expansion> such as k3_e6")
        return cls(int(match[1]), int(match[2]))


Layer = Operation | None
"""A layer of a stage; `None` is an identity, written `skip`."""


def parse_layer(text: object) -> Layer:
    """Read an operation, or `skip`.

    Raises:
        ArchitectureError: for anything else.
    """
    if not isinstance(text, str):
        raise ArchitectureError(f"operation {text!r}: write a name such as 'k3_e6' or 'skip'")
    return None if text == SKIP else Operation.parse(text)


@dataclass(frozen=True)
class Stage:
    """Layers of one output width; the first has the stage's stride, the others stride 1.

    Attributes:
        width: channels that each of them gives.
        stride: of the first.
        layers: at least one.
        residual: whether the first adds its input where width and stride allow, as in all published networks.
            Where widths were searched it may not: that two came out equal says nothing (spec NAA, quirk 5).
    """

    width: int
    stride: int
    layers: tuple[Layer, ...]
    residual: bool = True

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The layers that compute something, in order; remapping counts these (spec FNA, section 4)."""
        return tuple(layer for layer in self.layers if layer is not None)


@register_kind
@dataclass(frozen=True)
class MobileArchitecture(Architecture):
    """A network of inverted residual blocks.

    Stages are counted as FNA counts blocks: 0 is the stem, `stages[0]` is number 1, and number
    `len(stages) + 1` is the last 1x1 convolution of `head_width` channels, which a backbone builds
    only where it is asked for.

    Raises:
        ArchitectureError: where no network with these numbers can be built.
    """

    kind: ClassVar[str] = "mobile"
    part: ClassVar[str] = "backbone"
    text_form: ClassVar[str] = "a net_config"

    stem_width: int
    stages: tuple[Stage, ...]
    head_width: int = DEFAULT_HEAD_WIDTH

    def __post_init__(self) -> None:
        if not self.stages:
            raise ArchitectureError("an architecture needs at least one stage")
        for name, width in (("stem", self.stem_width), ("head", self.head_width)):
            if width < 1:
                raise ArchitectureError(f"{name} width {width}: give a positive number")
        for number, (in_width, stage) in enumerate(zip(self.in_widths, self.stages, strict=True), start=1):
            _check_stage(number, in_width, stage)

    @property
    def in_widths(self) -> tuple[int, ...]:
        """Input channels of each of `stages`."""
        return (self.stem_width, *(stage.width for stage in self.stages[:-1]))

    @property
    def head_stage(self) -> int:
        """The number of the last 1x1 convolution."""
        return len(self.stages) + 1

    @property
    def widths(self) -> tuple[int, ...]:
        """Output channels of every stage by number: stem, `stages`, head."""
        return (self.stem_width, *(stage.width for stage in self.stages), self.head_width)

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of every stage by number: stem (2), `stages`, head (1)."""
        return (2, *(stage.stride for stage in self.stages), 1)

    def strides_and_dilations(self, output_stride: int | None = None) -> tuple[tuple[int, int], ...]:
        """(stride, dilation) of every stage by number, with stem and head; see `turn_strides_into_dilations`."""
        return turn_strides_into_dilations(self.strides, output_stride)

    def levels(self, output_stride: int | None = None) -> tuple[Level, ...]:
        """See `Architecture.levels`; a map is named by the number of its stage, the one inside it `6.expand`."""
        result, total, in_width = [], 1, 3
        layout = zip(self.strides_and_dilations(output_stride), self.widths, strict=True)
        for number, ((stride, _), width) in enumerate(layout):
            if 0 < number < self.head_stage:
                first = self.stages[number - 1].layers[0]
                expansion = 1 if first is None else first.expansion
                result.append(Level(f"{number}.expand", total, in_width * expansion, "expand"))
            total, in_width = total * stride, width
            result.append(Level(str(number), total, width, "head" if number == self.head_stage else "stage"))
        return tuple(result)

    def __str__(self) -> str:
        lines = []
        for in_width, stage in zip(self.in_widths, self.stages, strict=True):
            operations = [SKIP if layer is None else str(layer) for layer in stage.layers]
            more = "" if stage.residual else f", '{NO_RESIDUAL}'"
            lines.append(f"[[{in_width}, {stage.width}], {operations}, {stage.stride}{more}]")
        if self.head_width != DEFAULT_HEAD_WIDTH:
            lines.append(f"[[{self.stages[-1].width}, {self.head_width}], ['{HEAD_OPERATION}'], 1]")
        return "|\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings; `from_dict` reads it back equal."""
        return {
            "kind": self.kind,
            "stem_width": self.stem_width,
            "stages": [
                {
                    "width": stage.width,
                    "stride": stage.stride,
                    "layers": [SKIP if layer is None else str(layer) for layer in stage.layers],
                    **({} if stage.residual else {"residual": False}),
                }
                for stage in self.stages
            ],
            "head_width": self.head_width,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> MobileArchitecture:
        """Read what `to_dict` gives.

        Raises:
            ArchitectureError: naming the key that is missing, unknown or of the wrong type.
        """
        reader = Reader(data, cls.kind)
        stages = []
        for number, item in enumerate(reader.take("stages", list), start=1):
            stage = Reader(item, f"stage {number}")
            layers = tuple(parse_layer(text) for text in stage.take("layers", list))
            sizes = stage.take("width", int), stage.take("stride", int)
            stages.append(Stage(*sizes, layers, stage.take("residual", bool, True)))
            stage.finish()
        stem_width = reader.take("stem_width", int)
        head_width = reader.take("head_width", int, DEFAULT_HEAD_WIDTH)
        reader.finish()
        return cls(stem_width, tuple(stages), head_width)

    @classmethod
    def recognises(cls, line: str) -> bool:
        """Whether this line of a text begins a stage of a `net_config`."""
        return line.lstrip().startswith("[[")

    @classmethod
    def from_text(cls, text: str) -> MobileArchitecture:
        """Read FNA's `net_config`; a last stage `conv_2d_1x1` (NAA) gives the head's width.

        Only literals are read, nothing is evaluated.

        Raises:
            ArchitectureError: naming the stage and what is wrong with it.
        """
        parts = [part.strip() for part in text.strip().rstrip("|").split("|")]
        rows = [_literal_stage(number, part) for number, part in enumerate(parts, start=1)]
        head_width = DEFAULT_HEAD_WIDTH
        if rows[-1][2] == [HEAD_OPERATION]:
            head_width = rows.pop()[1]
        if not rows:
            raise ArchitectureError(f"stage 1 is {HEAD_OPERATION}: a network needs a stage before it")
        width = rows[0][0]
        stages = []
        for number, (in_width, out_width, operations, stride, residual) in enumerate(rows, start=1):
            if in_width != width:
                raise ArchitectureError(
                    f"stage {number} takes {in_width} channels, but stage {number - 1} gives {width}"
                )
            stages.append(Stage(out_width, stride, tuple(parse_layer(op) for op in operations), residual))
            width = out_width
        return cls(rows[0][0], tuple(stages), head_width)


def _check_stage(number: int, in_width: int, stage: Stage) -> None:
    if stage.width < 1:
        raise ArchitectureError(f"stage {number} has width {stage.width}: give a positive number")
    if stage.stride not in (1, 2):
        raise ArchitectureError(f"stage {number} has stride {stage.stride}: give 1 or 2")
    if not stage.layers:
        raise ArchitectureError(f"stage {number} has no layers")
    if not stage.operations:
        raise ArchitectureError(f"stage {number} has only skips: leave the stage out instead")
    if stage.layers[0] is None and (in_width != stage.width or stage.stride != 1):
        raise ArchitectureError(
            f"stage {number} begins with skip, but goes from {in_width} to {stage.width} channels "
            f"with stride {stage.stride}: begin with an operation"
        )
    if not stage.residual and (in_width != stage.width or stage.stride != 1 or stage.layers[0] is None):
        raise ArchitectureError(f"stage {number} could not begin with a residual: leave {NO_RESIDUAL} out")


def _literal_stage(number: int, text: str) -> tuple[int, int, list[Any], int, bool]:
    """One stage of a `net_config` as (C_in, C_out, operations, stride, residual)."""
    try:
        value = ast.literal_eval(text)
        (in_width, out_width), operations, stride, *rest = value
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ArchitectureError(
            f"stage {number} is {text[:60]!r}: write [[C_in, C_out], ['k3_e6', ...], stride]"
        ) from error
    if not all(type(n) is int for n in (in_width, out_width, stride)) or not isinstance(operations, list):
        raise ArchitectureError(f"stage {number} is {text[:60]!r}: widths and stride must be whole numbers")
    if rest not in ([], [NO_RESIDUAL]):
        raise ArchitectureError(
            f"stage {number} ends with {rest!r:.40}: only {NO_RESIDUAL!r} may follow its stride"
        )
    return in_width, out_width, operations, stride, not rest
