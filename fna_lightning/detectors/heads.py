"""Which towers stand between pyramid and predictions."""

from __future__ import annotations

from typing import Any

from torch import nn

from fna_lightning.detectors.plain_towers import PlainTowers
from fna_lightning.errors import ConfigError


def build_head_towers(head: Any, width: int, channels: int, cells: int, depth: int) -> nn.Module:
    """The towers of an architecture or a space of heads, or plain ones where there is none.

    Args:
        head: architecture or space; None for plain towers.
        width: channels of the pyramid's levels, of what the towers read and give.
        channels: of the operations inside the cells of `head`.
        cells: of `head`, in series in a tower.
        depth: convolutions of a plain tower.

    Returns:
        A module from the map of a level (N, width, H, W) to that for its boxes and that for its classes.

    Raises:
        ConfigError: there are no towers of that kind of head.
    """
    if head is None:
        return PlainTowers(width, depth)
    # JOIN: return build_towers(head, width, channels, cells) of fna_lightning.blocks.
    raise ConfigError(
        f"architecture: no towers of a head of kind {getattr(head, 'kind', type(head).__name__)} with "
        f"detector.tower_channels={channels} and detector.tower_cells={cells}; leave it out"
    )
