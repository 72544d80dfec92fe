"""Detection sets with YOLO's label files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fna_lightning.data.checking.folders import beside, check_root
from fna_lightning.data.checking.problems import Problems
from fna_lightning.data.layouts.detection import CocoDetection, DetectionDataModule
from fna_lightning.data.layouts.yolo_annotations import read_yolo
from fna_lightning.data.layouts.yolo_description import Description, find_description


class YoloDataModule(DetectionDataModule):
    """Any detection set with a label file `class x y w h` for every picture, described by a `data.yaml`.

    Args:
        root: Folder of the set. Paths in its description that lead elsewhere are taken by their ends in it.
        description: The file that names classes and pictures, absolute or relative to `root`; null for
            `data.yaml`, or the `classes.txt` of Label Studio, whose pictures are in `images`.
        **settings: Whatever else `DetectionDataModule` takes.
    """

    def __init__(self, root: str | Path, description: str | None = None, **settings: Any) -> None:
        super().__init__(root, **settings)
        self.description = description

    def has_validation(self) -> bool:
        """Where the description has `val`."""
        return self._describe().has("val")

    def build_train(self, problems: Problems) -> CocoDetection:
        """Read and check the training set."""
        return self._build("train", problems)

    def build_val(self, problems: Problems) -> CocoDetection:
        """Read and check the validation set."""
        return self._build("val", problems)

    def picture_folders(self) -> list[Path]:
        """Those that the description names."""
        described = self._describe()
        splits = ("train", "val") if self.has_validation() else ("train",)
        return [place for split in splits for place in described.places(split) if place.is_dir()]

    def other_folders(self) -> list[Path]:
        """Those beside the splits', whichever way these and `images` lie in each other."""
        folders = self.picture_folders()
        return beside([*folders, *(folder.parent for folder in folders if folder.name == "images")])

    def _describe(self) -> Description:
        described = find_description(self.root, self.description)
        check_root(self.root, described.file)
        return described

    def _build(self, split: str, problems: Problems) -> CocoDetection:
        described = self._describe()
        classes = described.classes
        annotations = read_yolo(self.root, described.file, described.pictures(split), classes, problems)
        return self.usable(annotations, self.root, "description", problems, learnt=split == "train")
