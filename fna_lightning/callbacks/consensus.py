"""All ranks train the same settings, or none does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from fna_lightning.distributed import gather_objects
from fna_lightning.errors import ConfigError

_SHOWN = 3


class ConfigConsensus(Callback):
    """Compares the resolved settings of all ranks before the first step, of training and of validation alike.

    Ranks compose their settings by themselves: another working copy, another environment variable, or a sweeper
    that draws at random can make them differ, and nothing else would tell.

    Args:
        settings: plain data, without what may differ between ranks, such as the run's own directory.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = dict(flatten(settings))

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Stop all ranks where one differs.

        Raises:
            ConfigError: on every rank, naming the keys and their values.
        """
        text = json.dumps(self._settings, sort_keys=True)
        if len(set(gather_objects(hashlib.sha256(text.encode()).hexdigest()))) > 1:
            raise ConfigError(describe_differences(gather_objects(self._settings)))


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and their values as JSON; a list is one value."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, sort_keys=True)


def describe_differences(settings: list[dict[str, str]]) -> str:
    """One line on the keys in which ranks differ from the first; at least one does.

    Args:
        settings: flattened, by rank.
    """
    keys = sorted({key for own in settings for key in own if own.get(key) != settings[0].get(key)})
    keys += sorted(key for key in settings[0] if any(key not in own for own in settings))
    parts = []
    for key in keys[:_SHOWN]:
        values = [own.get(key, "not set") for own in settings]
        other = next(index for index, value in enumerate(values) if value != values[0])
        parts.append(f"{key}={values[0]} on rank 0, {values[other]} on rank {other}")
    more = f"; and {len(keys) - _SHOWN} keys more" if len(keys) > _SHOWN else ""
    return f"ranks disagree: {'; '.join(parts)}{more}; start all of them with the same settings"
