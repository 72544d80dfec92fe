"""Backbones of inverted residual blocks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from fna_lightning.architectures import MobileArchitecture, pyramid_maps
from fna_lightning.backbones.build import build_backbone
from fna_lightning.blocks import (
    InvertedResidual,
    Norm,
    StagedNetwork,
    StagePlan,
    build_mobile_stages,
    initialise,
)


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
        def build_stage(plan: StagePlan) -> nn.Module:
            width = plan.stage.width
            layers: list[nn.Module] = []
            for index, operation in enumerate(plan.stage.layers):
                if operation is None:
                    layers.append(nn.Identity())
                    continue
                first = index == 0
                layers.append(
                    InvertedResidual(
                        operation,
                        plan.in_width if first else width,
                        width,
                        stride=plan.stride if first else 1,
                        dilation=plan.dilation,
                        norm=norm,
                        exposed=plan.exposed and first,
                    )
                )
            return nn.Sequential(*layers)

        super().__init__(
            *build_mobile_stages(
                architecture,
                out_stages,
                output_stride,
                norm,
                lambda number: architecture.stages[number - 1].layers[:1],
                build_stage,
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
