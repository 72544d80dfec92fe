"""The supernet of one search for another."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from fna_lightning.checkpoints import checkpoint_of, network_tensors_of, read_file, require_finite
from fna_lightning.errors import ConfigError
from fna_lightning.modules.base import AdaptationModule


class SupernetWeights(Callback):
    """Fills the network with that of another search before the first step, whatever was remapped into it.

    Args:
        source: its run directory or checkpoint.

    Raises:
        CheckpointError: where that cannot be read.
    """

    def __init__(self, source: str) -> None:
        path: Path = checkpoint_of(source)
        self._source = source
        self._state: dict[str, Tensor] = network_tensors_of(read_file(path), path)
        require_finite(self._state, path)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Fill it, unless the run continues.

        Raises:
            ConfigError: where the supernet is of another space.
        """
        module = cast("AdaptationModule", pl_module)
        if module.iteration == 0:
            own = module.network.state_dict()
            odd = [
                name
                for name, tensor in own.items()
                if getattr(self._state.get(name), "shape", None) != tensor.shape
            ]
            if odd:
                raise ConfigError(
                    f"search.supernet={self._source}: is of another network or space, first in {odd[0]}; give the "
                    "run of a search with the same settings"
                )
            module.network.load_state_dict({name: self._state[name] for name in own})
