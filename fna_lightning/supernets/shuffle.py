"""DetNAS's space: the operations of ShuffleNetV2's blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn

from fna_lightning.architectures import Architecture, ShuffleArchitecture, pyramid_maps
from fna_lightning.architectures.shuffle_encodings import CANDIDATES
from fna_lightning.blocks import BlockPlan, Norm, StagedNetwork, build_shuffle_stages, initialise_shuffle
from fna_lightning.choices import Choices, LayerChoice, Supernet
from fna_lightning.errors import ConfigError
from fna_lightning.supernets.build import build_supernet


@dataclass(frozen=True)
class ShuffleSpace:
    """Which blocks are searched, and among what (spec DetNAS 1).

    Attributes:
        base: gives layout, widths and numbers of blocks, and the blocks of the stages that are not searched.
        candidates: operations of every searched block, in the order of paths.
        stages: numbers of the searched stages, counted from 1; None for all.

    Raises:
        ConfigError: naming the setting that cannot be.
    """

    part: ClassVar[str] = "backbone"

    base: ShuffleArchitecture
    candidates: Sequence[str] = CANDIDATES
    stages: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if not self.candidates or len(set(self.candidates)) != len(self.candidates):
            raise ConfigError(f"candidates {list(self.candidates)}: give each operation once, and at least one")
        for name in self.candidates:
            if name not in CANDIDATES:
                raise ConfigError(f"candidates name {name!r}: choose among {', '.join(CANDIDATES)}")
        last = len(self.base.stages)
        for number in self.searched:
            if not 1 <= number <= last:
                raise ConfigError(f"stages name {number}: searched stages are 1 to {last}")
        if not self.searched:
            raise ConfigError("the space searches no stage: give stages such as [3, 4], or null for all")

    @property
    def searched(self) -> tuple[int, ...]:
        """The numbers of the searched stages, ascending."""
        if self.stages is None:
            return tuple(range(1, len(self.base.stages) + 1))
        return tuple(sorted(set(self.stages)))


class ShuffleSupernet(StagedNetwork, Supernet):
    """All candidates of a `ShuffleSpace` side by side, with norms as those of the fixed network.

    Searched blocks are `stages.<number>.<layer>`, their candidates `.candidates.<operation>` behind that. Their
    norms are scaled and keep running statistics, which are estimated anew for every path that is scored.
    """

    def __init__(
        self,
        space: ShuffleSpace,
        out_stages: Sequence[int | str],
        output_stride: int | None = None,
        norm: Norm = Norm(),  # noqa: B008 - frozen
    ) -> None:
        def build_block(plan: BlockPlan) -> nn.Module:
            if plan.stage not in space.searched:
                return plan.build(space.base.stages[plan.stage - 1].layers[plan.place], norm)
            return LayerChoice({name: plan.build(name, norm) for name in space.candidates})

        super().__init__(*build_shuffle_stages(space.base, out_stages, output_stride, norm, build_block))
        last = len(self.stages) - 1
        if space.searched[-1] > last:
            raise ConfigError(
                f"stage {space.searched[-1]} is searched, but the detector reads only up to stage {last}"
            )
        self.space = space
        initialise_shuffle(self.stages)

    def architecture_of(self, path: Sequence[int]) -> ShuffleArchitecture:
        """The network of `path`, in the layout of the supernet, whose weights it can take over."""
        stages = list(self.space.base.stages)
        chosen = (choice.names[index] for choice, index in zip(Choices(self), path, strict=True))
        for number in self.space.searched:
            stage = stages[number - 1]
            stages[number - 1] = replace(stage, layers=tuple(next(chosen) for _ in stage.layers))
        return replace(self.space.base, stages=tuple(stages))

    def path_of(self, architecture: Architecture) -> list[int] | None:
        """See `Supernet.path_of`."""
        own = self.space.base
        if not isinstance(architecture, ShuffleArchitecture) or len(architecture.stages) != len(own.stages):
            return None
        names = [name for number in self.space.searched for name in architecture.stages[number - 1].layers]
        choices = list(Choices(self))
        places = [(each.names, name) for each, name in zip(choices, names, strict=False) if name in each.names]
        if not len(places) == len(names) == len(choices):
            return None
        path = [given.index(name) for given, name in places]
        return path if self.architecture_of(path) == architecture else None


@build_supernet.register
def _(
    space: ShuffleSpace,
    out_stages: Sequence[int | str] | None = None,
    *,
    output_stride: int | None = None,
    norm: Norm = Norm(),  # noqa: B008 - frozen
) -> ShuffleSupernet:
    if out_stages is None:
        out_stages = pyramid_maps(space.base.levels(output_stride))
    return ShuffleSupernet(space, out_stages, output_stride, norm)
