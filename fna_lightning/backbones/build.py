"""One function for backbones of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

from fna_lightning.architectures import Architecture
from fna_lightning.blocks import Backbone, Norm


@singledispatch
def build_backbone(
    architecture: Architecture,
    out_stages: Sequence[int | str] | None = None,
    *,
    output_stride: int | None = None,
    norm: Norm = Norm(),  # noqa: B008 - frozen
) -> Backbone:
    """Build the network of `architecture`; each kind of architecture registers its own builder, beside its module.

    Args:
        architecture: what to build.
        out_stages: names of the maps that come out, as in `architecture.levels()`; the network ends with the last
            of them. For a mobile architecture numbers of stages as FNA counts blocks (0 = stem), and `6.expand`
            for the map inside stage 6 behind the expansion of its first layer. Default: the last stage of every
            stride from 4 on.
        output_stride: the largest stride wanted; beyond it strides become dilations.
        norm: settings of the batch norms.

    Returns:
        A module; `forward(images (N, 3, H, W))` gives the maps by their names as text.

    Raises:
        ConfigError: where the network has no such maps.
    """
    raise TypeError(
        f"no backbone for architectures of type {type(architecture).__name__}: {out_stages} {output_stride} {norm}"
    )
