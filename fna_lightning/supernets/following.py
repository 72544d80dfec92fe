"""What lies around a backbone whose widths are searched follows them: necks and heads of any network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from fna_lightning.blocks import Network, on_meta
from fna_lightning.choices import Choices, ValueChoice
from fna_lightning.errors import ConfigError, brief
from fna_lightning.supernets.sliced import SlicedBatchNorm, SlicedConv2d, SlicedLinear, Stream

_SIDE = 128
"""Of the picture that shows which layers read what, in pixels."""


def follow_widths(network: Network) -> None:
    """Let every layer around the backbone that reads searched channels compute as many as a path has, in place.

    Which those are shows on a copy without numbers, where each width is made the smallest in turn. Depthwise
    convolutions and norms write as many channels as they read, all other layers what they write anyway.

    Raises:
        ConfigError: where a layer takes no other number of channels than it was made for.
    """
    if not any(isinstance(choice, ValueChoice) for choice in Choices(network.backbone)):
        return
    shell = on_meta(network).eval()
    inside = set(shell.backbone.modules())
    layers = {name: layer for name, layer in shell.named_modules() if layer not in inside}
    for layer in layers.values():
        _follow(layer, None)
    choices = Choices(shell)
    largest = [len(choice.names) - 1 if isinstance(choice, ValueChoice) else 0 for choice in choices]
    whole = _channels(shell, layers, largest)
    for number, (choice, own) in enumerate(zip(choices, Choices(network), strict=True)):
        if isinstance(choice, ValueChoice) and isinstance(own, ValueChoice):
            path = [*largest[:number], 0, *largest[number + 1 :]]
            for name, channels in _channels(shell, layers, path).items():
                if channels != whole[name]:
                    _follow(network.get_submodule(name), Stream(own, whole[name] // own.largest))


def _follow(layer: nn.Module, stream: Stream | None) -> None:
    """Let a layer take as many channels as it is given; those of `stream`, or whichever they are."""
    if isinstance(layer, nn.Conv2d) and layer.groups in (1, layer.in_channels):
        SlicedConv2d.follow(layer, stream)
    elif isinstance(layer, nn.BatchNorm2d):
        SlicedBatchNorm.follow(layer, stream)
    elif isinstance(layer, nn.Linear):
        SlicedLinear.follow(layer, stream)


@torch.no_grad()
def _channels(shell: Network, layers: Mapping[str, nn.Module], path: list[int]) -> dict[str, int]:
    """How many channels each of the layers is given on a path, by its name; of those that can follow one."""
    given: dict[str, int] = {}
    hooks: list[RemovableHandle] = []
    for name, layer in layers.items():
        if isinstance(layer, (SlicedConv2d, SlicedBatchNorm, SlicedLinear)):

            def note(_: nn.Module, inputs: tuple[Any, ...], name: str = name) -> None:
                given[name] = inputs[0].shape[1]

            hooks.append(layer.register_forward_pre_hook(note))
    Choices(shell).set_path(path)
    try:
        shell(torch.empty((2, 3, _SIDE, _SIDE), device="meta"))
    except RuntimeError as error:
        raise ConfigError(
            f"space.widths: {type(shell).__name__} has a layer that cannot follow the backbone's channels "
            f"({brief(error)}); leave out widths and width_multipliers"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    return given
