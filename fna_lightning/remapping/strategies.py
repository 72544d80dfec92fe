"""How one tensor becomes another: which channels are kept, and where kernel taps go (spec FNA, section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fna_lightning.errors import ConfigError


@dataclass(frozen=True)
class Strategy:
    """A remapping rule.

    Attributes:
        width: which hidden channels survive where there are fewer: the first ones (FNA), or those of
            largest |scale| of their batch norm, standard deviation, or L1 norm (FNA, table 7).
        kernel: `centre` aligns the kernels' centres and pads with zeros (FNA); `dilation` spreads the
            taps evenly over a larger kernel.
    """

    width: Literal["first", "bn", "std", "l1"] = "first"
    kernel: Literal["centre", "dilation"] = "centre"


STRATEGIES: dict[str, Strategy | None] = {
    "fna": Strategy(),
    "width_bn": Strategy(width="bn"),
    "width_std": Strategy(width="std"),
    "width_l1": Strategy(width="l1"),
    "kernel_dilation": Strategy(kernel="dilation"),
    "random": None,
}
"""The rules by name; `random` carries nothing over."""


def strategy_named(name: str) -> Strategy | None:
    """The rule of that name, None for `random`.

    Raises:
        ConfigError: for another name.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"remap.strategy={name}: give one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name]


def hidden_channels(rows: Tensor, scale: Tensor, wanted: int, strategy: Strategy) -> Tensor:
    """Indices, ascending, of the hidden channels of a block that survive.

    Args:
        rows: (hidden, ...) the convolution that makes the hidden channels.
        scale: (hidden,) weight of the batch norm behind it.
        wanted: hidden channels of the target.
        strategy: its `width` ranks the channels.
    """
    kept = min(wanted, rows.shape[0])
    if strategy.width == "first" or kept == rows.shape[0]:
        return torch.arange(kept)
    flat = rows.flatten(1)
    value = {
        "bn": lambda: scale.abs(),
        "std": lambda: flat.std(dim=1),
        "l1": lambda: flat.abs().sum(dim=1),
    }[strategy.width]()
    return value.topk(kept).indices.sort().values


def place_weight(source: Tensor, shape: torch.Size, outputs: Tensor, inputs: Tensor, strategy: Strategy) -> Tensor:
    """A convolution weight of `shape` from `source`; what has no counterpart is zero (spec FNA 5.1).

    Args:
        source: (p, q, k, k).
        shape: (r, s, K, K) of the result.
        outputs: at most r indices into p, for the first rows of the result.
        inputs: at most s indices into q, for the first columns.
        strategy: its `kernel` places the taps.
    """
    picked = source.index_select(0, outputs).index_select(1, inputs)
    taps, place = _taps(source.shape[-1], shape[-1], strategy)
    result = source.new_zeros(shape)
    result[: len(outputs), : len(inputs), place, place] = picked[:, :, taps, taps]
    return result


def place_vector(source: Tensor, own: Tensor, outputs: Tensor) -> Tensor:
    """A per-channel tensor: the chosen entries of `source` first, then what `own` has there already."""
    if own.dim() == 0:
        return source.clone()
    result = own.clone()
    result[: len(outputs)] = source.index_select(0, outputs)
    return result


def _taps(old: int, new: int, strategy: Strategy) -> tuple[slice, slice]:
    """Which taps of an `old` kernel are kept, and their places in a `new` one."""
    if new <= old:
        start = (old - new) // 2
        return slice(start, start + new), slice(0, new)
    if strategy.kernel == "dilation" and old > 1 and (new - 1) % (old - 1) == 0:
        return slice(0, old), slice(0, new, (new - 1) // (old - 1))
    start = (new - old) // 2
    return slice(0, old), slice(start, start + old)
