"""Backbones of inverted residual blocks."""

from __future__ import annotations

from collections.abc import Sequence

from fna_lightning.architectures import MobileArchitecture, pyramid_maps
from fna_lightning.backbones.build import build_backbone
from fna_lightning.blocks import Norm, StagedNetwork, build_mobile_stages, initialise


class MobileBackbone(StagedNetwork):
    """A fixed network of inverted residual blocks; `stages.<number>.<layer>` are its modules.

    Skips stay in place as identities, so that a layer's number is its position in the architecture.
    """

    def __init__(
        self,
        architecture: MobileArchitecture,
        out_stages: Sequence[int | str],
        output_stride: int | None = None,
        norm: Norm = Norm(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(
            *build_mobile_stages(
                architecture,
                out_stages,
                output_stride,
                norm,
                lambda number: architecture.stages[number - 1].layers[:1],
                lambda plan: plan.build(norm),
            )
        )
        self.architecture = architecture
        initialise(self)


@build_backbone.register
def _(
    architecture: MobileArchitecture,
    out_stages: Sequence[int | str] | None = None,
    *,
    output_stride: int | None = None,
    norm: Norm = Norm(),  # noqa: B008 - frozen
) -> MobileBackbone:
    if out_stages is None:
        out_stages = pyramid_maps(architecture.levels(output_stride))
    return MobileBackbone(architecture, out_stages, output_stride, norm)
