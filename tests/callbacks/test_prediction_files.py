"""Files of predicted labels."""

from pathlib import Path

import cv2
import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from fna_lightning.callbacks import PredictionFiles
from fna_lightning.callbacks.prediction_files import name_files
from fna_lightning.data import (
    CityscapesDataModule,
    CocoDataModule,
    FolderDataModule,
    ShapesDetectionDataModule,
    ShapesSegmentationDataModule,
)
from fna_lightning.data.batches import SegmentationBatch
from fna_lightning.data.label_maps import LabelFiles, build_label_map
from fna_lightning.errors import DataError
from fna_lightning.modules import EvaluationModule
from fna_lightning.tasks import SegmentationTask

PICTURES = ("ulm/ulm_0_leftImg8bit.png", "ulm/shared_leftImg8bit.png", "bonn/shared_leftImg8bit.png")
SIZES = ((6, 9), (6, 9), (4, 5))
MAP = build_label_map({"road": 7, "person": [24, 25], "sky": 23})


class Pictures(L.LightningDataModule):
    """Grey pictures of an intensity of their own in every pixel."""

    class_names = MAP.class_names

    def __init__(self, root):
        super().__init__()
        self.root, self.val_dataset = root, self
        self.images = [np.random.default_rng(n).integers(0, 256, size) for n, size in enumerate(SIZES)]

    def __len__(self):
        return len(PICTURES)

    def __getitem__(self, index):
        return index

    def path(self, index):
        return self.root / PICTURES[index]

    def collate(self, indices):
        sizes = torch.tensor([SIZES[index] for index in indices])
        images = torch.zeros(len(indices), 3, *sizes.amax(0), dtype=torch.uint8)
        for target, index in zip(images, indices, strict=True):
            target[:, : SIZES[index][0], : SIZES[index][1]] = torch.from_numpy(self.images[index])
        labels = torch.zeros(len(indices), *sizes.amax(0), dtype=torch.uint8)
        files = [str(self.path(index)) for index in indices]
        return SegmentationBatch(images, labels, sizes, sizes, files=files)

    def val_dataloader(self):
        return DataLoader(self, batch_size=2, collate_fn=self.collate)


class Thirds(nn.Module):
    """Label 0, 1 or 2 by how light a pixel is."""

    num_classes = 3

    def forward(self, images):
        grey = images[:, :1].float()
        return torch.cat([-grey, -(grey - 127.5).abs(), grey - 255], dim=1)


@pytest.fixture
def written(adaptation, tmp_path):
    """(data, folder) after a validation."""
    data, folder = Pictures(tmp_path / "leftImg8bit" / "val"), tmp_path / "predictions"
    module = EvaluationModule(Thirds(), SegmentationTask())
    callback = PredictionFiles(folder, LabelFiles(MAP, "_leftImg8bit"))
    adaptation.trainer(callback).validate(module, data, verbose=False)
    return data, folder


def test_files_hold_what_was_found(written):
    data, folder = written
    for image, name in zip(data.images, ("ulm_0", "ulm/shared", "bonn/shared"), strict=True):
        ids = cv2.imread(str(folder / "label_ids" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert ids.dtype == np.uint8
        wanted = np.select([image < 63.75, image < 191.25], [7, 24], 23)
        np.testing.assert_array_equal(ids, wanted)
        coloured = cv2.imread(str(folder / "coloured" / f"{name}.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
        for label_id, colour in {7: (128, 64, 128), 24: (220, 20, 60), 23: (70, 130, 180)}.items():
            assert (ids == label_id).any()
            np.testing.assert_array_equal((coloured == colour).all(axis=2), ids == label_id)


def test_nothing_else_is_left(written):
    _, folder = written
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    names = ("ulm_0", "ulm/shared", "bonn/shared")
    assert files == {f"{kind}/{name}.png" for kind in ("label_ids", "coloured") for name in names}


def test_names_are_those_of_the_pictures():
    pictures = [Path("val/a/x_leftImg8bit.png"), Path("val/a/y.jpg"), Path("val/b/y.jpg")]
    assert list(name_files(pictures, "_leftImg8bit").values()) == ["x", "a/y", "b/y"]
    assert list(name_files(pictures, "").values()) == ["x_leftImg8bit", "a/y", "b/y"]


def test_pictures_that_cannot_be_told_apart_are_refused():
    with pytest.raises(DataError, match=r"2/a/x\.png: has name and folder's name in common with 1/a/x\.png"):
        name_files([Path("1/a/x.png"), Path("2/a/x.png")], "")


def test_data_sets_say_how_predictions_are_written(tmp_path):
    streets = CityscapesDataModule(tmp_path, classes={"road": 7}, image_suffix="_picture.jpg")
    assert streets.label_files == LabelFiles(streets.label_map, "_picture")
    shapes = ShapesSegmentationDataModule(tmp_path)
    assert shapes.label_files == LabelFiles(shapes.label_map, "_leftImg8bit")
    others = (FolderDataModule(tmp_path), CocoDataModule(tmp_path), ShapesDetectionDataModule(tmp_path))
    assert [data.label_files for data in others] == [None] * 3
