"""Multiply-adds and parameters of a network, by FNA's convention (spec FNA, section 4)."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True)
class Cost:
    """What one image costs.

    Attributes:
        madds: multiply-adds; one per multiply-and-add of convolutions and linear layers, one per output
            element for a convolution's bias, nothing for norms, activations and a linear layer's bias.
        params: parameters, whether they are trained or not.
    """

    madds: int
    params: int

    def __str__(self) -> str:
        return f"{self.madds / 1e6:,.2f} M multiply-adds, {self.params / 1e6:,.3f} M parameters"


def _convolution(
    x: Sequence[int],
    weight: Sequence[int],
    bias: Sequence[int] | None,
    _stride: Any,
    _padding: Any,
    _dilation: Any,
    transposed: bool,
    *_: Any,
    out_shape: Sequence[int],
    **__: Any,
) -> int:
    pixels = math.prod(x) if transposed else math.prod(out_shape)
    return pixels * math.prod(weight[1:]) + (math.prod(out_shape) if bias is not None else 0)


def _matrix_product(a: Sequence[int], b: Sequence[int], **_: Any) -> int:
    return math.prod(a) * b[-1]


def _matrix_product_and_bias(_bias: Sequence[int], a: Sequence[int], b: Sequence[int], **_: Any) -> int:
    return math.prod(a) * b[-1]


_aten = torch.ops.aten
_MADDS = {
    _aten.convolution: _convolution,
    _aten.mm: _matrix_product,
    _aten.bmm: _matrix_product,
    _aten.addmm: _matrix_product_and_bias,
}


def on_meta(module: ModuleT) -> ModuleT:
    """A copy of `module` whose tensors have shapes but no storage; no memory is copied."""
    memo: dict[int, Any] = {}
    for tensor in [*module.parameters(), *module.buffers()]:
        shell = tensor.detach().to("meta")
        memo[id(tensor)] = nn.Parameter(shell, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else shell
    return copy.deepcopy(module, memo)


def count_madds(module: nn.Module, shape: Sequence[int]) -> int:
    """Multiply-adds of `module` on one input of `shape` (C, H, W); `module` lies on the meta device."""
    counter = FlopCounterMode(display=False, custom_mapping=_MADDS)
    with torch.no_grad(), counter:
        # Two, because norms without running statistics refuse a map of a single pixel.
        module(torch.empty((2, *shape), device="meta"))
    return counter.get_total_flops() // 2


def count(module: nn.Module, input_size: tuple[int, int], channels: int = 3) -> Cost:
    """Multiply-adds and parameters of `module` on one image, without computing anything.

    Args:
        module: a network whose forward takes images (N, C, H, W); it is left as it is.
        input_size: (H, W) in pixels.
        channels: C.
    """
    shell = on_meta(module).eval()
    madds = count_madds(shell, (channels, *input_size))
    return Cost(madds, sum(parameter.numel() for parameter in module.parameters()))
