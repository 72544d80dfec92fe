"""Channel maps: what each channel of a target's stream carries of a source's stream."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NOTHING = -1


@dataclass(frozen=True)
class ChannelMap:
    """Where the channels of one stream come from.

    A stream is what one convolution writes and others read: the map between two layers, or the hidden one inside a
    block. Whoever writes it takes the rows of `sources`; whoever reads it the columns, times `factors`. A channel
    that stands for one of several copies is thus read by its share, and the network's function stays.

    Attributes:
        sources: (n,) int64, the source's channel for each channel of the target; `NOTHING` for none.
        factors: (n,) float64, by which readers multiply; None leaves them as they are.
    """

    sources: Tensor
    factors: Tensor | None = None

    @classmethod
    def first(cls, wanted: int, given: int) -> ChannelMap:
        """The leading channels of `given`, and nothing behind them (FNA, section 3.2)."""
        return cls.of(torch.arange(min(wanted, given)), wanted)

    @classmethod
    def of(cls, kept: Tensor, wanted: int) -> ChannelMap:
        """The channels `kept`, in this order, and nothing behind them up to `wanted`."""
        return cls(torch.cat([kept, kept.new_full((wanted - len(kept),), NOTHING)]))

    @classmethod
    def cyclic(cls, wanted: int, given: int) -> ChannelMap:
        """All of `given` again and again; readers divide by how often each is there."""
        sources = torch.arange(wanted) % given
        return cls(sources, 1 / sources.bincount(minlength=given)[sources].double())

    @property
    def carried(self) -> Tensor:
        """(n,) which channels have a source."""
        return self.sources != NOTHING

    def rows(self, values: Tensor, missing: float) -> Tensor:
        """(n, ...) of the source's (m, ...) values those that the channels carry, and `missing` for the others."""
        result = values.new_full((len(self.sources), *values.shape[1:]), missing)
        result[self.carried] = values[self.sources[self.carried]]
        return result
