"""The labels found in every validation picture, as image files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, cast

import cv2
import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback

from fna_lightning.data import DataModule
from fna_lightning.data.batches import SegmentationBatch
from fna_lightning.data.label_maps import LabelFiles
from fna_lightning.errors import DataError
from fna_lightning.files import replacing


class PredictionFiles(Callback):
    """Writes the labels of every picture of a validation, for a server that scores them and for people.

    `label_ids/<name>.png` holds the data set's own ids, eight bits a pixel, as Cityscapes' server takes them;
    `coloured/<name>.png` the same in the label map's colours. A name is that of the picture without its suffix, in
    the picture's folder only where another picture has it too. Every rank writes the pictures it was given.

    Args:
        folder: where the two folders go.
        files: the data set's label map, and the suffix of its pictures.
    """

    def __init__(self, folder: Path, files: LabelFiles) -> None:
        self._folder = folder
        self._label_map = files.label_map
        self._suffix = files.suffix
        self._names: dict[str, str] = {}

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Name the files, the same on every rank.

        Raises:
            DataError: two pictures would be written to the same file.
        """
        data = cast("DataModule[Any]", trainer.datamodule)  # pyright: ignore[reportAttributeAccessIssue]
        dataset = data.val_dataset
        assert dataset is not None, "the trainer has set the data module up"
        self._names = name_files([dataset.path(index) for index in range(len(dataset))], self._suffix)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: SegmentationBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the pictures of one batch."""
        for file, labels in zip(batch.files, outputs["predictions"], strict=True):
            found, name = labels.cpu().numpy(), f"{self._names[file]}.png"
            write_png(self._folder / "label_ids" / name, self._label_map.to_ids(found))
            coloured = cv2.cvtColor(self._label_map.coloured(found), cv2.COLOR_RGB2BGR)
            write_png(self._folder / "coloured" / name, coloured)


def name_files(pictures: list[Path], suffix: str) -> dict[str, str]:
    """Names of the files that belong to `pictures`, without extension; see `PredictionFiles`.

    Raises:
        DataError: two pictures share a name and the folder's.
    """
    stems = [picture.stem.removesuffix(suffix) for picture in pictures]
    counts = Counter(stems)
    names: dict[str, str] = {}
    taken: dict[str, Path] = {}
    for picture, stem in zip(pictures, stems, strict=True):
        name = stem if counts[stem] == 1 else f"{picture.parent.name}/{stem}"
        if name in taken:
            raise DataError(f"{picture}: has name and folder's name in common with {taken[name]}; rename one")
        taken[name] = picture
        names[str(picture)] = name
    return names


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W) or (H, W, 3) BGR uint8, whole or not at all; compressed little, which is fast."""
    _, content = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    with replacing(path) as temporary:
        temporary.write_bytes(content.tobytes())
