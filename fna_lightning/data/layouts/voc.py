"""Detection sets in the layout of Pascal VOC."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fna_lightning.data.checking.folders import check_root
from fna_lightning.data.checking.problems import Kind, Problem, Problems, SetError
from fna_lightning.data.layouts.annotations import CocoAnnotations
from fna_lightning.data.layouts.detection import CocoDetection, DetectionDataModule
from fna_lightning.data.layouts.voc_annotations import list_file, read_image_sets
from fna_lightning.errors import ConfigError, listed

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
_MANY = 30  # classes that no command line lists


class VocDataModule(DetectionDataModule):
    """Any detection set in VOC's layout; the defaults train on VOC 2007 and 2012 and validate on 2007's test set.

    A year's folder holds `Annotations`, `ImageSets/Main` and `JPEGImages`. An image set is named by
    `<folder>/<list>`, such as `VOC2007/trainval`; one of `root` itself by its list alone.

    Args:
        root: Folder that the image sets' folders are relative to: `VOCdevkit`, or a single year's.
        train_sets: Image sets of the training set, one after the other.
        val_sets: Image sets of the validation set; null sets a share of the others aside.
        classes: Names of the classes, in the order of their labels; null for those in the files, sorted.
        one_based: Corners number pixels from 1, as VOC's do; false where they are distances from 0.
        difficult: Train on objects marked as difficult. Scores ignore them in any case.
        **settings: Whatever else `DetectionDataModule` takes.

    Raises:
        ConfigError: There is no image set or class, one is there twice, or a list is none.
    """

    voc_scores = True

    def __init__(
        self,
        root: str | Path,
        train_sets: Sequence[str] = ("VOC2007/trainval", "VOC2012/trainval"),
        val_sets: Sequence[str] | None = ("VOC2007/test",),
        classes: Sequence[str] | None = VOC_CLASSES,
        one_based: bool = True,
        difficult: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(root, **settings)
        self.train_sets = _names("train_sets", train_sets)
        self.val_sets = None if val_sets is None else _names("val_sets", val_sets)
        self.classes = None if classes is None else _names("classes", classes)
        self.one_based = one_based
        self.difficult = difficult

    def has_validation(self) -> bool:
        """Where image sets are named."""
        return self.val_sets is not None

    def build_train(self, problems: Problems) -> CocoDetection:
        """Read and check the training set."""
        annotations = self._read(self.train_sets, "train_sets", problems)
        if self.has_validation():
            annotations = self._to_learn(annotations)
        return self.usable(annotations, self.root, "train_sets", problems, learnt=True)

    def set_aside(self, whole: CocoDetection) -> tuple[CocoDetection, CocoDetection]:
        """As any set's; what is difficult stays marked in the part that is scored."""
        train, val = super().set_aside(whole)
        train.annotations = self._to_learn(train.annotations)
        return train, val

    def build_val(self, problems: Problems) -> CocoDetection:
        """Read and check the validation set."""
        if self.val_sets is None:
            raise RuntimeError("the set has no validation part")
        annotations = self._read(self.val_sets, "val_sets", problems)
        return self.usable(annotations, self.root, "val_sets", problems, learnt=False)

    def picture_folders(self) -> list[Path]:
        """One for each year."""
        years = {name.rpartition("/")[0] for name in (*self.train_sets, *(self.val_sets or ()))}
        return [self.root / year / "JPEGImages" for year in sorted(years)]

    def other_folders(self) -> list[Path]:
        """None: what lies beside a year's pictures are its masks, and other splits are lists of the same ones."""
        return []

    def check_same_classes(self, train: CocoDetection, val: CocoDetection) -> None:
        """Require the same classes in both sets, which may differ where they are those in the files."""
        if train.class_names != val.class_names:
            odd = sorted(set(train.class_names) ^ set(val.class_names))
            both = sorted({*train.class_names, *val.class_names})
            names = f"=[{','.join(both)}]" if len(both) < _MANY else f" to the {len(both)} names of both"
            what = f"only one of training and validation set has objects of {listed(map(repr, odd))}"
            raise SetError(Problem(Kind.CLASSES, val.source, what, f"set data.classes{names}"))

    def _to_learn(self, annotations: CocoAnnotations) -> CocoAnnotations:
        """Without the marks, where difficult objects are trained on."""
        unmarked = np.zeros_like(annotations.crowd)
        return dataclasses.replace(annotations, crowd=unmarked) if self.difficult else annotations

    def _read(self, sets: Sequence[str], key: str, problems: Problems) -> CocoAnnotations:
        year = self.root / sets[0].rpartition("/")[0]
        check_root(self.root, list_file(self.root, sets[0]), year / "Annotations")
        return read_image_sets(self.root, sets, key, self.classes, self.one_based, problems)


def _names(key: str, names: Sequence[str]) -> tuple[str, ...]:
    """`names`, if they are a list of different ones."""
    if isinstance(names, str) or not names or len(set(names)) < len(names):
        raise ConfigError(f"data.{key}={names} is no list of different names; write data.{key}=[first,second]")
    return tuple(names)
