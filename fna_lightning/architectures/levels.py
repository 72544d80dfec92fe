"""The feature maps of a network, and how others ask for them: by stride, or by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from fna_lightning.errors import ArchitectureError, ConfigError

_STRIDE = re.compile(r"([0-9]{1,6})(\.expand)?")


class Level(NamedTuple):
    """A feature map of a network.

    `stage` is what a stage returns, `head` what a last 1x1 convolution does, and `expand` the map inside the first
    layer of a stage, behind its expansion and at the resolution of the stage before. A layer that does not expand
    its input has this place too: what is searched there may.
    """

    name: str
    """By which a backbone is asked for it."""
    stride: int
    """Pixels of the input per pixel of the map."""
    channels: int
    form: Literal["stage", "expand", "head"] = "stage"


def maps_at(levels: Sequence[Level], strides: Iterable[int | str]) -> tuple[str, ...]:
    """Names of the maps that a detector asks for by stride.

    Args:
        levels: of the backbone, in the order in which they are computed.
        strides: of each map one: a stride such as `16` for the last stage's map at it, `16.expand` for the last
            expanded map at it, `last` for that of the last stage of all, and `head` for that of the last 1x1
            convolution.

    Raises:
        ConfigError: where there is no such map, naming what there is.
    """
    return tuple(_map_at(levels, str(stride)) for stride in strides)


def maps_named(levels: Sequence[Level], features: Iterable[int | str]) -> tuple[str, ...]:
    """Full names of the maps that a detector asks for by name; negative numbers count from the last.

    Args:
        levels: of the backbone, in the order in which they are computed.
        features: names, of which `-1` is the last map, `-3.expand` the expanded one of the third from the end.

    Raises:
        ConfigError: where there is no such map, naming what there is.
    """
    whole, names = [level.name for level in levels if level.form != "expand"], [level.name for level in levels]
    counted = {f"-{number}": name for number, name in enumerate(reversed(whole), start=1)}
    result = []
    for feature in map(str, features):
        number, dot, rest = feature.partition(".")
        name = counted.get(number, number) + dot + rest
        if name not in names:
            raise ConfigError(
                f"the map {feature[:40]!r}: give the number of a stage, negative ones counted from the end, or "
                f"another of the names {', '.join(names)}"
            )
        result.append(name)
    return tuple(result)


def pyramid_maps(levels: Sequence[Level]) -> tuple[str, ...]:
    """Names of the last stage's map at every stride from 4 on."""
    last = {level.stride: level.name for level in levels if level.form == "stage" and level.stride >= 4}
    return tuple(last.values())


def turn_strides_into_dilations(
    strides: Iterable[int], output_stride: int | None = None
) -> tuple[tuple[int, int], ...]:
    """(stride, dilation) of every stage in order, from the strides that a network has of its own.

    Once the accumulated stride has reached `output_stride`, a stage's stride turns into dilation of all its layers
    and of the stages behind it (FNA's DeepLabV3, spec FNA 6.3).

    Raises:
        ArchitectureError: where the strides never multiply to `output_stride`.
    """
    result, reached, dilation = [], 1, 1
    for stride in strides:
        if output_stride is not None and reached * stride > output_stride:
            dilation, stride = dilation * stride, 1
        reached *= stride
        result.append((stride, dilation))
    if output_stride not in (None, reached):
        raise ArchitectureError(f"output stride {output_stride} cannot be had: this network reaches {reached}")
    return tuple(result)


def _map_at(levels: Sequence[Level], wanted: str) -> str:
    match = _STRIDE.fullmatch(wanted)
    if match is not None:
        form = "expand" if match[2] else "stage"
        found = [level for level in levels if level.form == form and level.stride == int(match[1])]
    elif wanted in ("last", "head"):
        form = "stage" if wanted == "last" else "head"
        found = [level for level in levels if level.form == form]
    else:
        raise ConfigError(
            f"the stride {wanted[:40]!r}: give a number such as 16, 16.expand for what the last expansion there "
            "gives, last for the last stage or head for the last 1x1 convolution"
        )
    if not found:
        raise ConfigError(f"the backbone has no map {wanted!r}: it has {', '.join(_strides(levels))}")
    return found[-1].name


def _strides(levels: Sequence[Level]) -> list[str]:
    """What could be asked for, the other way round."""
    endings = {"stage": "{}", "expand": "{}.expand", "head": "head"}
    stages = sorted(levels, key=lambda level: list(endings).index(level.form))
    return list(dict.fromkeys(endings[level.form].format(level.stride) for level in stages))
