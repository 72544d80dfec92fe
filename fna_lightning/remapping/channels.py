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
    def grown(cls, kept: Tensor, wanted: int, copies: bool, nested: bool = False) -> ChannelMap:
        """The channels `kept`, and behind them up to `wanted` nothing, or copies of them one after another.

        The network's function stays: readers take copies of a channel by parts that add up to one, unequal ones,
        because equal ones would have equal gradients and stay alike. Where any prefix of the channels may run
        alone, they take the first of the copies whole and the others by zero, from where they learn.
        """
        if wanted <= len(kept) or not copies:
            return cls.of(kept, wanted)
        sources = kept[torch.arange(wanted) % len(kept)]
        if nested:
            return cls(sources, (torch.arange(wanted) < len(kept)).double())
        parts = 0.5 + torch.rand(wanted, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        whole = torch.zeros(int(sources.max()) + 1, dtype=torch.float64).index_add(0, sources, parts)
        return cls(sources, parts / whole[sources])

    @property
    def carried(self) -> Tensor:
        """(n,) which channels have a source."""
        return self.sources != NOTHING

    def rows(self, values: Tensor, missing: float) -> Tensor:
        """(n, ...) of the source's (m, ...) values those that the channels carry, and `missing` for the others."""
        result = values.new_full((len(self.sources), *values.shape[1:]), missing)
        result[self.carried] = values[self.sources[self.carried]]
        return result
