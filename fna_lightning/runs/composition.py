"""Configurations are checked as soon as Hydra has composed them, before it acts on them or writes anything."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import ClassVar

import hydra._internal.hydra as hydra_internals
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from fna_lightning.errors import ConfigError
from fna_lightning.targets import check_hydra

_LOADER = ConfigLoaderImpl.__name__


class CheckedLoader(ConfigLoaderImpl):
    """Hydra's loader of configurations, which hands out none that must not be acted on.

    Everything that Hydra does with a configuration, jobs of a sweep included, starts here; there is no public
    hook between composing and building what the configuration names.
    """

    entry: ClassVar[str | None] = None
    """The entry point whose settings are all checked; None where only what Hydra itself would build is."""

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Compose, and check.

        Raises:
            ConfigError: naming key, value and what would do.
        """
        try:
            config = super().load_configuration(
                config_name, overrides, run_mode, from_shell, validate_sweep_overrides
            )
        except ValueError as error:  # such as data=null
            given = " ".join(text for text in overrides if not text.startswith("hydra.mode="))
            raise ConfigError(f"{given}: {' '.join(str(error).split())}") from error
        check_hydra(config, overrides)
        bring_up_to_date(config)
        if self.entry is not None and run_mode == RunMode.RUN:
            _check_settings(config, self.entry)
        return config


def bring_up_to_date(config: DictConfig) -> None:
    """Say what the `config.yaml` of a run from before searches were settings leaves unsaid."""
    search = config.get("search")
    if isinstance(search, DictConfig) and "weight_steps" in search and "_target_" not in search:
        with open_dict(config):
            search._target_ = "fna_lightning.searches.Bilevel"


def _check_settings(config: DictConfig, entry: str) -> None:
    from fna_lightning.runs.validation import check_types  # which loads torch

    config = copy.deepcopy(config)
    config.hydra.runtime.output_dir = "."  # known when the run begins; settings may refer to it
    previous = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)
    try:
        with open_dict(config):
            check_types(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]), entry)
    finally:
        HydraConfig.instance().cfg = previous


@contextlib.contextmanager
def checked(entry: str | None) -> Iterator[None]:
    """Let Hydra compose through `CheckedLoader`.

    Args:
        entry: check all settings, as for a run of this entry point; None checks only what Hydra itself would
            build, as where a configuration is only shown, or in a sweep, where every job checks its own.
    """
    CheckedLoader.entry = entry
    setattr(hydra_internals, _LOADER, CheckedLoader)
    try:
        yield
    finally:
        setattr(hydra_internals, _LOADER, ConfigLoaderImpl)
