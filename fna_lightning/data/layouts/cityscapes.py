"""Segmentation sets in the layout of Cityscapes: a label file beside every picture."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from fna_lightning.data.checking.folders import check_folder, check_root, files_below
from fna_lightning.data.checking.images import read_image, read_labels
from fna_lightning.data.checking.problems import Kind, Problem, Problems, SetError
from fna_lightning.data.datasets import EpochDataset
from fna_lightning.data.label_maps import CITYSCAPES_CLASSES, LabelFiles, LabelMap, build_label_map
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


@dataclass(frozen=True)
class FilePairs:
    """Where the pictures and label files of a split lie; a pair has one name, `<name>` or `<city>/<name>`."""

    images: Path
    """Folder of the pictures."""
    labels: Path
    """Folder of the label files."""
    image_suffix: str
    """How pictures' file names go on after the name."""
    label_suffix: str
    """How label files' file names go on."""

    def image(self, name: str) -> Path:
        """The picture of a pair."""
        return self.images / f"{name}{self.image_suffix}"

    def label(self, name: str) -> Path:
        """The label file of a pair."""
        return self.labels / f"{name}{self.label_suffix}"

    def names(self, problems: Problems) -> list[str]:
        """The names of all pairs, sorted; a picture or label file without the other is noted in `problems`.

        Raises:
            DataError: There are no pictures or no label files at all.
        """
        pictures = _names(self.images, self.image_suffix, "image_suffix")
        labels = _names(self.labels, self.label_suffix, "label_suffix")
        if not pictures & labels:
            what = f"no picture has a label file in {self.labels}"
            mend = "set data.images_folder and data.labels_folder, or the suffixes of the two; there is no "
            mend += str(self.label(min(pictures)))
            raise SetError(Problem(Kind.SET, self.images, what, mend))
        for name in sorted(pictures - labels):
            what = f"has no label file {self.label(name)}"
            problems.append(Problem(Kind.NO_LABELS, self.image(name), what))
        for name in sorted(labels - pictures):
            what = f"has no picture {self.image(name)}"
            problems.append(Problem(Kind.NO_PICTURE, self.label(name), what))
        return sorted(pictures & labels)


class CityscapesSegmentation(EpochDataset[SegmentationSample, SegmentationPipeline]):
    """Pictures with a label for every pixel.

    Args:
        files: Where they lie.
        names: What is in the set, of `files`.
        label_map: What label files hold.
        transform: Applied to every image and its labels.
        random_seed: The run's.
    """

    labels_as_stored = False
    """Whether labels keep the size of their file, in which scores are computed."""

    def __init__(
        self,
        files: FilePairs,
        names: Sequence[str],
        label_map: LabelMap,
        transform: SegmentationPipeline,
        random_seed: int = 0,
    ) -> None:
        super().__init__(transform, random_seed)
        self.files = files
        # An array, for the reason given in `annotations`.
        self.names = self._listed = np.array([os.fsencode(name) for name in names])
        self.label_map = label_map
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
        image, stored = read_image(path), read_labels(label_path)
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


