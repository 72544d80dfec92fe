"""One function for backbones of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

from fna_lightning.architectures import Architecture, MobileArchitecture
from fna_lightning.backbones.mobile import MobileBackbone
from fna_lightning.blocks import Norm, StagedNetwork


@singledispatch
def build_backbone(
    architecture: Architecture,
    out_stages: Sequence[int | str] = (2, 3, 5, 7),
    *,
    output_stride: int | None = None,
    norm: Norm = Norm(),  # noqa: B008 - frozen
) -> StagedNetwork:
    """Build the network of `architecture`; each kind of architecture registers its own builder.

    Args:
        architecture: what to build.
        out_stages: numbers of the stages whose maps come out, as FNA counts blocks (0 = stem);
            the network ends with the last of them. `6.expand` is the map inside stage 6 behind the expansion
            of its first layer.
        output_stride: the largest stride wanted; beyond it strides become dilations.
        norm: settings of the batch norms.

    Returns:
        A module; `forward(images (N, 3, H, W))` gives the maps by their names as text.
    """
    raise TypeError(
        f"no backbone for architectures of type {type(architecture).__name__}: {out_stages} {output_stride} {norm}"
    )


@build_backbone.register
def _(
    architecture: MobileArchitecture,
    out_stages: Sequence[int | str] = (2, 3, 5, 7),
    *,
    output_stride: int | None = None,
    norm: Norm = Norm(),  # noqa: B008 - frozen
) -> StagedNetwork:
    return MobileBackbone(architecture, out_stages, output_stride, norm)
