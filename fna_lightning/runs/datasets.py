"""The data set of a run: built, and held against the task, the network and the checkpoint that it meets."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig

from fna_lightning.blocks import Network, on_meta
from fna_lightning.checkpoints import checkpoint_of, read_file
from fna_lightning.choices import Choices
from fna_lightning.data.base import DataModule
from fna_lightning.data.checking.problems import warn
from fna_lightning.errors import ConfigError, DataError
from fna_lightning.files import write_text
from fna_lightning.modules import StepGuard
from fna_lightning.runs.build import make
from fna_lightning.runs.processes import count_devices
from fna_lightning.tasks.base import Task

SPLIT_FILE = "split.csv"
"""In the directory of a run on a set that has no validation part."""


def build_data(config: DictConfig, task: Task[Any]) -> DataModule[Any]:
    """The data set, written where it is generated, read and checked.

    Raises:
        ConfigError: where the task cannot be learnt from it.
    """
    data = make(config.data)
    data.prepare_data()
    data.setup("fit")
    check_task(data, task, config)
    return data


def save_split(data: DataModule[Any], folder: Path) -> None:
    """Write `split.csv`: which pictures are trained on and which scored, of a set without a validation part."""
    if not data.split_names:
        return
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("picture", "split"))
    rows.writerows((name, split) for split, names in data.split_names.items() for name in names)
    write_text(folder / SPLIT_FILE, text.getvalue().encode(errors="replace").decode())


def warn_of_trained(data: DataModule[Any], checkpoint: Path) -> None:
    """Say how many of the pictures that are scored the run of a checkpoint has trained on, by its `split.csv`."""
    file = checkpoint.parent.parent / SPLIT_FILE
    if not data.split_names or not file.is_file():
        return
    with file.open(encoding="utf-8", newline="") as text:
        trained = {row["picture"] for row in csv.DictReader(text) if row.get("split") == "training"}
    names = data.split_names["validation"]
    if again := [name for name in names if name in trained]:
        what = "%s: the run has trained on %d of the %d pictures that are scored, by their names; the first: %s"
        warn(what, file, len(again), len(names), again[0])


def check_task(data: DataModule[Any], task: Task[Any], config: DictConfig) -> None:
    """Hold the task against the data set.

    Raises:
        ConfigError: naming both settings.
    """
    if data.kind != task.kind:
        raise ConfigError(
            f"data={config.data._target_.rsplit('.', 1)[-1]} is for {data.kind}, "
            f"but detector={config.detector._target_.rsplit('.', 1)[-1]} for {task.kind}: choose two that fit"
        )


def match_classes(
    data: DataModule[Any],
    checkpoint: str | Path,
    mend: str,
    renamed: Mapping[str, str] | None = None,
    before: Sequence[str] | None = None,
) -> None:
    """Number the classes of `data` as the network of a checkpoint does, which knows them by their names.

    Args:
        data: after its `setup`.
        checkpoint: file or run directory.
        mend: what to do where they are not the same.
        renamed: names in the data set -> names in the network, of those that differ.
        before: the network's, where the checkpoint is from before they were kept in it; None takes the classes
            of both by their number then, with a warning.

    Raises:
        ConfigError: where they are not the same, listing them.
    """
    path = checkpoint_of(checkpoint)
    names = read_file(path).get("class_names", before)
    if names is None:
        warn("%s: does not name its classes; those of the data set are taken by their number", path)
        return
    try:
        data.match_classes([str(name) for name in names], renamed)
    except DataError as error:
        source = data.val_dataset.source if data.val_dataset is not None else "data"
        raise ConfigError(f"{source}: {error}; {mend}") from error


@torch.no_grad()
def check_batch(config: DictConfig, network: Network, data: DataModule[Any]) -> None:
    """Run the network without numbers on a batch of a single training picture, where that is what it will get.

    Raises:
        ConfigError: where such a picture is too small for its batch norms, see `Network`.
    """
    synchronised = (
        config.strategy.sync_batchnorm and count_devices(config.strategy) * config.strategy.num_nodes > 1
    )
    if data.batch_size == 1 and data.train_dataset is not None and not synchronised:
        batch = data.train_dataset.collate([data.train_dataset[0, 0]])
        shell = on_meta(network).train()
        choices = Choices(shell)
        choices.set_path([0] * len(choices))
        shell(batch.images.to("meta"))


def unscored(data: DataModule[Any], trainer: L.Trainer) -> dict[str, int]:
    """How many images a validation that has run did not come to, by `trainer.limit_val_batches`."""
    batches = [number for number in trainer.num_val_batches if math.isfinite(number)]
    if data.val_dataset is None or not batches:
        return {}
    behind = len(data.val_dataset) - int(sum(batches)) * data.batch_size * trainer.world_size
    return {"validation: images behind trainer.limit_val_batches": behind} if behind > 0 else {}


def left_out(data: DataModule[Any], guard: StepGuard) -> dict[str, int]:
    """What a run did not use, in words, and how often."""
    skipped = {"updates that were not finite": guard.skipped} if guard.skipped else {}
    return {**data.left_out, **skipped}
