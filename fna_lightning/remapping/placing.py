"""Tensors by a plan: channels by their maps, kernel taps by the strategy (spec FNA, section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import FrozenBatchNorm2d

from fna_lightning.checkpoints import Seed
from fna_lightning.choices import LayerChoice
from fna_lightning.errors import CheckpointError
from fna_lightning.remapping.channels import ChannelMap
from fna_lightning.remapping.plan import Plan, chosen_layers
from fna_lightning.remapping.strategies import Strategy

_VECTORS: tuple[tuple[Literal["conv", "norm"], str], ...] = (
    ("conv", "bias"),
    ("norm", "weight"),
    ("norm", "bias"),
    ("norm", "running_mean"),
    ("norm", "running_var"),
    ("norm", "num_batches_tracked"),
)

Placed = dict[str, tuple[str, Tensor]]
"""Target tensor -> (source tensor's name, the remapped value)."""
NO_SOURCE = ""
"""In place of that name: the tensor is zero for want of a source."""


def place_seed(plan: Plan, seed: Seed, own: Mapping[str, Tensor], strategy: Strategy) -> Placed:
    """The tensors that `plan` takes from `seed`.

    Args:
        plan: which convolution, which channels.
        seed: gives the numbers.
        own: the target's state; what a norm has no source for stays as it is there.
        strategy: its `kernel` places the taps.

    Raises:
        CheckpointError: where a tensor that is needed is missing.
    """
    placed: Placed = {}
    for move in plan:
        source, target = move.tensors("conv", "weight")
        if ("conv", "weight") not in move.computed:
            weight = place_weight(seed.tensor(source), own[target], move.outputs, move.inputs, strategy)
            placed[target] = (source, weight)
        for part, tensor in _VECTORS:
            source, target = move.tensors(part, tensor)
            optional = tensor == "num_batches_tracked" and source not in seed.state
            if target in own and not optional:
                placed[target] = (source, place_vector(seed.tensor(source), own[target], move.outputs))
        for (part, tensor), (value, _) in move.computed.items():
            source, target = move.tensors(part, tensor)
            if target in own:
                placed[target] = (source, value.to(seed.tensor(source).dtype).reshape(own[target].shape))
    return placed


@singledispatch
def place_supernet(target: nn.Module, supernet_state: Mapping[str, Tensor]) -> Placed:
    """The tensors of a supernet's path that `target`, derived from it, takes over.

    They go over one to one, those of `chosen_layers` from the candidate's place; norms of searched layers where
    they have parameters or statistics, which FNA's have not. Of layers with more channels than the target's, which
    a path computes in slices, the first are taken. A kind of network whose supernet holds more than the layers
    that a path takes registers its own rule.

    Raises:
        CheckpointError: where the supernet lacks a layer of the target, or it has another shape.
    """
    own = target.state_dict()
    sources = {name: name for name in own}
    for layer, candidate in chosen_layers(target).items():
        prefix = LayerChoice.name_of(layer, candidate)
        for name in target.get_submodule(layer).state_dict():
            if f"{layer}.{name}" not in supernet_state:
                sources[f"{layer}.{name}"] = f"{prefix}.{name}"
    placed: Placed = {}
    for name, source in sources.items():
        if source not in supernet_state and source != name and _is_of_norm(target, name):
            continue
        placed[name] = (source, taken(source, supernet_state, own[name].shape, slices=True))
    return placed


def taken(source: str, supernet_state: Mapping[str, Tensor], shape: torch.Size, *, slices: bool = False) -> Tensor:
    """A copy of a supernet's tensor, which the target has in this shape; with `slices`, of its first channels.

    Raises:
        CheckpointError: where there is none, or its channels are fewer, or its kernel another.
    """
    if source not in supernet_state:
        raise CheckpointError(f"the supernet lacks {source}: was this architecture found in it?")
    value = supernet_state[source]
    own = value[tuple(map(slice, shape[:2]))] if slices and value.dim() == len(shape) else value
    if own.shape != shape:
        raise CheckpointError(f"the supernet's {source} is {tuple(value.shape)}, the target's {tuple(shape)}")
    return own.clone()


def place_weight(
    source: Tensor, own: Tensor, outputs: ChannelMap, inputs: ChannelMap, strategy: Strategy
) -> Tensor:
    """A convolution weight like `own` from `source`; what has no counterpart is zero (spec FNA 5.1).

    Args:
        source: (p, q, k, k).
        own: (r, s, K, K), the target's, which keeps rows and columns without a source if they grow at random.
        outputs: (r,) rows among the p.
        inputs: (s,) columns among the q.
        strategy: its `kernel` places the taps.
    """
    rows, columns = outputs.carried, inputs.carried
    old, new = _taps(source.shape[-1], own.shape[-1], strategy)
    picked = source.index_select(0, outputs.sources[rows]).index_select(1, inputs.sources[columns])[..., old, old]
    if inputs.factors is not None:
        picked = picked * inputs.factors[columns, None, None].to(picked.dtype)
    result = own.to(source, copy=True) if strategy.grow == "random" else source.new_zeros(own.shape)
    placed = source.new_zeros((*picked.shape[:2], *own.shape[2:]))
    placed[..., new, new] = picked
    result[rows.nonzero(), columns.nonzero().T] = placed
    return result


def place_vector(source: Tensor, own: Tensor, outputs: ChannelMap) -> Tensor:
    """A per-channel tensor: the entries that `outputs` carries, and between them what `own` has there already."""
    if own.dim() == 0:
        return source.clone()
    # On the seed's side: the target may lie on a GPU by now, and seeds are sometimes stored in half precision.
    result = own.to(source.device, copy=True)
    carried = source.index_select(0, outputs.sources[outputs.carried])
    result[outputs.carried] = carried.to(result.dtype)
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


def _is_of_norm(network: nn.Module, name: str) -> bool:
    """Whether the tensor `name` belongs to a batch norm, synchronised, fixed or neither."""
    return isinstance(network.get_submodule(name.rpartition(".")[0]), (_BatchNorm, FrozenBatchNorm2d))
