"""Which block of a seed each block of a mobile network takes its parameters from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from fna_lightning.architectures import MobileArchitecture
from fna_lightning.blocks import ConvNorm, InvertedResidual, StagedNetwork
from fna_lightning.checkpoints import Seed
from fna_lightning.choices import LayerChoice
from fna_lightning.errors import CheckpointError, ConfigError
from fna_lightning.remapping.strategies import Strategy, hidden_channels, place_vector, place_weight

Block = ConvNorm | InvertedResidual
Placed = dict[str, tuple[str, Tensor]]
"""Target tensor -> (source tensor's name, the remapped value)."""


def place_seed(seed: Seed, target: StagedNetwork, strategy: Strategy) -> Placed:
    """Remap depth, width and kernel of `seed` to every block of `target`, a backbone or a supernet.

    Raises:
        ConfigError: where the two have different stages.
        CheckpointError: where a tensor that is needed is missing.
    """
    placed: Placed = {}
    state = target.state_dict()
    for prefix, block, source in _pairs(seed.architecture, target):
        if isinstance(block, InvertedResidual):
            placed |= _place_block(seed, source, prefix, block, state, strategy)
        else:
            old, new = _tensor(seed, f"{source}.conv.weight").shape, block.conv.weight.shape
            rows, columns = torch.arange(min(old[0], new[0])), torch.arange(min(old[1], new[1]))
            placed |= _place_part(seed, source, prefix, state, rows, columns, strategy)
    return placed


def place_supernet(supernet: dict[str, Tensor], target: StagedNetwork) -> Placed:
    """The tensors of a supernet's path that `target`, derived from it, takes over one to one.

    Searched layers give their convolutions alone, because their norms have no parameters.

    Raises:
        CheckpointError: where the supernet lacks a layer of the target, or it has another shape.
    """
    architecture = cast("MobileArchitecture", target.architecture)
    placed: Placed = {}
    for name, own in target.state_dict().items():
        number, _, rest = name.removeprefix("stages.").partition(".")
        source = name
        if 1 <= int(number) <= len(architecture.stages) and name not in supernet:
            layer, _, rest = rest.partition(".")
            operation = architecture.stages[int(number) - 1].layers[int(layer)]
            source = f"stages.{number}.{layer}.candidates.{operation}.{rest}"
            if ".norm." in source:
                continue
        if source not in supernet:
            raise CheckpointError(f"the supernet lacks {source}: was this architecture found in it?")
        if supernet[source].shape != own.shape:
            raise CheckpointError(
                f"the supernet's {source} is {tuple(supernet[source].shape)}, the target's {tuple(own.shape)}"
            )
        placed[name] = (source, supernet[source].clone())
    return placed


def _pairs(seed: MobileArchitecture, target: StagedNetwork) -> Iterator[tuple[str, Block, str]]:
    """(target's prefix, block, seed's prefix): depth remapping, f(i) = min(i, l) (spec FNA 5.1)."""
    for number, stage in enumerate(target.stages):
        prefix = f"stages.{number}"
        if isinstance(stage, ConvNorm):
            yield prefix, stage, f"stages.{0 if number == 0 else seed.head_stage}"
            continue
        if number > len(seed.stages):
            raise ConfigError(f"the target has a stage {number}, the seed only {len(seed.stages)} stages")
        sources = [i for i, layer in enumerate(seed.stages[number - 1].layers) if layer is not None]
        depth = 0
        for index, layer in enumerate(cast("nn.Sequential", stage)):
            source = f"stages.{number}.{sources[min(depth, len(sources) - 1)]}"
            if isinstance(layer, LayerChoice):
                for name, candidate in layer.candidates.items():
                    if isinstance(candidate, InvertedResidual):
                        yield f"{prefix}.{index}.candidates.{name}", candidate, source
            elif isinstance(layer, InvertedResidual):
                yield f"{prefix}.{index}", layer, source
            else:
                continue  # A skip has no parameters and no place in the seed's count.
            depth += 1


def _place_block(
    seed: Seed, source: str, prefix: str, block: InvertedResidual, state: dict[str, Tensor], strategy: Strategy
) -> Placed:
    has_expansion = f"{source}.expand.conv.weight" in seed.state
    first = "expand" if has_expansion else "depthwise"
    depthwise, project = (_tensor(seed, f"{source}.{part}.conv.weight") for part in ("depthwise", "project"))
    hidden = hidden_channels(
        _tensor(seed, f"{source}.{first}.conv.weight"),
        _tensor(seed, f"{source}.{first}.norm.weight"),
        block.depthwise.conv.out_channels,
        strategy,
    )
    outputs = torch.arange(min(block.project.conv.out_channels, project.shape[0]))
    placed: Placed = {}
    if has_expansion and isinstance(block.expand, ConvNorm):
        in_width = _tensor(seed, f"{source}.expand.conv.weight").shape[1]
        inputs = torch.arange(min(block.expand.conv.in_channels, in_width))
        placed |= _place_part(seed, f"{source}.expand", f"{prefix}.expand", state, hidden, inputs, strategy)
    one = torch.arange(depthwise.shape[1])
    placed |= _place_part(seed, f"{source}.depthwise", f"{prefix}.depthwise", state, hidden, one, strategy)
    placed |= _place_part(seed, f"{source}.project", f"{prefix}.project", state, outputs, hidden, strategy)
    return placed


def _place_part(
    seed: Seed,
    source: str,
    prefix: str,
    state: dict[str, Tensor],
    outputs: Tensor,
    inputs: Tensor,
    strategy: Strategy,
) -> Placed:
    """One convolution with its batch norm, as far as the target has them."""
    name = f"{source}.conv.weight"
    weight = place_weight(_tensor(seed, name), state[f"{prefix}.conv.weight"].shape, outputs, inputs, strategy)
    placed: Placed = {f"{prefix}.conv.weight": (name, weight)}
    for tensor in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        name, own = f"{source}.norm.{tensor}", state.get(f"{prefix}.norm.{tensor}")
        optional = tensor == "num_batches_tracked" and name not in seed.state
        if own is not None and not optional:
            placed[f"{prefix}.norm.{tensor}"] = (name, place_vector(_tensor(seed, name), own, outputs))
    return placed


def _tensor(seed: Seed, name: str) -> Tensor:
    if name not in seed.state:
        raise CheckpointError(f"{seed.source or 'the seed'}: lacks the tensor {name}")
    return seed.state[name]