class CityscapesDataModule(DataModule[CityscapesSegmentation]):
    """Any segmentation set in Cityscapes' layout; the defaults are that set's, and FNA's augmentation.

    A picture is `<images_folder>/<split>/<city>/<name><image_suffix>` and its label file
    `<labels_folder>/<split>/<city>/<name><label_suffix>`; there need not be a folder for each city.

    Args:
        root: Folder of the set.
        classes: Name of every class in the order of labels, with the id or ids of its pixels in label files; null
            for Cityscapes' 19.
        ignored: Ids of pixels that neither train nor score; null for those of Cityscapes that are of no class.
        colours: Red, green and blue of classes in pictures; null for Cityscapes' or others that differ.
        train_split: Folder of the training set inside the next two.
        val_split: Folder of the validation set, likewise.
        images_folder: Folder of the pictures, absolute or relative to `root`.
        labels_folder: Folder of the label files, likewise.
        image_suffix: How pictures' file names end.
        label_suffix: How label files' file names end, after the same beginning.
        resize: Height and width to which all images are resized first; null leaves them as they are. In
            validation labels keep the size of their file, as scores are computed in it.
        scales: Factors of the size, one of which is drawn for an image in training.
        crop: Height and width of the part that training cuts out.
        flip: Probability of the left-right flip in training.
        **settings: Whatever else `DataModule` takes.
    """

    kind = "segmentation"
    other_mend = "give it by data.train_split or data.val_split if it is meant to be used"

    def __init__(
        self,
        root: str | Path,
        classes: Mapping[str, int | Sequence[int]] | None = None,
        ignored: Sequence[int] | None = None,
        colours: Mapping[str, Sequence[int]] | None = None,
        train_split: str = "train",
        val_split: str = "val",
        images_folder: str = "leftImg8bit",
        labels_folder: str = "gtFine",
        image_suffix: str = "_leftImg8bit.png",
        label_suffix: str = "_gtFine_labelIds.png",
        resize: Sequence[int] | None = None,
        scales: Sequence[float] = (0.75, 1.0, 1.25, 1.5, 1.75, 2.0),
        crop: Sequence[int] = (769, 769),
        flip: float = 0.5,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.root = Path(root)
        self.label_map = build_label_map(classes, ignored, colours)
        self.train_split = train_split
        self.val_split = val_split
        self.images_folder = self.root / images_folder
        self.labels_folder = self.root / labels_folder
        self.image_suffix = self.picture_ending = image_suffix
        self.unused_mend = (
            f"let their names end in data.image_suffix={image_suffix}, and give them label files, "
            "if they are meant to be used"
        )
        self.label_suffix = label_suffix
        self.resize = resize
        self.train_transform = segmentation_training(resize, scales, crop, flip)

    @property
    def picture_settings(self) -> dict[str, Any]:
        """The resize of all images."""
        return {"resize": self.resize}

    def build_train(self, problems: Problems) -> CityscapesSegmentation:
        """List and check the training set."""
        dataset = self._build("train_split", self.train_split, problems)
        if dataset.pixels.any() and (unseen := dataset.unseen_classes()):
            what = f"no label file has a pixel of {listed(unseen)}"
            problems.append(Problem(Kind.UNSEEN_CLASS, dataset.files.labels, what))
        dataset.transform = self.train_transform
        return dataset

    def build_val(self, problems: Problems) -> CityscapesSegmentation:
        """List and check the validation set."""
        return self.for_validation(self._build("val_split", self.val_split, problems))

    def for_validation(self, dataset: CityscapesSegmentation) -> CityscapesSegmentation:
        """Resized only, with the labels of the files."""
        other = super().for_validation(dataset)
        other.labels_as_stored = True
        return other

    def picture_folders(self) -> list[Path]:
        """Those of the two splits."""
        return [self.images_folder / split for split in (self.train_split, self.val_split)]

    def other_folders(self) -> list[Path]:
        """Those beside the two splits, without the label files'."""
        return [folder for folder in super().other_folders() if not self.labels_folder.is_relative_to(folder)]

    def match_classes(self, names: Sequence[str], renamed: Mapping[str, str] | None = None) -> None:
        """Number the classes as a network does, in files of predictions too; see `DataModule`."""
        super().match_classes(names, renamed)
        dataset = self.train_dataset or self.val_dataset
        self.label_map = dataset.label_map if dataset is not None else self.label_map

    @property
    def label_files(self) -> LabelFiles:
        """Named like the pictures, without what all of these end with."""
        return LabelFiles(self.label_map, Path(self.image_suffix).stem)

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

    def _goes_by_label_ids(self) -> bool:
        """Whether the classes are Cityscapes' own."""
        ids = dict(zip(self.label_map.class_names, self.label_map.class_ids, strict=True))
        return ids == {name: (label_id,) for name, label_id in CITYSCAPES_CLASSES.items()}

    def _build(self, key: str, split: str, problems: Problems) -> CityscapesSegmentation:
        """The set of a split, set by the config key `data.<key>`, as validation transforms it."""
        check_root(self.root, self.images_folder / split)
        files = FilePairs(
            self.images_folder / split, self.labels_folder / split, self.image_suffix, self.label_suffix
        )
        for folder, folder_key in ((self.images_folder, "images_folder"), (self.labels_folder, "labels_folder")):
            check_folder(folder, folder_key)
            check_folder(folder / split, key)
        if (files.images, self.image_suffix) == (files.labels, self.label_suffix):
            what = "pictures and label files are the same files"
            mend = "set data.labels_folder or data.label_suffix to those of the masks"
            raise SetError(Problem(Kind.SET, files.images, what, mend))
        if "trainids" in self.label_suffix.lower() and self._goes_by_label_ids():
            what = f"files that end in {self.label_suffix} hold trainIds, but data.classes names labelIds"
            raise SetError(Problem(Kind.SET, files.labels, what, "set data.label_suffix=_gtFine_labelIds.png"))
        names = files.names(problems)
        problems.settle()
        dataset = CityscapesSegmentation(files, names, self.label_map, self.eval_transform(), self.random_seed)
        good = check_images(dataset, None, self.check_images, problems)
        pictures = int(np.count_nonzero(good))
        dataset.pixels = check_labels(dataset, good, self.check_images, problems)
        if not good.any():
            where, words = (files.labels, "label files") if pictures else (files.images, "pictures")
            words = words if pictures in (0, len(good)) else "pictures with their label files"
            what = f"none of the {len(good)} {words} is usable"
            problems.append(Problem(Kind.SET, where, what, "mend what is wrong with them"))
        elif self._goes_by_label_ids() and _may_be_train_ids(dataset.pixels):
            what = "no label file has an id over 18, as if they held trainIds, where data.classes names labelIds"
            problems.append(Problem(Kind.TRAIN_IDS, files.labels, what))
        elif dataset.pixels.any() and len(dataset.unseen_classes()) == len(dataset.class_names):
            use = "learn from" if key.startswith("train") else "score"
            what = f"no label file has a pixel of any class to {use}: all are ignored"
            problems.append(Problem(Kind.SET, files.labels, what, "correct data.classes or the files"))
        dataset.names = dataset.names[good]
        return dataset


def _may_be_train_ids(pixels: np.ndarray) -> bool:
    """Whether counted ids (256,) are of those that stand for the 19 classes in training, 255 for the others."""
    ids = np.flatnonzero(pixels[:IGNORED_LABEL])
    return len(ids) > 1 and ids.max() < len(CITYSCAPES_CLASSES) and ids.min() < min(CITYSCAPES_CLASSES.values())


def _names(folder: Path, suffix: str, key: str) -> set[str]:
    """The files in `folder` and anywhere below that end in `suffix`: paths without it."""
    found = {path.removesuffix(suffix) for path in files_below(folder) if path.endswith(suffix)}
    if not found:
        what = f"no file ends in {suffix}, neither in the folder nor below"
        raise SetError(Problem(Kind.SET, folder, what, f"set data.{key} to how the names end"))
    return found
