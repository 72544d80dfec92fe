"""Detection sets: pictures with boxes, in the arrays of COCO's annotations whatever file they come from."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fna_lightning.data.augmentation.ssd import PAD_COLOUR, SSDAugmentation
from fna_lightning.data.augmentation.transforms import (
    DetectionPipeline,
    detection_evaluation,
    detection_resize,
    detection_training,
    short_sides_rules,
)
from fna_lightning.data.base import DataModule
from fna_lightning.data.batches import DetectionBatch, padded
from fna_lightning.data.checking.checks import check_images
from fna_lightning.data.checking.images import read_image
from fna_lightning.data.checking.problems import Kind, Problem, Problems
from fna_lightning.data.datasets import EpochDataset
from fna_lightning.data.layouts.annotations import CocoAnnotations
from fna_lightning.errors import listed


@dataclass
class DetectionSample:
    """One image with its boxes, after the transform."""

    image: Tensor
    """(3, H, W) uint8, RGB."""
    boxes: Tensor
    """(M, 4) float32: x1, y1, x2, y2 in pixels of `image`."""
    labels: Tensor
    """(M,) int64."""
    original_size: tuple[int, int]
    """Height and width of the file."""
    image_id: int
    """The data set's own id."""
    file: str
    """Where it was read."""


class CocoDetection(EpochDataset[DetectionSample, DetectionPipeline]):
    """Images and boxes of a COCO instances file; crowds are left out, images without boxes are not.

    Args:
        annotations: The checked content of the file.
        images: Folder of the image files.
        transform: Applied to every image.
        random_seed: The run's.
        pad: Batches are padded to multiples of this, in pixels.
    """

    def __init__(
        self,
        annotations: CocoAnnotations,
        images: Path,
        transform: DetectionPipeline,
        random_seed: int = 0,
        pad: int = 32,
    ) -> None:
        super().__init__(transform, random_seed)
        self.annotations = annotations
        self.images = images
        self.pad = pad
        self.class_names = annotations.category_names
        self.source = annotations.file

    def __len__(self) -> int:
        return len(self.annotations)

    def path(self, index: int) -> Path:
        """The file of image `index`."""
        return self.images / self.annotations.file_names[index].decode()

    def name(self, index: int) -> str:
        """The file name, relative to the folder of the pictures."""
        return self.annotations.file_names[index].decode()

    def listed(self) -> Iterator[Path]:
        """All images of the file."""
        return (self.images / name.decode() for name in self.annotations.listed)

    def truth(self, index: int) -> list[tuple[list[float], str, bool]]:
        """Boxes with classes and marks, sorted."""
        annotations, rows = self.annotations, self.annotations.boxes_of(index)
        names = [self.class_names[label] for label in annotations.labels[rows]]
        return sorted(zip(annotations.boxes[rows].tolist(), names, annotations.crowd[rows].tolist(), strict=True))

    def fingerprint(self) -> int:
        """As of all sets, and of all boxes, which are in memory."""
        annotations = self.annotations
        classes = np.array([zlib.crc32(name.encode()) for name in self.class_names])[annotations.labels]
        found = super().fingerprint()
        for numbers in (annotations.boxes, annotations.image_of, annotations.crowd, classes):
            found = zlib.crc32(np.ascontiguousarray(numbers).tobytes(), found)
        return found

    def load(self, index: int, random_seed: int) -> DetectionSample:
        """Read image `index` with its boxes and transform them under `random_seed`."""
        path = self.path(index)
        image = read_image(path)
        size = (image.shape[0], image.shape[1])
        boxes, labels = self._boxes(index, size)
        image, boxes, labels = self.transform(image, boxes, labels, random_seed)
        return DetectionSample(
            torch.from_numpy(image).permute(2, 0, 1),
            torch.from_numpy(boxes),
            torch.from_numpy(labels),
            size,
            int(self.annotations.image_ids[index]),
            str(path),
        )

    def collate(self, samples: Sequence[DetectionSample]) -> DetectionBatch:
        """Pad all images at the right and bottom to one size, a multiple of `pad`."""
        images, sizes = padded([sample.image for sample in samples], PAD_COLOUR, self.pad)
        return DetectionBatch(
            images=images,
            boxes=[sample.boxes for sample in samples],
            labels=[sample.labels for sample in samples],
            sizes=sizes,
            original_sizes=torch.tensor([sample.original_size for sample in samples]),
            image_ids=torch.tensor([sample.image_id for sample in samples]),
            files=[sample.file for sample in samples],
        )

    def renumber(self, order: Sequence[int], names: Sequence[str]) -> None:
        """Let label k be the class that has been label order[k]; ids stay those of the file."""
        self.annotations = self.annotations.renumbered(order, names)
        self.class_names = self.annotations.category_names

    def part(self, indices: Sequence[int]) -> CocoDetection:
        """The images `indices`, ascending, with their boxes."""
        kept = np.zeros(len(self), dtype=bool)
        kept[list(indices)] = True
        other = copy.copy(self)
        other.annotations = self.annotations.keep(kept)
        return other

    def totals(self) -> dict[str, int]:
        """Images, boxes and images without boxes, crowds counted as boxes."""
        annotations = self.annotations
        with_boxes = len(np.unique(annotations.image_of))
        return {
            "images": len(self),
            "boxes": len(annotations.boxes),
            "images without boxes": len(self) - with_boxes,
        }

    def _boxes(self, index: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (M, 4) float64 as corners, cut at the image's edge, and labels (M,) of image `index`."""
        rows = self.annotations.boxes_of(index)
        single = ~self.annotations.crowd[rows]
        boxes = self.annotations.boxes[rows][single]
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        return corners.clip(0, np.tile(size[::-1], 2)), self.annotations.labels[rows][single]


def note_unseen(dataset: CocoDetection, problems: Problems) -> None:
    """Note the classes of which no image has a box to learn from, all in one line."""
    annotations = dataset.annotations
    boxes = np.bincount(annotations.labels[~annotations.crowd], minlength=len(dataset.class_names))
    unseen = [name for name, number in zip(dataset.class_names, boxes, strict=True) if not number]
    if unseen:
        what = f"no image has a box of {listed(unseen)}"
        problems.append(Problem(Kind.UNSEEN_CLASS, annotations.file, what))


class DetectionDataModule(DataModule[CocoDetection]):
    """Two sets of images with boxes, under the resize and augmentation of a detector.

    Args:
        root: Folder of the set.
        size: Height and width to resize to, whatever the ratio; null to keep the ratio as follows.
        short_side: The short side is resized to this, if `size` is null...
        long_side: ...unless the long side would exceed this.
        train_short_sides: Smallest and largest short side of training in several sizes, of which one is drawn for
            each image if `size` is null, all whole numbers equally likely; null for `short_side`.
        flip: Probability of the left-right flip in training.
        augmentation: What else changes in training, before the resize; null for nothing.
        pad: Batches are padded to multiples of this, in pixels.
        **settings: Whatever else `DataModule` takes.
    """

    kind = "detection"
    voc_scores: ClassVar[bool] = False
    """Whether results on this set are compared by Pascal VOC's figures too."""

    def __init__(
        self,
        root: str | Path,
        size: Sequence[int] | None = None,
        short_side: int | None = 800,
        long_side: int | None = 1333,
        train_short_sides: tuple[int, int] | None = None,
        flip: float = 0.5,
        augmentation: SSDAugmentation | None = None,
        pad: int = 32,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.root = Path(root)
        self._sizes = {"size": size, "short_side": short_side, "long_side": long_side}
        self.resize = partial(detection_resize, **self._sizes)
        self.resize()  # a wrong size is reported now
        self.train_short_sides = train_short_sides
        self.flip = flip
        self.augmentation = augmentation
        self.pad = pad
        self.train_transform()  # likewise what is wrong in these

    @property
    def picture_settings(self) -> dict[str, Any]:
        """Size, or the two sides, and padding."""
        return {**self._sizes, "pad": self.pad}

    @property
    def category_ids(self) -> list[int]:
        """The annotation file's category id of every label; known after `setup`."""
        dataset = self.train_dataset or self.val_dataset
        if dataset is None:
            raise RuntimeError("the categories are known after setup()")
        return list(dataset.annotations.category_ids)

    def ground_truth(self) -> dict[str, list[dict[str, Any]]]:
        """The validation set as the content of a COCO file, without what was left out; after `setup`."""
        if self.val_dataset is None:
            raise RuntimeError("the ground truth is known after setup()")
        return self.val_dataset.annotations.as_coco()

    def train_transform(self) -> DetectionPipeline:
        """Resize and augment."""
        resize = self.resize()
        if self.train_short_sides and not self._sizes["size"]:
            resize = short_sides_rules(*self.train_short_sides, self._sizes["long_side"])
        return detection_training(resize, self.flip, self.augmentation)

    def eval_transform(self) -> DetectionPipeline:
        """Resize only."""
        return detection_evaluation(self.resize())

    def unlabelled(self, pictures: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> DetectionBatch:
        """Pictures of no set in one batch, padded as all are; they are numbered from 0.

        Args:
            pictures: N tensors (3, H_i, W_i) uint8, as `seen` gives them; one at least.
            sizes: height and width of each before.
        """
        images, inside = padded(pictures, PAD_COLOUR, self.pad)
        boxes, labels = DetectionBatch.empty_boxes()
        number = len(pictures)
        originals, ids = torch.tensor(list(sizes)), torch.arange(number)
        return DetectionBatch(images, [boxes] * number, [labels] * number, inside, originals, ids)

    def usable(
        self,
        annotations: CocoAnnotations,
        images: Path,
        key: str,
        problems: Problems,
        *,
        learnt: bool,
    ) -> CocoDetection:
        """The data set of checked annotations, without the pictures that turn out broken.

        Args:
            annotations: What is in it.
            images: The folder to which file names are relative.
            key: The setting of `data` by which its pictures are found.
            problems: Takes in what is wrong with the pictures.
            learnt: Whether it is trained on.
        """
        transform = self.train_transform() if learnt else self.eval_transform()
        dataset = CocoDetection(annotations, images, transform, self.random_seed, self.pad)
        good = check_images(dataset, annotations.sizes, self.check_images, problems)
        if len(good) and not good.any():
            what = f"none of the {len(good)} images of {annotations.file.name} is usable"
            problems.append(Problem(Kind.SET, images, what, f"set data.{key}"))
        if not good.all():
            dataset.annotations = annotations.keep(good)
        refused = any(
            problem.kind in (Kind.SET, Kind.CATEGORY) and problem.path == annotations.file for problem in problems
        )
        if not good.any() or refused:  # of which all else follows
            return dataset
        if dataset.annotations.crowd.all():  # also where there is no box at all
            use = "learn from" if learnt else "score"
            marked = ": all are marked as iscrowd or difficult" if len(dataset.annotations.crowd) else ""
            mend = "annotate single objects, unmarked"
            problems.append(Problem(Kind.SET, annotations.file, f"no image has a box to {use}{marked}", mend))
        elif learnt:
            note_unseen(dataset, problems)
        return dataset
