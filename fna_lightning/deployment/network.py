"""A trained network, ready to be used on pictures of one's own."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from fna_lightning import blocks
from fna_lightning.checkpoints import checkpoint_of, read_file
from fna_lightning.data import DataModule
from fna_lightning.deployment.pictures import PictureLike, pixels_of
from fna_lightning.errors import CheckpointError, ConfigError, brief
from fna_lightning.runs import build
from fna_lightning.runs.trained import rebuild, settings_beside
from fna_lightning.targets import check_targets
from fna_lightning.tasks.base import Task

KINDS: dict[str, type[Network]] = {}
"""How the networks of a task are used, by `Task.kind`; filled by `register`."""
_READ = ("architecture", "detector", "parameters", "task", "data")
NetworkT = TypeVar("NetworkT", bound="type[Network]")


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture as the network sees it."""

    pixels: Tensor
    """(3, H', W') uint8, RGB, brought to the size of the training's validation."""
    size: tuple[int, int]
    """Height and width that it had before."""


class Found(ABC):
    """What was found in one picture."""

    @abstractmethod
    def drawn(self, pixels: np.ndarray) -> np.ndarray:
        """A copy of the picture (H, W, 3) uint8, RGB, with what was found in it."""

    @abstractmethod
    def rasters(self) -> dict[str, np.ndarray]:
        """What is written as pictures besides, by the name of a folder: (H, W) or (H, W, 3) BGR, uint8."""

    @abstractmethod
    def summary(self) -> Any:
        """What `Network.documents` needs of it, which is held for all pictures of a call."""


@dataclass(frozen=True, eq=False)
class Network(ABC):
    """A detector or segmenter with everything that its use needs.

    Attributes:
        module: the detector or segmenter, in evaluation mode; it takes images on [0, 255] and normalises itself.
        class_names: what labels stand for.
        config: settings of the run that trained it: `architecture`, `detector`, `parameters`, `task`, `data`.
        data: that run's data module, of which no set is read: it brings pictures to the size in which the
            training's validation saw them, by `picture_settings`.
        runner: that run's task, which predicts as `evaluate.py` does.
        checkpoint: where the parameters were read.
        device: where the module is.
    """

    task: ClassVar[str]
    """`detection` or `segmentation`."""
    module: blocks.Network
    class_names: tuple[str, ...]
    config: DictConfig
    data: DataModule[Any]
    runner: Task[Any]
    checkpoint: Path
    device: torch.device

    @property
    def picture_settings(self) -> dict[str, Any]:
        """The settings of `data` that decide in which size pictures are seen, by their keys."""
        return self.data.picture_settings

    @property
    def batch_size(self) -> int:
        """Pictures in one step of the training's validation."""
        return self.data.batch_size

    def predict(self, image: PictureLike | Sequence[PictureLike], threshold: float | None = None) -> Any:
        """What is found in a picture, or in each of a list of them.

        Args:
            image: (H, W, 3) uint8 RGB array, PIL image or path of a file; or a list of such, which are run in
                batches of the training's `batch_size`.
            threshold: see `checked_threshold`.

        Returns:
            What `results` returns for one picture, or a list of that.

        Raises:
            DataError: a picture cannot be read.
            ConfigError: the threshold cannot be.
        """
        self.checked_threshold(threshold)
        several = isinstance(image, Sequence) and not isinstance(image, str)
        pictures = cast("Sequence[PictureLike]", image) if several else [cast("PictureLike", image)]
        found: list[Any] = []
        for start in range(0, len(pictures), self.batch_size):
            seen = [self.see(pixels_of(picture)) for picture in pictures[start : start + self.batch_size]]
            found += self.run(seen, threshold)
        return found if several else found[0]

    def see(self, pixels: np.ndarray) -> Seen:
        """Bring a picture (H, W, 3) uint8, RGB, to the size in which the network sees it; threads may call it."""
        return Seen(self.data.seen(pixels), (pixels.shape[0], pixels.shape[1]))

    @torch.inference_mode()
    def run(self, pictures: Sequence[Seen], threshold: float | None = None) -> Sequence[Found]:
        """What is found in the pictures of one batch, each in the pixels that it had before."""
        data = cast("Any", self.data)  # each kind of task's own has it
        batch = data.unlabelled([each.pixels for each in pictures], [each.size for each in pictures])
        # As Lightning does it, which also moves lists of tensors.
        batch = data.transfer_batch_to_device(batch, self.device, 0)
        return self.results(self.runner.predict(self.module, batch), batch, threshold)

    @abstractmethod
    def checked_threshold(self, threshold: float | None) -> float | None:
        """The threshold that counts: the given one, or what stands for None.

        Raises:
            ConfigError: it cannot be.
        """

    @abstractmethod
    def documents(self, images: Sequence[Mapping[str, Any]], summaries: Sequence[Any]) -> dict[str, Any]:
        """The record of many pictures: content of JSON files by their names.

        Args:
            images: the pictures' entries, `id`, `file_name`, `width` and `height` among them.
            summaries: what was found in each, see `Found.summary`.
        """

    @abstractmethod
    def results(self, predictions: Any, batch: Any, threshold: float | None) -> Sequence[Found]:
        """What the task predicted for a batch, for people: names, and pixels of the pictures as they were."""


