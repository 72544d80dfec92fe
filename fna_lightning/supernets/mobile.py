"""FNA's space: kernel, expansion and depth of inverted residual blocks; and NAA's: channels of stages besides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import ClassVar, Literal

from torch import nn

from fna_lightning.architectures import SKIP, Architecture, MobileArchitecture, Operation, Stage, pyramid_maps
from fna_lightning.architectures.mobile import Layer, parse_layer
from fna_lightning.blocks import (
    SEARCHED_NORM,
    ConvNorm,
    InvertedResidual,
    Norm,
    StagedNetwork,
    StagePlan,
    build_mobile_stages,
    initialise,
)
from fna_lightning.choices import Choices, LayerChoice, Supernet, ValueChoice
from fna_lightning.errors import ConfigError
from fna_lightning.supernets.build import build_supernet
from fna_lightning.supernets.sliced import Stream, follow_in_block, follow_in_layer

FNA_CANDIDATES = ("k3_e3", "k3_e6", "k5_e3", "k5_e6", "k7_e3", "k7_e6")


@dataclass(frozen=True)
class MobileSpace:
    """Which layers are searched, and among what (spec FNA 2.1).

    Attributes:
        base: gives widths, strides and the layers of the stages that are not searched.
        depths: layers of each searched stage, by stage number; stages not named stay as in `base`.
        candidates: operations of every searched layer, in the order of the architecture parameters.
        skip: whether layers behind a stage's first may be left out.
        first_candidates: other operations for the first layer of a stage, by stage number.
        widths: channels that a searched stage may have, ascending, by its number (spec NAA 8.1). One alone is what
            the stage has; a stage without a list may have the base's times any of `width_multipliers`.
        width_multipliers: such as 0.75, 1 and 1.25; channels are rounded to multiples of `width_divisor`. None
            leaves the base's.
        width_divisor: of all candidate widths.
        norms: of searched layers. `published`: without scale, offset and statistics, whatever the seed has
            (spec FNA 2.5). `kept`: as everywhere else, so that a seed's are carried over; a path's statistics are
            estimated anew before it is scored.

    Raises:
        ConfigError: naming the setting that cannot be.
    """

    part: ClassVar[str] = "backbone"

    base: MobileArchitecture
    depths: Mapping[int, int]
    candidates: Sequence[str] = FNA_CANDIDATES
    skip: bool = True
    first_candidates: Mapping[int, Sequence[str]] = field(default_factory=dict)
    norms: Literal["published", "kept"] = "published"
    widths: Mapping[int, Sequence[int]] = field(default_factory=dict)
    width_multipliers: Sequence[float] = ()
    width_divisor: int = 8

    def __post_init__(self) -> None:
        _check_kind(self.base)
        if not self.depths:
            raise ConfigError("the space searches no stage: give depths such as {2: 4, 3: 4}")
        for number, depth in self.depths.items():
            if not 1 <= number <= len(self.base.stages):
                raise ConfigError(f"depths name stage {number}: searched stages are 1 to {len(self.base.stages)}")
            if depth < 1:
                raise ConfigError(f"stage {number} has depth {depth}: give at least 1")
        for number in self.first_candidates:
            if number not in self.depths:
                raise ConfigError(f"first_candidates name stage {number}, which is not searched")
        for names in (self.candidates, *self.first_candidates.values()):
            if not names or len(set(names)) != len(names):
                raise ConfigError(f"candidates {list(names)}: give each operation once, and at least one")
            for name in names:
                Operation.parse(name)
        self._check_widths()

    def _check_widths(self) -> None:
        if self.width_divisor < 1:
            raise ConfigError(f"width_divisor={self.width_divisor}: give 1 or more")
        if any(multiplier <= 0 for multiplier in self.width_multipliers):
            raise ConfigError(f"width_multipliers={list(self.width_multipliers)}: give positive numbers")
        for number, widths in self.widths.items():
            here = f"widths of stage {number}"
            if number not in self.depths:
                raise ConfigError(f"{here}, which is not searched: give depths of it too")
            if not widths or sorted(set(widths)) != list(widths):
                raise ConfigError(f"{here} are {list(widths)}: give one or more, ascending, each once")
            for width in widths:
                if width < self.width_divisor or width % self.width_divisor:
                    raise ConfigError(f"{here}: {width} is no multiple of width_divisor={self.width_divisor}")
        for number, (in_width, stage) in enumerate(self._with_inputs(), start=1):
            adds = stage.residual and in_width == stage.width and stage.stride == 1
            before = self.widths_of(number - 1) if number > 1 else (in_width,)
            if adds and (len(self.widths_of(number)) > 1 or before != self.widths_of(number)):
                raise ConfigError(
                    f"widths of stage {number} break the residual of its first layer, which the base has: give it "
                    f"the one width of stage {number - 1}"
                )

    def _with_inputs(self) -> Iterator[tuple[int, Stage]]:
        return zip(self.base.in_widths, self.base.stages, strict=True)

    def widths_of(self, stage: int) -> tuple[int, ...]:
        """The channels that a stage may have, ascending."""
        own = self.base.stages[stage - 1].width
        if stage in self.widths:
            return tuple(self.widths[stage])
        if stage not in self.depths or not self.width_multipliers:
            return (own,)
        return tuple(
            sorted({rounded_width(own * factor, self.width_divisor) for factor in self.width_multipliers})
        )

    @property
    def widest(self) -> MobileArchitecture:
        """`base` with the largest channels of every stage."""
        return self.with_widths({})

    def with_widths(self, widths: Mapping[int, int]) -> MobileArchitecture:
        """`base` with these channels of stages, and the largest of others; residuals are where `base` has them."""
        stages: list[Stage] = []
        in_width = self.base.stem_width
        for number, (base_in, stage) in enumerate(
            zip(self.base.in_widths, self.base.stages, strict=True), start=1
        ):
            width = widths.get(number, self.widths_of(number)[-1])
            adds = stage.residual and base_in == stage.width
            equal = in_width == width and stage.stride == 1
            stages.append(replace(stage, width=width, residual=adds or not equal))
            in_width = width
        return replace(self.base, stages=tuple(stages))

    def names(self, stage: int, layer: int) -> tuple[str, ...]:
        """The candidates of one layer, in order."""
        if layer == 0:
            return tuple(self.first_candidates.get(stage, self.candidates))
        return (*self.candidates, SKIP) if self.skip else tuple(self.candidates)

    def first_layers(self, stage: int) -> tuple[Layer, ...]:
        """What the first layer of a stage may be; where the stage is not searched, what it is."""
        if stage in self.depths:
            return tuple(Operation.parse(name) for name in self.names(stage, 0))
        return self.base.stages[stage - 1].layers[:1]


def rounded_width(width: float, divisor: int) -> int:
    """The multiple of `divisor` nearest to `width`, the larger of two, and at least one of it (spec NAA 8.1)."""
    return max(divisor, int(width / divisor + 0.5) * divisor)


def _check_kind(base: Architecture) -> None:
    """A run may have any architecture; this space takes one of its own kind alone."""
    if base.kind != MobileArchitecture.kind:
        raise ConfigError(
            f"architecture is of kind {base.kind}, but space searches those of kind {MobileArchitecture.kind}"
        )


class MobileSupernet(StagedNetwork, Supernet):
    """All candidates of a `MobileSpace` side by side, with norms as the space says.

    Searched layers are `stages.<number>.<layer>`, their candidates `.candidates.<operation>` behind that; the
    choice of a stage's channels is `widths.<number>`. Layers have the largest channels, of which a path computes
    the first, see `fna_lightning.supernets.sliced`. Maps have as many as their stage has on the path, at most
    those of `out_channels`.
    """

    def __init__(
        self,
        space: MobileSpace,
        out_stages: Sequence[int | str],
        output_stride: int | None = None,
        norm: Norm = Norm(),  # noqa: B008 - frozen
    ) -> None:
        def build_stage(plan: StagePlan) -> nn.Module:
            if plan.number not in space.depths:
                return plan.build(norm)
            layers = []
            for index in range(space.depths[plan.number]):
                names = space.names(plan.number, index)
                candidates = {name: plan.layer(parse_layer(name), index, searched_norm) for name in names}
                layers.append(LayerChoice(candidates))
            return nn.Sequential(*layers)

        published = replace(norm, affine=SEARCHED_NORM.affine, track=SEARCHED_NORM.track)
        searched_norm = norm if space.norms == "kept" else published
        super().__init__(
            *build_mobile_stages(space.widest, out_stages, output_stride, norm, space.first_layers, build_stage)
        )
        last = len(self.stages) - 1
        if max(space.depths) > last:
            raise ConfigError(
                f"stage {max(space.depths)} is searched, but the detector reads only up to stage {last}"
            )
        self.space = space
        initialise(self)
        self._search_widths()

    def _search_widths(self) -> None:
        """Let the layers follow a choice of channels for every stage that has several widths."""
        choices = {str(each): ValueChoice(self.space.widths_of(each)) for each in self.stages_of_searched_width}
        if not choices:
            return
        # Choices come before the layers that hold them, and so go by names of their own.
        stages = self.stages
        del self.stages
        self.widths = nn.ModuleDict(choices)
        self.stages = stages
        streams = {number: Stream(choice) for number, choice in choices.items()}
        for number, stage in enumerate(self.stages):
            before, own = streams.get(str(number - 1)), streams.get(str(number))
            if isinstance(stage, ConvNorm):
                follow_in_layer(stage, before, None)
                continue
            for place, layer in enumerate(stage.children()):
                for block in layer.modules():
                    if isinstance(block, InvertedResidual):
                        follow_in_block(block, own if place else before, own)

    def architecture_of(self, path: Sequence[int]) -> MobileArchitecture:
        """The network of `path`, with skips where they were chosen."""
        left = list(zip(Choices(self), path, strict=True))
        chosen = [choice.values[index] for choice, index in left if isinstance(choice, ValueChoice)]
        base = self.space.with_widths(dict(zip(self.stages_of_searched_width, chosen, strict=True)))
        stages, layers = list(base.stages), islice(left, len(chosen), None)
        for number, depth in sorted(self.space.depths.items()):
            names = [choice.names[index] for choice, index in islice(layers, depth)]
            stages[number - 1] = replace(stages[number - 1], layers=tuple(map(parse_layer, names)))
        return replace(base, stages=tuple(stages))

    @property
    def stages_of_searched_width(self) -> list[int]:
        """The stages whose channels are chosen."""
        return [number for number in sorted(self.space.depths) if len(self.space.widths_of(number)) > 1]

    def path_of(self, architecture: Architecture) -> list[int] | None:
        """See `Supernet.path_of`; skips fill up a stage of fewer layers, and where they stand is no difference."""
        if not isinstance(architecture, MobileArchitecture):
            return None
        path, left = [], iter(Choices(self))
        for number, choice in zip(self.stages_of_searched_width, left, strict=False):
            width = architecture.stages[number - 1].width if number <= len(architecture.stages) else 0
            if str(width) not in choice.names:
                return None
            path.append(choice.names.index(str(width)))
        for number, depth in sorted(self.space.depths.items()):
            layers = architecture.stages[number - 1].operations if number <= len(architecture.stages) else ()
            names = [*map(str, layers), *[SKIP] * (depth - len(layers))]
            for choice, name in zip(islice(left, depth), names, strict=False):
                if name not in choice.names:
                    return None
                path.append(choice.names.index(name))
        return path if _operations(self.architecture_of(path)) == _operations(architecture) else None


def _operations(architecture: MobileArchitecture) -> list[object]:
    """What computes something, in order."""
    stages = [(stage.width, stage.stride, stage.residual, stage.operations) for stage in architecture.stages]
    return [architecture.stem_width, architecture.head_width, *stages]


@build_supernet.register
def _(
    space: MobileSpace,
    out_stages: Sequence[int | str] | None = None,
    *,
    output_stride: int | None = None,
    norm: Norm = Norm(),  # noqa: B008 - frozen
) -> MobileSupernet:
    if out_stages is None:
        out_stages = pyramid_maps(space.base.levels(output_stride))
    return MobileSupernet(space, out_stages, output_stride, norm)
