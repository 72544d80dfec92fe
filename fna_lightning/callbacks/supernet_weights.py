"""The supernet of one search for another."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from fna_lightning.architectures import parse_parts
from fna_lightning.checkpoints import checkpoint_of, network_tensors_of, read_file, require_finite
from fna_lightning.errors import ConfigError
from fna_lightning.modules import EvolutionData, searched_part
from fna_lightning.modules.base import AdaptationModule
from fna_lightning.remapping import report_of_supernet

log = logging.getLogger(__name__)

_ALPHAS = "alphas.values"  # of `fna_lightning.modules.ArchitectureAdaptation`


class SupernetWeights(Callback):
    """Fills the network with that of another search before the first step, whatever was remapped into it.

    Where the searched part alone is the same, as behind another task, that part is filled.

    Args:
        source: its run directory or checkpoint.
        report_path: where it is written down which tensors were filled.

    Raises:
        CheckpointError: where that cannot be read.
    """

    def __init__(self, source: str, report_path: Path) -> None:
        path: Path = checkpoint_of(source)
        self._source = source
        self._report_path = report_path
        self._content: dict[str, Any] = read_file(path)
        self._state: dict[str, Tensor] = network_tensors_of(self._content, path)
        require_finite(self._state, path)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Fill it, unless the run continues, and say what was taken.

        Raises:
            ConfigError: where the supernet is of another space, has learnt what is to score its paths, or lacks
                what they are to be scored with.
        """
        module = cast("AdaptationModule", pl_module)
        if module.iteration:
            return
        self._check_architecture(module)
        self._check_held_out(trainer)
        network = module.network
        part = network if not self._odd(network, "") else searched_part(network)
        prefix = next(f"{name}." if name else "" for name, own in network.named_modules() if own is part)
        if odd := self._odd(part, prefix):
            raise self._of_another(f"first in {odd[0]}")
        if prefix and trainer.max_epochs == 1:
            raise ConfigError(
                f"search.supernet={self._source}: has the {prefix[:-1]} alone in common, and trainer.max_epochs=1 "
                "scores paths before the rest has learnt anything; give a supernet of this task, or more epochs"
            )
        part.load_state_dict({name: self._state[prefix + name] for name in part.state_dict()})
        if trainer.is_global_zero:
            report_of_supernet(network, self._source, prefix).save(self._report_path)
            what = f"its {prefix[:-1]}; the rest begins anew" if prefix else "the whole network"
            log.info("search.supernet=%s: took %s", self._source, what)

    def _check_architecture(self, module: AdaptationModule) -> None:
        """Refuse what has the same shapes and computes something else."""
        theirs = parse_parts(str(self._content["architecture"])) if "architecture" in self._content else {}
        for name, architecture in parse_parts(module.architecture_text).items():
            if name in theirs and not architecture.shares_weights_with(theirs[name]):
                raise self._of_another(f"its {name} is {str(theirs[name])[:40]!r}")

    def _check_held_out(self, trainer: L.Trainer) -> None:
        """Refuse to score on what the supernet has learnt; held-out parts of one set begin alike."""
        data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        before = self._content.get("held_out")
        same_set = self._content.get("data") == data.totals()
        if same_set and isinstance(data, EvolutionData) and before is not None and before < data.share:
            raise ConfigError(
                f"search.share={data.share}: the supernet of {self._source} was trained on all images but "
                f"{before} of them; give at most that"
            )

    def _of_another(self, reason: str) -> ConfigError:
        return ConfigError(
            f"search.supernet={self._source}: is of another network or space, {reason}; give the run of a search "
            "with the same settings"
        )

    def _odd(self, part: nn.Module, prefix: str) -> list[str]:
        """Names of the tensors of `part` that the supernet lacks or has in another shape."""
        return [
            prefix + name
            for name, tensor in part.state_dict().items()
            if getattr(self._state.get(prefix + name), "shape", None) != tensor.shape
        ]


def beliefs(source: str, sizes: Sequence[int]) -> list[Tensor]:
    """(n,) per choice: the probabilities of the architecture parameters that a gradient search has found.

    Args:
        source: its run directory or checkpoint.
        sizes: candidates of each choice.

    Raises:
        CheckpointError: where that cannot be read.
        ConfigError: where it has none, or those of another space.
    """
    state = read_file(checkpoint_of(source)).get("state_dict", {})
    found = [state.get(f"{_ALPHAS}.{number}") for number in range(len(sizes))]
    if not all(
        isinstance(value, Tensor) and value.shape == (size,) for value, size in zip(found, sizes, strict=True)
    ):
        raise ConfigError(
            f"search.proposals=supernet: {source} has no architecture parameters of this space; give the run of "
            "search=bilevel with the same settings, or search.proposals=uniform"
        )
    return [torch.softmax(value.float().cpu(), dim=0) for value in found]
