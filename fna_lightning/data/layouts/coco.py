"""Detection sets in the COCO layout, and as labelling tools export them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fna_lightning.data.checking.folders import check_folder, check_root
from fna_lightning.data.checking.problems import Kind, Problem, Problems, SetError, tell
from fna_lightning.data.layouts.annotations import CocoAnnotations, read_annotations
from fna_lightning.data.layouts.coco_exports import find_export, find_pictures
from fna_lightning.data.layouts.detection import CocoDetection, DetectionDataModule

_TRAIN_FILE, _VAL_FILE = (f"annotations/instances_{split}2017.json" for split in ("train", "val"))
_DEFAULTS = (_TRAIN_FILE, _VAL_FILE, "train2017", "val2017")


class CocoDataModule(DetectionDataModule):
    """Any detection set in COCO's format; the defaults are the layout of COCO 2017.

    Where none of these is set and there are no such files, the annotation files of `root` are looked for, as
    Roboflow, CVAT and Label Studio export them, and the pictures beside them; see `coco_exports`.

    Args:
        root: Folder of the set.
        train_annotations: Instances file of the training set, absolute or relative to `root`; so are
            the next three.
        val_annotations: Instances file of the validation set; null sets a share of the other aside.
        train_images: Folder of the training images.
        val_images: Folder of the validation images.
        **settings: Whatever else `DetectionDataModule` takes.
    """

    other_mend = "give it by data.train_images or data.val_images, with its annotations, if it is meant to be used"

    def __init__(
        self,
        root: str | Path,
        train_annotations: str = _TRAIN_FILE,
        val_annotations: str | None = _VAL_FILE,
        train_images: str = "train2017",
        val_images: str = "val2017",
        **settings: Any,
    ) -> None:
        super().__init__(root, **settings)
        self.train_annotation_file = self.root / train_annotations
        self.val_annotation_file = None if val_annotations is None else self.root / val_annotations
        self.train_images = self.root / train_images
        self.val_images = self.root / val_images
        given = (train_annotations, val_annotations, train_images, val_images)
        self._may_look = given == _DEFAULTS
        self._is_export = False

    def has_validation(self) -> bool:
        """Where there is a file for it."""
        self._look()
        return self.val_annotation_file is not None

    def build_train(self, problems: Problems) -> CocoDetection:
        """Read and check the training set."""
        self._look()
        annotations = self._read(self.train_annotation_file, problems)
        self.train_images = self._pictures(annotations, self.train_images, "train_images")
        return self.usable(annotations, self.train_images, "train_images", problems, learnt=True)

    def build_val(self, problems: Problems) -> CocoDetection:
        """Read and check the validation set."""
        self._look()
        if self.val_annotation_file is None:
            raise RuntimeError("the set has no validation part")
        annotations = self._read(self.val_annotation_file, problems)
        self.val_images = self._pictures(annotations, self.val_images, "val_images")
        return self.usable(annotations, self.val_images, "val_images", problems, learnt=False)

    def picture_folders(self) -> list[Path]:
        """Those of the two settings."""
        return [self.train_images, *([] if self.val_annotation_file is None else [self.val_images])]

    def check_same_classes(self, train: CocoDetection, val: CocoDetection) -> None:
        """Require the same categories, by name and by id, in both sets."""
        super().check_same_classes(train, val)
        ids = zip(train.annotations.category_ids, val.annotations.category_ids, strict=True)
        for name, (one, other) in zip(val.class_names, ids, strict=True):
            if one != other:
                what = f"category {name!r} has the id {other}, but {one} in the training set"
                raise SetError(Problem(Kind.CLASSES, val.source, what))

    def _look(self) -> None:
        """Find the files of an export, once, where none are named and those of COCO 2017 are not there."""
        if not self._may_look:
            return
        self._may_look = False
        folder = self.root / Path(_TRAIN_FILE).name  # given as the root
        if any(file.exists() for file in (self.train_annotation_file, self.root / _VAL_FILE, folder)):
            return
        if found := find_export(self.root):
            self._is_export = True
            self.train_annotation_file, self.val_annotation_file = found
            tell("%s: training on %s, validation on %s", self.root, found[0], found[1] or "a share of it")

    def _read(self, file: Path, problems: Problems) -> CocoAnnotations:
        files = [self.train_annotation_file, *([self.val_annotation_file] if self.val_annotation_file else [])]
        check_root(self.root, file, *files)
        return read_annotations(file, problems)

    def _pictures(self, annotations: CocoAnnotations, folder: Path, key: str) -> Path:
        """The folder of the pictures: the one that is set, or where those of an export are."""
        if self._is_export:
            folder = find_pictures(self.root, annotations.file, [name.decode() for name in annotations.file_names])
            tell("%s: its pictures are taken from %s", annotations.file, folder)
        check_folder(folder, key)
        return folder
