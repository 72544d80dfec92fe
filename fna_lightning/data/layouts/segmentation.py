"""Segmentation sets of files: a picture, and a label file that says what each of its pixels shows."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fna_lightning.data.augmentation.ssd import PAD_COLOUR
from fna_lightning.data.augmentation.transforms import (
    SegmentationPipeline,
    segmentation_evaluation,
    segmentation_training,
)
from fna_lightning.data.base import DataModule
from fna_lightning.data.batches import IGNORED_LABEL, SegmentationBatch, padded
from fna_lightning.data.checking.checks import check_images, check_labels
from fna_lightning.data.checking.images import decode_labels, read_image, read_labels
from fna_lightning.data.checking.problems import Kind, Problem, Problems
from fna_lightning.data.datasets import EpochDataset
from fna_lightning.data.label_maps import LabelMap
from fna_lightning.errors import DataError, listed


@dataclass
class SegmentationSample:
    """One image with its labels, after the transform."""

    image: Tensor
    """(3, H, W) uint8, RGB."""
    labels: Tensor
    """(H', W') uint8 in [0, num_classes), or `IGNORED_LABEL`; in training H' = H and W' = W."""
    file: str
    """Where the image was read."""


class LabelledFiles(Protocol):
    """Where pictures and label files lie that belong together; each pair has a name."""

    @property
    def images(self) -> Path:
        """Folder of the pictures."""
        ...

    @property
    def labels(self) -> Path:
        """Folder of the label files."""
        ...

    def image(self, name: str) -> Path:
        """The picture of a pair."""
        ...

    def label(self, name: str) -> Path:
        """The label file of a pair."""
        ...


class CityscapesSegmentation(EpochDataset[SegmentationSample, SegmentationPipeline]):
    """Pictures with a label for every pixel.

    Args:
        files: Where they lie.
        names: What is in the set, of `files`.
        label_map: What label files hold.
        transform: Applied to every image and its labels.
        random_seed: The run's.
        decode: Gives the ids (H, W) uint8 of a label file's content, or raises an `ImageError`.
    """

    labels_as_stored = False
    """Whether labels keep the size of their file, in which scores are computed."""

    def __init__(
        self,
        files: LabelledFiles,
        names: Sequence[str],
        label_map: LabelMap,
        transform: SegmentationPipeline,
        random_seed: int = 0,
        decode: Callable[[bytes], np.ndarray] = decode_labels,
    ) -> None:
        super().__init__(transform, random_seed)
        self.files = files
        # An array, for the reason given in `annotations`.
        self.names = self._listed = np.array([os.fsencode(name) for name in names])
        self.label_map = label_map
        self.decode = decode
        self.class_names = label_map.class_names
        self.source = files.images
        self.pixels = np.zeros(256, np.int64)
        """(256,): how often every label id comes in the files; all zero if nobody has counted."""

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """The picture's file of sample `index`."""
        return self.files.image(os.fsdecode(self.names[index]))

    def label_path(self, index: int) -> Path:
        """The label file of sample `index`."""
        return self.files.label(os.fsdecode(self.names[index]))

    def name(self, index: int) -> str:
        """As in `files`, relative to the folder of the pictures."""
        return os.fsdecode(self.names[index])

    def listed(self) -> Iterator[Path]:
        """Pictures and label files of all pairs."""
        for name in map(os.fsdecode, self._listed):
            yield self.files.image(name)
            yield self.files.label(name)

    def truth(self, index: int) -> str:
        """Of the content of the label file."""
        return hashlib.blake2b(self.label_path(index).read_bytes()).hexdigest()

    def load(self, index: int, random_seed: int) -> SegmentationSample:
        """Read sample `index` and transform it under `random_seed`.

        Raises:
            DataError: A file is missing or broken, the two differ in size, or a label id is unknown.
        """
        path, label_path = self.path(index), self.label_path(index)
        image, stored = read_image(path), read_labels(label_path, self.decode)
        if image.shape[:2] != stored.shape:
            raise DataError(
                f"{label_path}: has {stored.shape[0]}x{stored.shape[1]} pixels (height x width), but its picture "
                f"{image.shape[0]}x{image.shape[1]}; {Kind.LABEL_SIZE.mend}"
            )
        try:
            stored = self.label_map.to_labels(stored)
        except DataError as error:
            raise DataError(f"{label_path}: {error}; {Kind.LABEL_ID.mend}") from error
        image, labels = self.transform(image, stored, random_seed)
        labels = stored if self.labels_as_stored else labels
        return SegmentationSample(torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(labels), str(path))

    def collate(self, samples: Sequence[SegmentationSample]) -> SegmentationBatch:
        """Pad images to one size and labels to one size."""
        images, sizes = padded([sample.image for sample in samples], PAD_COLOUR)
        labels, label_sizes = padded([sample.labels for sample in samples], IGNORED_LABEL)
        return SegmentationBatch(images, labels, sizes, label_sizes, files=[sample.file for sample in samples])

    def renumber(self, order: Sequence[int], names: Sequence[str]) -> None:
        """Let label k be the class that has been label order[k]; ids stay those of the files."""
        self.label_map = self.label_map.renumbered(order, names)
        self.class_names = self.label_map.class_names

    def part(self, indices: Sequence[int]) -> CityscapesSegmentation:
        """The pictures `indices`, ascending; nobody has counted their labels."""
        other = copy.copy(self)
        other.names = self.names[list(indices)]
        other.pixels = np.zeros_like(self.pixels)
        return other

    def totals(self) -> dict[str, int]:
        """Images and, if label files were counted, classes and pixels of them."""
        if not self.pixels.any():
            return super().totals()
        of_classes = self._class_pixels()
        return {
            "images": len(self),
            "classes that occur": int(np.count_nonzero(of_classes)),
            "pixels of classes": int(of_classes.sum()),
        }

    def unseen_classes(self) -> list[str]:
        """Names of the classes of which the counted label files have no pixel."""
        pairs = zip(self.class_names, self._class_pixels(), strict=True)
        return [name for name, pixels in pairs if not pixels]

    def _class_pixels(self) -> np.ndarray:
        """(num_classes,) int64."""
        return np.array([self.pixels[list(ids)].sum() for ids in self.label_map.class_ids])


