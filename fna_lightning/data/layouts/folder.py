"""Classification sets in the ImageFolder layout: one folder of images per class."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fna_lightning.data.augmentation.transforms import (
    ImagePipeline,
    classification_evaluation,
    classification_training,
)
from fna_lightning.data.base import DataModule
from fna_lightning.data.batches import ClassificationBatch
from fna_lightning.data.checking.checks import check_images
from fna_lightning.data.checking.folders import check_folder, check_root, ends_in, files_below, is_meant
from fna_lightning.data.checking.images import EXTENSIONS, read_image
from fna_lightning.data.checking.problems import Kind, Problem, Problems, SetError
from fna_lightning.data.datasets import EpochDataset
from fna_lightning.errors import ConfigError


@dataclass
class ClassificationSample:
    """One image with its label, after the transform."""

    image: Tensor
    """(3, H, W) uint8, RGB."""
    label: int
    file: str
    """Where it was read."""


class FolderClassification(EpochDataset[ClassificationSample, ImagePipeline]):
    """The images below `folder/<class>/`, classes and files in alphabetical order; a class may have none.

    Args:
        folder: Where the class folders lie.
        class_names: The classes; label k stands for class_names[k].
        transform: Applied to every image; all results have one size.
        random_seed: The run's.
    """

    def __init__(
        self, folder: Path, class_names: Sequence[str], transform: ImagePipeline, random_seed: int = 0
    ) -> None:
        super().__init__(transform, random_seed)
        self.folder = self.source = folder
        self.class_names = tuple(class_names)
        files = [
            sorted(f"{name}/{file}" for file in files_below(folder / name) if ends_in(file, EXTENSIONS))
            for name in class_names
        ]
        # Arrays, for the reason given in `annotations`.
        self.files = self._listed = np.array([os.fsencode(file) for found in files for file in found])
        self.labels = np.repeat(np.arange(len(files)), [len(found) for found in files])

    def __len__(self) -> int:
        return len(self.files)

    def path(self, index: int) -> Path:
        """The file of image `index`."""
        return self.folder / os.fsdecode(self.files[index])

    def name(self, index: int) -> str:
        """`<class>/<file>`."""
        return os.fsdecode(self.files[index])

    def listed(self) -> Iterator[Path]:
        """All images of all classes."""
        return (self.folder / os.fsdecode(file) for file in self._listed)

    def truth(self, index: int) -> str:
        """The class."""
        return self.class_names[self.labels[index]]

    def load(self, index: int, random_seed: int) -> ClassificationSample:
        """Read image `index` and transform it under `random_seed`."""
        path = self.path(index)
        image = self.transform(read_image(path), random_seed)
        return ClassificationSample(torch.from_numpy(image).permute(2, 0, 1), int(self.labels[index]), str(path))

    def renumber(self, order: Sequence[int], names: Sequence[str]) -> None:
        """Let label k be the class that has been label order[k]; pictures keep their order."""
        self.class_names = tuple(names)
        self.labels = np.argsort(np.asarray(order))[self.labels]

    def part(self, indices: Sequence[int]) -> FolderClassification:
        """The images `indices`, ascending, of all classes."""
        other = copy.copy(self)
        other.files, other.labels = self.files[list(indices)], self.labels[list(indices)]
        return other

    def collate(self, samples: Sequence[ClassificationSample]) -> ClassificationBatch:
        """Stack images and labels."""
        images = torch.stack([sample.image for sample in samples]).contiguous()
        labels = torch.tensor([sample.label for sample in samples])
        return ClassificationBatch(images, labels, files=[sample.file for sample in samples])


class FolderDataModule(DataModule[FolderClassification]):
    """Any classification set in the ImageFolder layout; the defaults fit ImageNet.

    Args:
        root: Folder of the set.
        train_folder: Folder of the training classes, absolute or relative to `root`.
        val_folder: Folder of the validation classes, likewise; null sets a share of the others aside.
        size: Side of the square images, in pixels.
        resize: In validation the short side is resized to this before the centre is cut out; null for
            size * 256 / 224.
        min_scale: Smallest share of an image that training cuts out.
        flip: Probability of the left-right flip in training.
        colour_jitter: Largest relative change of brightness, contrast and saturation in training.
        **settings: Whatever else `DataModule` takes.
    """

    kind = "classification"
    unused_mend = (
        "put them into the folder of a class, with an ending that is read, such as .jpg or .png, "
        "if they are meant to be used"
    )
    other_mend = "give it by data.train_folder or data.val_folder if it is meant to be used"

    def __init__(
        self,
        root: str | Path,
        train_folder: str = "train",
        val_folder: str | None = "val",
        size: int = 224,
        resize: int | None = None,
        min_scale: float = 0.08,
        flip: float = 0.5,
        colour_jitter: float = 0.0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.root = Path(root)
        self.train_folder = self.root / train_folder
        self.val_folder = None if val_folder is None else self.root / val_folder
        self.size = size
        self.resize = round(size * 256 / 224) if resize is None else resize
        if not 1 <= size <= self.resize:
            raise ConfigError(f"data.size={size} must be positive and at most data.resize={self.resize}")
        self.min_scale = min_scale
        self.flip = flip
        self.colour_jitter = colour_jitter

    @property
    def picture_settings(self) -> dict[str, Any]:
        """Side of the squares, and of the image that they are cut out of."""
        return {"size": self.size, "resize": self.resize}

    def has_validation(self) -> bool:
        """Where a folder is named."""
        return self.val_folder is not None

    def build_train(self, problems: Problems) -> FolderClassification:
        """List and check the training set."""
        transform = classification_training(self.size, self.min_scale, self.flip, self.colour_jitter)
        return self._build(self.train_folder, "train_folder", transform, problems)

    def build_val(self, problems: Problems) -> FolderClassification:
        """List and check the validation set."""
        if self.val_folder is None:
            raise RuntimeError("the set has no validation part")
        return self._build(self.val_folder, "val_folder", self.eval_transform(), problems)

    def picture_folders(self) -> list[Path]:
        """Those of the two settings."""
        return self._folders()

    def eval_transform(self) -> ImagePipeline:
        """Resize and cut out the centre."""
        return classification_evaluation(self.size, self.resize)

    def _folders(self) -> list[Path]:
        return [folder for folder in (self.train_folder, self.val_folder) if folder is not None]

    def _build(self, folder: Path, key: str, transform: ImagePipeline, problems: Problems) -> FolderClassification:
        check_root(self.root, folder, *self._folders())
        check_folder(folder, key)
        classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and is_meant(entry.name))
        if not classes:
            mend = "put the images of each class into a folder of its own"
            raise SetError(Problem(Kind.SET, folder, "has no class folders", mend))
        dataset = FolderClassification(folder, classes, transform, self.random_seed)
        counts = np.bincount(dataset.labels, minlength=len(classes))
        for name, count in zip(classes, counts, strict=True):
            if not count:
                problems.append(Problem(Kind.EMPTY_CLASS, folder / name, "the class has no image"))
        problems.settle()
        good = check_images(dataset, None, self.check_images, problems)
        if not good.any():
            what = f"none of the {len(good)} images is usable"
            problems.append(Problem(Kind.SET, folder, what, f"set data.{key}"))
        dataset.files, dataset.labels = dataset.files[good], dataset.labels[good]
        return dataset
