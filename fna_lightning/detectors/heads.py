"""Towers between pyramid and predictions that were searched, or are to be."""

from __future__ import annotations

from typing import Any

from torch import nn

from fna_lightning.errors import ConfigError


def build_head_towers(head: Any, width: int, channels: int, cells: int) -> nn.Module:
    """The towers of an architecture or a space of heads.

    Args:
        head: architecture or space.
        width: channels of the pyramid's levels, which the towers read and give.
        channels: of the operations inside the cells.
        cells: in series in a tower.

    Returns:
        A module from the map of a level (N, width, H, W) to that for its boxes and that for its classes.

    Raises:
        ConfigError: there are no towers of that kind of head.
    """
    # JOIN: return build_towers(head, width, channels, cells) of fna_lightning.blocks.
    kind = getattr(head, "kind", type(head).__name__)
    raise ConfigError(
        f"architecture: no towers of a head of kind {kind}, of {width} channels and with "
        f"detector.tower_channels={channels} and detector.tower_cells={cells}; leave it out"
    )
