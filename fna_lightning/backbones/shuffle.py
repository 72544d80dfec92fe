"""Backbones of ShuffleNetV2's blocks."""

from __future__ import annotations

from collections.abc import Sequence

from fna_lightning.architectures import ShuffleArchitecture, pyramid_maps
from fna_lightning.backbones.build import build_backbone
from fna_lightning.blocks import Norm, StagedNetwork, build_shuffle_stages, initialise_shuffle


class ShuffleBackbone(StagedNetwork):
    """A fixed network of ShuffleNetV2's blocks; `stages.<number>.<layer>.{side,main}` are its modules."""

    def __init__(
        self,
        architecture: ShuffleArchitecture,
        out_stages: Sequence[int | str],
        output_stride: int | None = None,
        norm: Norm = Norm(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(
            *build_shuffle_stages(
                architecture,
                out_stages,
                output_stride,
                norm,
                lambda plan: plan.build(architecture.stages[plan.stage - 1].layers[plan.place], norm),
            )
        )
        self.architecture = architecture
        initialise_shuffle(self.stages)


@build_backbone.register
def _(
    architecture: ShuffleArchitecture,
    out_stages: Sequence[int | str] | None = None,
    *,
    output_stride: int | None = None,
    norm: Norm = Norm(),  # noqa: B008 - frozen
) -> ShuffleBackbone:
    if out_stages is None:
        out_stages = pyramid_maps(architecture.levels(output_stride))
    return ShuffleBackbone(architecture, out_stages, output_stride, norm)
