"""One function for the supernets of every space."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

from fna_lightning.blocks import Backbone, Norm


@singledispatch
def build_supernet(
    space: object,
    out_stages: Sequence[int | str] | None = None,
    *,
    output_stride: int | None = None,
    norm: Norm = Norm(),  # noqa: B008 - frozen
) -> Backbone:
    """Build the supernet of `space`; each kind of space registers its own builder, beside its module.

    The other arguments are those of `fna_lightning.backbones.build_backbone`.

    Returns:
        A backbone that is a `fna_lightning.choices.Supernet` besides.

    Raises:
        ConfigError: where space and `out_stages` do not fit.
    """
    raise TypeError(f"no supernet for {type(space).__name__}: {out_stages} {output_stride} {norm}")
