"""What an exported file says of itself: all that a program needs besides the numbers."""

from __future__ import annotations

import json
from typing import Any

from torch import Tensor

from fna_lightning import __version__
from fna_lightning.architectures import parts_to_dict
from fna_lightning.data.augmentation.ssd import PAD_COLOUR
from fna_lightning.deployment.export.examples import Extent
from fna_lightning.deployment.export.graphs import Graph, Part
from fna_lightning.deployment.network import Network
from fna_lightning.runs import build

_WHITE = 255


def contents(network: Network, part: Part, graph: Graph[Any], extent: Extent, example: Tensor) -> dict[str, Any]:
    """Metadata of an exported graph, as plain data.

    Args:
        network: whose it is.
        part: what is exported.
        graph: what it computes.
        extent: how many pictures of which size it takes.
        example: (N, 3, H, W) of which it was traced; its size stands for the one that the network is best at.
    """
    return {
        **general(network, part),
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "input_size": list(extent.size or example.shape[-2:]),
        "dynamic": [name for name, value in (("batch", extent.batch), ("size", extent.size)) if value is None],
        "normalisation": {**normalisation(network), "inside": True, "channels": "RGB", "pixels": [0, _WHITE]},
    }


def general(network: Network, part: Part) -> dict[str, Any]:
    """What holds for every format: classes, the sizes of pictures, and what the network is."""
    return {
        "fna_lightning": __version__,
        "task": network.task,
        "part": part,
        "network": type(network.module).__name__,
        "class_names": list(network.class_names),
        "pictures": {**network.picture_settings, "pad_colour": list(PAD_COLOUR)},
        "architecture": parts_to_dict(build.resolve_parts(network.config)),
    }


def normalisation(network: Network, white: float = 1.0) -> dict[str, list[float]]:
    """Mean and deviation of RGB pixels on [0, 255 / `white`] that the parameters expect."""
    inside = network.module.normalize
    return {name: (getattr(inside, name).double() / white).flatten().tolist() for name in ("mean", "std")}


def as_texts(described: dict[str, Any]) -> dict[str, str]:
    """Each value as JSON, for formats whose metadata are texts by name."""
    return {name: as_json(value) for name, value in described.items()}


def as_json(value: Any) -> str:
    """As JSON, sequences of any kind as lists."""
    return json.dumps(value, default=list)
