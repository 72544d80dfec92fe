"""Segmentation sets in the layout of Cityscapes: a label file beside every picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fna_lightning.data.batches import IGNORED_LABEL
from fna_lightning.data.checking.folders import check_folder, check_root, files_below
from fna_lightning.data.checking.problems import Kind, Problem, Problems, SetError
from fna_lightning.data.label_maps import CITYSCAPES_CLASSES, LabelFiles, build_label_map
from fna_lightning.data.layouts.segmentation import CityscapesSegmentation, SegmentationDataModule


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


class CityscapesDataModule(SegmentationDataModule):
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
        val_split: Folder of the validation set, likewise; null sets a share of the other aside.
        images_folder: Folder of the pictures, absolute or relative to `root`.
        labels_folder: Folder of the label files, likewise.
        image_suffix: How pictures' file names end.
        label_suffix: How label files' file names end, after the same beginning.
        **settings: Whatever else `SegmentationDataModule` takes.
    """

    other_mend = "give it by data.train_split or data.val_split if it is meant to be used"

    def __init__(
        self,
        root: str | Path,
        classes: Mapping[str, int | Sequence[int]] | None = None,
        ignored: Sequence[int] | None = None,
        colours: Mapping[str, Sequence[int]] | None = None,
        train_split: str = "train",
        val_split: str | None = "val",
        images_folder: str = "leftImg8bit",
        labels_folder: str = "gtFine",
        image_suffix: str = "_leftImg8bit.png",
        label_suffix: str = "_gtFine_labelIds.png",
        **settings: Any,
    ) -> None:
        super().__init__(root, **settings)
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

    def has_validation(self) -> bool:
        """Where a folder is named."""
        return self.val_split is not None

    def build_train(self, problems: Problems) -> CityscapesSegmentation:
        """List and check the training set."""
        return self.to_train(self._build("train_split", self.train_split, problems), problems)

    def build_val(self, problems: Problems) -> CityscapesSegmentation:
        """List and check the validation set."""
        if self.val_split is None:
            raise RuntimeError("the set has no validation part")
        return self.for_validation(self._build("val_split", self.val_split, problems))

    def picture_folders(self) -> list[Path]:
        """Those of the two splits."""
        return [self.images_folder / split for split in (self.train_split, self.val_split) if split is not None]

    def other_folders(self) -> list[Path]:
        """Those beside the two splits, without the label files'."""
        return [folder for folder in super().other_folders() if not self.labels_folder.is_relative_to(folder)]

    @property
    def label_files(self) -> LabelFiles:
        """Named like the pictures, without what all of these end with."""
        return LabelFiles(self.label_map, Path(self.image_suffix).stem)

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
        dataset = self.usable(dataset, "learn from" if key.startswith("train") else "score", problems)
        if self._goes_by_label_ids() and _may_be_train_ids(dataset.pixels):
            what = "no label file has an id over 18, as if they held trainIds, where data.classes names labelIds"
            problems.append(Problem(Kind.TRAIN_IDS, files.labels, what))
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
