"""FNA's space: kernel, expansion and depth of inverted residual blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import ClassVar, Literal

from torch import nn

from fna_lightning.architectures import SKIP, Architecture, MobileArchitecture, Operation, pyramid_maps
from fna_lightning.architectures.mobile import Layer, parse_layer
from fna_lightning.blocks import (
    SEARCHED_NORM,
    Norm,
    StagedNetwork,
    StagePlan,
    build_mobile_stages,
    initialise,
)
from fna_lightning.choices import Choices, LayerChoice, Supernet
from fna_lightning.errors import ConfigError
from fna_lightning.supernets.build import build_supernet

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


def _check_kind(base: Architecture) -> None:
    """A run may have any architecture; this space takes one of its own kind alone."""
    if base.kind != MobileArchitecture.kind:
        raise ConfigError(
            f"architecture is of kind {base.kind}, but space searches those of kind {MobileArchitecture.kind}"
        )


class MobileSupernet(StagedNetwork, Supernet):
    """All candidates of a `MobileSpace` side by side, with norms as the space says.

    Searched layers are `stages.<number>.<layer>`, their candidates `.candidates.<operation>` behind that.
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
            *build_mobile_stages(space.base, out_stages, output_stride, norm, space.first_layers, build_stage)
        )
        last = len(self.stages) - 1
        if max(space.depths) > last:
            raise ConfigError(
                f"stage {max(space.depths)} is searched, but the detector reads only up to stage {last}"
            )
        self.space = space
        initialise(self)

    def architecture_of(self, path: Sequence[int]) -> MobileArchitecture:
        """The network of `path`, with skips where they were chosen."""
        stages, left = list(self.space.base.stages), zip(Choices(self), path, strict=True)
        for number, depth in sorted(self.space.depths.items()):
            names = [choice.names[index] for choice, index in islice(left, depth)]
            stages[number - 1] = replace(stages[number - 1], layers=tuple(map(parse_layer, names)))
        return replace(self.space.base, stages=tuple(stages))

    def path_of(self, architecture: Architecture) -> list[int] | None:
        """See `Supernet.path_of`; skips fill up a stage of fewer layers, and where they stand is no difference."""
        if not isinstance(architecture, MobileArchitecture):
            return None
        path, left = [], iter(Choices(self))
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
    stages = [(stage.width, stage.stride, stage.operations) for stage in architecture.stages]
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