class SegmentationDataModule(DataModule[CityscapesSegmentation]):
    """Two sets of pictures with labels of their pixels, under a segmenter's resize and augmentation.

    Args:
        root: Folder of the set.
        resize: Height and width to which all images are resized first; null leaves them as they are. In
            validation labels keep the size of their file, as scores are computed in it.
        scales: Factors of the size, one of which is drawn for an image in training.
        crop: Height and width of the part that training cuts out.
        flip: Probability of the left-right flip in training.
        **settings: Whatever else `DataModule` takes.
    """

    kind = "segmentation"
    label_map: LabelMap
    """What label files hold."""

    def __init__(
        self,
        root: str | Path,
        resize: Sequence[int] | None = None,
        scales: Sequence[float] = (0.75, 1.0, 1.25, 1.5, 1.75, 2.0),
        crop: Sequence[int] = (769, 769),
        flip: float = 0.5,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.root = Path(root)
        self.resize = resize
        self.train_transform = segmentation_training(resize, scales, crop, flip)

    @property
    def picture_settings(self) -> dict[str, Any]:
        """The resize of all images."""
        return {"resize": self.resize}

    def for_validation(self, dataset: CityscapesSegmentation) -> CityscapesSegmentation:
        """Resized only, with the labels of the files."""
        other = super().for_validation(dataset)
        other.labels_as_stored = True
        return other

    def match_classes(self, names: Sequence[str], renamed: Mapping[str, str] | None = None) -> None:
        """Number the classes as a network does, in files of predictions too; see `DataModule`."""
        super().match_classes(names, renamed)
        dataset = self.train_dataset or self.val_dataset
        self.label_map = dataset.label_map if dataset is not None else self.label_map

    def eval_transform(self) -> SegmentationPipeline:
        """Resize only, if at all."""
        return segmentation_evaluation(self.resize)

    def unlabelled(self, pictures: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> SegmentationBatch:
        """Pictures of no set in one batch, which has no labels.

        Args:
            pictures: N tensors (3, H_i, W_i) uint8, as `seen` gives them; one at least.
            sizes: height and width of each before, in which labels are wanted.
        """
        images, inside = padded(pictures, PAD_COLOUR)
        nothing = torch.zeros(len(images), 0, 0, dtype=torch.uint8)
        return SegmentationBatch(images, nothing, inside, torch.tensor(list(sizes)))

    def usable(self, dataset: CityscapesSegmentation, use: str, problems: Problems) -> CityscapesSegmentation:
        """`dataset` without the pairs that turn out broken, its labels counted.

        Args:
            dataset: All pairs.
            use: What it is for, in words: `learn from` or `score`.
            problems: Takes in what is wrong with the files.
        """
        files = dataset.files
        good = check_images(dataset, None, self.check_images, problems)
        pictures = int(np.count_nonzero(good))
        dataset.pixels = check_labels(dataset, good, self.check_images, problems)
        if not good.any():
            where, words = (files.labels, "label files") if pictures else (files.images, "pictures")
            words = words if pictures in (0, len(good)) else "pictures with their label files"
            what = f"none of the {len(good)} {words} is usable"
            problems.append(Problem(Kind.SET, where, what, "mend what is wrong with them"))
        elif dataset.pixels.any() and len(dataset.unseen_classes()) == len(dataset.class_names):
            what = f"no label file has a pixel of any class to {use}: all are ignored"
            problems.append(Problem(Kind.SET, files.labels, what, "correct data.classes or the files"))
        dataset.names = dataset.names[good]
        return dataset

    def to_train(self, dataset: CityscapesSegmentation, problems: Problems) -> CityscapesSegmentation:
        """`dataset` as training sees it; classes of which it has no pixel are noted."""
        if dataset.pixels.any() and (unseen := dataset.unseen_classes()):
            what = f"no label file has a pixel of {listed(unseen)}"
            problems.append(Problem(Kind.UNSEEN_CLASS, dataset.files.labels, what))
        dataset.transform = self.train_transform
        return dataset
