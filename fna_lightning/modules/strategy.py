"""Data parallelism for a search that trains one path at a time."""

from __future__ import annotations

from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from fna_lightning.distributed import broadcast_state
from fna_lightning.errors import ConfigError


class ActivePathStrategy(DDPStrategy):
    """DDP in which the module averages its gradients by itself: those of the active path, and no others.

    A weight step leaves most of a supernet without gradient. torch's DDP, which expects all of them, refuses
    that, or with `find_unused_parameters` sends zeros for every parameter that has no gradient. Here the module
    stays unwrapped, and `SupernetAdaptation` sends one flat bucket of what the step touched. All ranks
    draw the same path from (random_seed, iteration); that they did is checked with every step.
    """

    def configure_ddp(self) -> None:
        """Give every rank the first one's parameters, as DDP does when it wraps a module.

        Raises:
            ConfigError: for a module whose gradients nobody would average, so that ranks would drift apart.
        """
        assert isinstance(self.model, nn.Module)
        if not getattr(self.model, "averages_gradients", False):
            raise ConfigError(
                f"{type(self.model).__name__} does not average its gradients over the ranks: derive it from "
                "SupernetAdaptation, or give strategy=ddp_find_unused"
            )
        broadcast_state(self.model)
