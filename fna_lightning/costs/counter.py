"""Multiply-adds and parameters of a network, by FNA's convention (spec FNA, section 4)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from fna_lightning.blocks import Repeated, on_meta


class Share(NamedTuple):
    """What a part costs that runs several times an image."""

    what: str
    """That it runs on: `proposals`."""
    number: int
    """Of them an image has."""
    madds: int
    """Multiply-adds of each."""


@dataclass(frozen=True)
class Cost:
    """What one image costs.

    Attributes:
        madds: multiply-adds; one per multiply-and-add of convolutions and linear layers, one per output
            element for a convolution's bias, nothing for norms, activations and a linear layer's bias.
        params: parameters, whether they are trained or not.
        shares: of `madds`, what runs several times an image.
    """

    madds: int
    params: int
    shares: tuple[Share, ...] = ()

    def __str__(self) -> str:
        shares = "".join(f", {each.number:,} {each.what} included" for each in self.shares)
        return f"{self.madds / 1e6:,.2f} M multiply-adds{shares}, {self.params / 1e6:,.3f} M parameters"


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


def repeated(module: nn.Module) -> tuple[Repeated, ...]:
    """What `module` says that it runs besides `forward`, see `Network.repeated`; nothing where it says nothing."""
    says: Callable[[], tuple[Repeated, ...]] = getattr(module, "repeated", tuple)
    return says()


class Meter(ABC):
    """Adds up what running `module`, which lies on the meta device, costs; a context in which it runs."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    @abstractmethod
    def __enter__(self) -> Meter:
        """Start counting."""

    @abstractmethod
    def __exit__(self, *_: object) -> None:
        """Stop counting."""

    @abstractmethod
    def total(self) -> int:
        """What was counted so far, for one image."""

    @torch.no_grad()
    def run(self, shape: Sequence[int]) -> None:
        """Run the module on images of `shape` (C, H, W), and what runs besides as often as it does then."""
        # Two, because norms without running statistics refuse a map of a single pixel.
        self._module(torch.empty((2, *shape), device="meta"))
        for part in repeated(self._module):
            part.module(torch.empty((2 * part.number, *part.shape), device="meta"))


_FREE = (_BatchNorm, nn.ReLU, nn.ReLU6)
"""What costs nothing and keeps shapes."""


def _as_it_is(input: Tensor) -> Tensor:  # noqa: A002 - torch's name
    return input


class MaddsMeter(Meter):
    """Multiply-adds, see `Cost`; what runs on several maps counts on each."""

    def __enter__(self) -> Meter:
        self._passed = [module for module in self._module.modules() if isinstance(module, _FREE)]
        for module in self._passed:
            module.forward = _as_it_is  # on the meta device it would take longer than all that costs something
        self._counter = FlopCounterMode(display=False, custom_mapping=_MADDS)
        self._counter.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._counter.__exit__(None, None, None)
        for module in self._passed:
            del module.forward

    def total(self) -> int:
        """Multiply-adds so far."""
        return self._counter.get_total_flops() // 2


class ParamsMeter(Meter):
    """Parameters that are computed with, each once; of a sliced tensor the part that is.

    A batch norm without scale and offset counts as one that has both: the searched layers of a supernet may
    lack them, the network that is derived has them (spec FNA 2.5).
    """

    def __enter__(self) -> Meter:
        self._used: dict[int, int] = {}
        parameters = {_storage(parameter) for parameter in self._module.parameters()}
        self._mode = _ParameterUse(parameters, self._used)
        norms = [m for m in self._module.modules() if isinstance(m, _BatchNorm) and not m.affine]
        self._hooks = [norm.register_forward_hook(self._note_norm) for norm in norms]
        self._mode.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._mode.__exit__(None, None, None)
        for hook in self._hooks:
            hook.remove()

    def total(self) -> int:
        """Parameters so far."""
        return sum(self._used.values())

    def _note_norm(self, norm: nn.Module, _: Any, output: Tensor) -> None:
        self._used[id(norm)] = max(self._used.get(id(norm), 0), 2 * output.shape[1])


class _ParameterUse(TorchDispatchMode):
    """Notes how much of each parameter, by its storage, is read by something that computes."""

    def __init__(self, parameters: Collection[int], used: dict[int, int]) -> None:
        super().__init__()
        self._parameters = parameters
        self._used = used

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view:
            for value in tree_leaves((args, kwargs)):
                if isinstance(value, Tensor) and (key := _storage(value)) in self._parameters:
                    self._used[key] = max(self._used.get(key, 0), value.numel())
        return func(*args, **(kwargs or {}))


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


METERS: dict[str, type[Meter]] = {"madds": MaddsMeter, "params": ParamsMeter}
"""What can be counted, by the name of the quantity."""


def count(module: nn.Module, input_size: tuple[int, int], channels: int = 3) -> Cost:
    """Multiply-adds and parameters of `module` on one image, without computing anything.

    Args:
        module: a network whose forward takes images (N, C, H, W), and which may have a method `repeated`, see
            `Network`; it is left as it is.
        input_size: (H, W) in pixels.
        channels: C.
    """
    shell = on_meta(module).eval()
    shares = tuple(Share(part.what, part.number, _madds(part.module, part.shape)) for part in repeated(shell))
    params = sum(parameter.numel() for parameter in module.parameters())
    return Cost(_madds(shell, (channels, *input_size)), params, shares)


def _madds(shell: nn.Module, shape: Sequence[int]) -> int:
    with MaddsMeter(shell) as meter:
        meter.run(shape)
        return meter.total()
