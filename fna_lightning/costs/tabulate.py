"""The cost of every candidate, counted where it stands."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from fna_lightning.blocks import on_meta
from fna_lightning.choices import Choice, Choices
from fna_lightning.costs.counter import METERS, Meter
from fna_lightning.costs.knapsack import Term
from fna_lightning.costs.table import CostTable, Quantity
from fna_lightning.errors import ConfigError

_MOST_COMBINATIONS = 10_000
"""Of the choices that one module's cost depends on: each is a run of the network on the meta device."""


def tabulate(
    network: nn.Module, input_size: tuple[int, int], quantity: Quantity = "madds", channels: int = 3
) -> CostTable:
    """Count what every choice of `network` may cost, for one image of `input_size` (H, W), computing nothing.

    The network runs on the meta device until every candidate has been on a path. What it costs is read around
    each `scope`: a choice that is called, or a module that reads choices; one that runs on several maps costs
    their sum. In place of a module with a method `counted_as`, which keeps what its derived form lacks, what that
    gives is run. Where a scope depends on several choices, as a sliced convolution on its input's and its output's
    channels, every combination of them is counted.

    Args:
        network: takes images (N, C, H, W); left as it is.
        input_size: in pixels.
        quantity: `madds`, or `params` of the network that a path is derived to.
        channels: C.

    Raises:
        ConfigError: where a scope depends on so many choices that its combinations cannot be counted.
    """
    shell = _as_counted(on_meta(network)).eval()
    choices = Choices(shell)
    numbers = {id(choice): number for number, choice in enumerate(choices)}
    scopes = list(_scopes(shell))
    governing = [
        tuple(sorted({numbers[id(part)] for part in scope.modules() if isinstance(part, Choice)}))
        for scope in scopes
    ]
    for scope, own in zip(scopes, governing, strict=True):
        if (combinations := math.prod(choices.sizes[number] for number in own)) > _MOST_COMBINATIONS:
            names = ", ".join(choices.names[number] for number in own)
            raise ConfigError(
                f"the cost of a {type(scope).__name__} depends on {combinations:,} combinations of {names}: "
                "let smaller modules hold the choices that they read"
            )
    tables = [np.full([choices.sizes[number] for number in own], np.nan) for own in governing]
    fixed = 0.0
    while (path := _open_path(governing, tables, len(choices))) is not None:
        choices.set_path(path)
        total, parts = _count(shell, scopes, METERS[quantity], (channels, *input_size))
        for own, table, cost in zip(governing, tables, parts, strict=True):
            table[tuple(path[number] for number in own)] = cost
        fixed = float(total - sum(parts))
    terms = [Term(own, table) for own, table in zip(governing, tables, strict=True)]
    return CostTable(quantity, fixed, choices.sizes, terms, choices.decisions)


def _as_counted(module: nn.Module) -> nn.Module:
    """The module, on the meta device, with all that `counted_as` gives in its place."""
    if (counted := getattr(module, "counted_as", None)) is not None:
        with torch.device("meta"):
            return counted()
    for name, child in module.named_children():
        setattr(module, name, _as_counted(child))
    return module


def _is_read(module: nn.Module) -> bool:
    """Whether it is a choice without layers of its own, by which others compute: it costs nothing itself."""
    return isinstance(module, Choice) and next(module.children(), None) is None


def _scopes(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules whose cost depends on choices, each once."""
    if _is_read(module):
        return
    # What only keeps modules together is never called, and costs nothing itself.
    computes = not isinstance(module, (nn.ModuleList, nn.ModuleDict))
    reads = computes and any(_is_read(child) for child in module.children())
    if isinstance(module, Choice) or reads:
        yield module
        return
    for child in module.children():
        yield from _scopes(child)


def _open_path(
    governing: Sequence[tuple[int, ...]], tables: Sequence[np.ndarray], length: int
) -> list[int] | None:
    """A path with as many uncounted combinations as fit together; None where all are counted."""
    path: dict[int, int] = {}
    for own, table in zip(governing, tables, strict=True):
        free = [path.get(number) for number in own]
        ranges = [range(n) if at is None else (at,) for n, at in zip(table.shape, free, strict=True)]
        place = next((place for place in product(*ranges) if math.isnan(table[place])), None)
        if place is not None:
            path.update(zip(own, place, strict=True))
    return [path.get(number, 0) for number in range(length)] if path else None


def _count(
    shell: nn.Module, scopes: Sequence[nn.Module], meter_type: type[Meter], shape: tuple[int, ...]
) -> tuple[int, list[int]]:
    """The cost of the path that is set, and the part of every scope in it."""
    parts = dict.fromkeys(scopes, 0)
    with meter_type(shell) as meter:

        def enter(scope: nn.Module, _: Any) -> None:
            parts[scope] -= meter.total()

        def leave(scope: nn.Module, *_: Any) -> None:
            parts[scope] += meter.total()

        hooks: list[RemovableHandle] = []
        for scope in scopes:
            hooks += [scope.register_forward_pre_hook(enter), scope.register_forward_hook(leave)]
        meter.run(shape)
        for hook in hooks:
            hook.remove()
        return meter.total(), [parts[scope] for scope in scopes]
