"""The supernet of one search for another."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from fna_lightning.checkpoints import checkpoint_of, network_tensors_of, read_file, require_finite
from fna_lightning.errors import ConfigError
from fna_lightning.modules import searched_part
from fna_lightning.modules.base import AdaptationModule


class SupernetWeights(Callback):
    """Fills the network with that of another search before the first step, whatever was remapped into it.

    Where the searched part alone is the same, as behind another task, that part is filled.

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
        """Fill it, unless the run continues, and say what was taken.

        Raises:
            ConfigError: where the supernet is of another space.
        """
        module = cast("AdaptationModule", pl_module)
        if module.iteration == 0:
            network = module.network
            part = network if not self._odd(network, "") else searched_part(network)
            prefix = next(f"{name}." if name else "" for name, own in network.named_modules() if own is part)
            if odd := self._odd(part, prefix):
                raise ConfigError(
                    f"search.supernet={self._source}: is of another network or space, first in {odd[0]}; give the "
                    "run of a search with the same settings"
                )
            part.load_state_dict({name: self._state[prefix + name] for name in part.state_dict()})
            what = f"its {prefix[:-1]}; the rest begins anew" if prefix else "the whole network"
            rank_zero_info("search.supernet=%s: took %s", self._source, what)

    def _odd(self, part: nn.Module, prefix: str) -> list[str]:
        """Names of the tensors of `part` that the supernet lacks or has in another shape."""
        return [
            prefix + name
            for name, tensor in part.state_dict().items()
            if getattr(self._state.get(prefix + name), "shape", None) != tensor.shape
        ]
