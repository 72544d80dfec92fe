"""Segmentation sets of one's own: a folder of pictures and one of masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fna_lightning.data.checking.folders import beside, check_folder, check_root
from fna_lightning.data.checking.problems import Problems
from fna_lightning.data.label_maps import LabelFiles
from fna_lightning.data.layouts.mask_files import decode_ids, map_of_colours, map_of_ids, read_colours
from fna_lightning.data.layouts.mask_pairs import Wanted, find_pairs
from fna_lightning.data.layouts.segmentation import CityscapesSegmentation, SegmentationDataModule
from fna_lightning.errors import ConfigError

_TRAIN = ("train", "training")
_VAL = ("val", "valid", "validation")


class _Part(NamedTuple):
    """Where a split lies."""

    images: Path
    labels: Path
    wanted: Wanted


class MasksDataModule(SegmentationDataModule):
    """Any segmentation set of pictures and masks whose names pair.

    Masks are grey of 8 bits or have a palette, where `classes` names their ids; else they are read by `colours`.
    The splits are folders inside the two, or the two lie inside those of the splits, or lists name the pictures;
    without any, a share is set aside.

    Args:
        root: Folder of the set.
        classes: Name of every class in the order of labels, with the id or ids of its pixels; null where masks are
            coloured.
        colours: Name of every class with its colour or colours, each as red, green and blue, or a file of them,
            absolute or relative to `root`. With `classes` they are for pictures alone.
        ignored: Ids, or colours, of pixels that neither train nor score; null for 255 in masks of ids.
        images_folder: Folder of the pictures, absolute or relative to `root`, or to a split's folder.
        masks_folder: Folder of the masks, likewise.
        image_names: How pictures are named around what their masks share, such as `*_rgb`, without the ending;
            null finds it.
        mask_names: How masks are, likewise, such as `*_mask`.
        train_split: Folder of the training set; null for `train` or `training` where there is one, else all.
        val_split: Folder of the validation set; null for `val`, `valid` or `validation` where there is one.
        train_list: Text file with the names of the training pictures, absolute or relative to `root`; null for
            all but those of `val_list`.
        val_list: Text file with those of the validation pictures, likewise.
        **settings: Whatever else `SegmentationDataModule` takes.

    Raises:
        ConfigError: Classes or colours are missing or make no sense, or lists are given beside folders of splits.
    """

    other_mend = "give it by data.train_split or data.val_split if it is meant to be used"

    def __init__(
        self,
        root: str | Path,
        classes: Mapping[str, int | Sequence[int]] | None = None,
        colours: Mapping[str, Sequence[int] | Sequence[Sequence[int]]] | str | None = None,
        ignored: Sequence[int] | Sequence[Sequence[int]] | None = None,
        images_folder: str = "images",
        masks_folder: str = "masks",
        image_names: str | None = None,
        mask_names: str | None = None,
        train_split: str | None = None,
        val_split: str | None = None,
        train_list: str | None = None,
        val_list: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(root, **settings)
        if not classes and not colours:
            raise ConfigError(
                "data.classes and data.colours are empty: name the classes by their ids in grey or palette masks, "
                "data.classes={ground: 0, cell: 1}, or by their colours, data.colours={cell: [255, 0, 0]}"
            )
        if (train_split or val_split) and (train_list or val_list):
            raise ConfigError(
                "data.train_list and data.val_list take the place of data.train_split and data.val_split"
            )
        self.classes = classes
        self.colours = colours
        self.ignored = ignored
        self.names = (image_names, mask_names)
        self.images_folder = images_folder
        self.masks_folder = masks_folder
        self.splits = {"train": train_split, "val": val_split}
        self.lists = {"train": train_list, "val": val_list}
        if not isinstance(colours, str):
            self._read_classes()

    def has_validation(self) -> bool:
        """Where there is a list or a folder for it."""
        return self.lists["val"] is not None or self._split("val") is not None

    def build_train(self, problems: Problems) -> CityscapesSegmentation:
        """Pair and check the training set."""
        return self.to_train(self._build("train", problems), problems)

    def build_val(self, problems: Problems) -> CityscapesSegmentation:
        """Pair and check the validation set."""
        return self.for_validation(self._build("val", problems))

    def picture_folders(self) -> list[Path]:
        """Those of the pictures, and where splits lie in them that of all."""
        whole, parts = self.root / self.images_folder, [self._part("train").images]
        parts += [self._part("val").images] if self.has_validation() else []
        return [whole] if all(part.is_relative_to(whole) for part in parts) else parts

    def other_folders(self) -> list[Path]:
        """Those beside the splits', where the pictures lie inside."""
        inside = [self.root / split for key in ("train", "val") if (split := self._split(key))]
        return beside(folder for folder in inside if folder.is_dir())

    @property
    def label_files(self) -> LabelFiles:
        """Named like the pictures."""
        return LabelFiles(self.label_map, "")

    def _build(self, key: str, problems: Problems) -> CityscapesSegmentation:
        """The set of a split, as validation transforms it."""
        part = self._part(key)
        check_root(self.root, part.images, part.labels)
        split = "" if self.splits[key] is None else f"{key}_split"
        check_folder(part.images, split or "images_folder")
        check_folder(part.labels, split or "masks_folder")
        decode = self._read_classes()
        pairs = find_pairs((part.images, part.labels), self.names, part.wanted, problems)
        problems.settle()
        names = [name.decode(errors="surrogateescape") for name in pairs.pictures.tolist()]
        transform = self.eval_transform()
        dataset = CityscapesSegmentation(pairs, names, self.label_map, transform, self.random_seed, decode)
        return self.usable(dataset, "learn from" if key == "train" else "score", problems)

    def _read_classes(self) -> Callable[[bytes], np.ndarray]:
        """Note what masks hold; returns what decodes them."""
        table = read_colours(self.root / self.colours) if isinstance(self.colours, str) else self.colours or {}
        if self.classes:
            self.label_map = map_of_ids(self.classes, self.ignored, table)  # pyright: ignore[reportArgumentType]
            return decode_ids
        self.label_map, colours = map_of_colours(table, self.ignored)  # pyright: ignore[reportArgumentType]
        return colours.decode

    def _part(self, key: str) -> _Part:
        """Where the pictures and masks of a split lie."""
        files = {name: None if file is None else self.root / file for name, file in self.lists.items()}
        split = self._split(key)
        if split is None:
            others = files["val"] if key == "train" and files["train"] is None else None
            return _Part(self.root / self.images_folder, self.root / self.masks_folder, Wanted(files[key], others))
        outside = self.root / split
        if not (self.root / self.images_folder / split).is_dir() and (outside / self.images_folder).is_dir():
            return _Part(outside / self.images_folder, outside / self.masks_folder, Wanted())
        return _Part(self.root / self.images_folder / split, self.root / self.masks_folder / split, Wanted())

    def _split(self, key: str) -> str | None:
        """The folder of a split: the one that is named, or the first of the usual names that there is."""
        if any(self.lists.values()) or self.splits[key] is not None:
            return self.splits[key]
        for name in _TRAIN if key == "train" else _VAL:
            places = (self.root / self.images_folder / name, self.root / name / self.images_folder)
            if any(place.is_dir() for place in places):
                return name
        return None
