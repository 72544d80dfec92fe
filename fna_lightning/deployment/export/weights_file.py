"""A backbone's parameters as safetensors, with a file of Python that builds it of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from fna_lightning.deployment.export import feature_network
from fna_lightning.deployment.export.contents import as_texts, general, normalisation
from fna_lightning.deployment.export.layers import steps
from fna_lightning.deployment.network import Network
from fna_lightning.files import write_text

_WHITE = 255


def contents(network: Network) -> dict[str, Any]:
    """Metadata of the file; `mean` and `std` are those of pixels on [0, 1], which are not normalised inside."""
    backbone = network.module.backbone
    maps = backbone.out_channels.items()
    info = [{"num_chs": width, "reduction": backbone.strides[name], "module": name} for name, width in maps]
    scaled = normalisation(network, _WHITE)
    return {**general(network, "backbone"), "layers": steps(backbone), "feature_info": info, **scaled}


def write(network: Network, path: Path) -> None:
    """Write the backbone's parameters and norms by the names that they have in training."""
    state = network.module.backbone.state_dict()
    # Counters of batches, which a norm's momentum leaves unread.
    kept = {key: value.contiguous() for key, value in state.items() if not key.endswith("num_batches_tracked")}
    save_file(kept, path, as_texts(contents(network)))


def write_class(path: Path) -> None:
    """Write the file of Python, which needs nothing of ours."""
    write_text(path, Path(feature_network.__file__).read_text(encoding="utf-8"))


def runner(path: Path) -> Callable[[dict[str, Tensor]], list[Tensor]]:
    """What the class computes of the file and of pictures on [0, 255]."""
    network = feature_network.FeatureNetwork.load(path)

    def run(inputs: dict[str, Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return network((inputs["images"] / _WHITE - network.mean) / network.std)

    return run