def register(kind: str) -> Any:
    """Let networks for tasks of a kind be used by the class that is decorated."""

    def keep(cls: NetworkT) -> NetworkT:
        cls.task = kind
        KINDS[kind] = cls
        return cls

    return keep


def load(place: str | os.PathLike[str], device: str | torch.device = "cpu") -> Network:
    """Read a trained detector or segmenter.

    Args:
        place: run directory of `train.py`, whose last checkpoint is taken, or a checkpoint in one.
        device: of torch, such as `cpu`, `cuda` or `cuda:1`; `auto` is a GPU if there is one.

    Raises:
        CheckpointError: where there is no such checkpoint, it is none, or it is of a search or a classifier.
        ConfigError: where the settings beside it do not fit it, or there is no such device.
    """
    where = device_of(device)
    checkpoint = checkpoint_of(Path(place))
    content = read_file(checkpoint)
    config = _settings(checkpoint)
    task, data = build.make(config.task), build.make(config.data)
    if task.kind not in KINDS:
        raise CheckpointError(
            f"{checkpoint}: its network is for {task.kind}, a seed for others; give a run that trained for "
            f"{' or '.join(KINDS)}"
        )
    names = _class_names(content, data)
    module = rebuild(config, len(names), checkpoint).to(where).eval()
    return KINDS[task.kind](module, names, config, data, task, checkpoint, where)


def device_of(name: str | torch.device) -> torch.device:
    """The device of that name; `auto` is a GPU if there is one.

    Raises:
        ConfigError: torch knows no such device, or has none here.
    """
    try:
        found = "cuda" if torch.cuda.is_available() else "cpu"
        device = torch.device(found if name == "auto" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"device={name}: cannot be used ({brief(error)}); give cpu, cuda or cuda:1") from error
    return device


def _settings(checkpoint: Path) -> DictConfig:
    """What the network is made of again, held against the list of what may be named.

    Raises:
        CheckpointError: where that is not beside the checkpoint, or refers to what is not there.
        ConfigError: where it names what may not be.
    """
    saved = settings_beside(checkpoint)
    config = OmegaConf.masked_copy(saved, [key for key in _READ if key in saved])
    try:
        OmegaConf.resolve(config)
    except OmegaConfBaseException as error:
        raise CheckpointError(f"{checkpoint.parent.parent / 'config.yaml'}: {brief(error)}; restore it") from error
    check_targets(OmegaConf.to_container(config))
    return config


def _class_names(content: dict[str, Any], data: DataModule[Any]) -> tuple[str, ...]:
    """The network's classes; of a checkpoint from before they were kept in it, those of its data set.

    Raises:
        DataError: where it does not name them, and its data set cannot be read either.
    """
    names = content.get("class_names")
    if names is None:
        data.prepare_data()
        data.setup("validate")
        names = data.class_names
    return tuple(str(name) for name in names)
