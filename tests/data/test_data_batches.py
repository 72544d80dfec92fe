"""Batches: the paths of their pictures, and the ways to the device."""

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from torch.utils.data._utils.pin_memory import pin_memory

from fna_lightning.data import ClassificationBatch, CocoDataModule, FolderDataModule


@pytest.fixture(params=["coco", "folders"])
def batches(request):
    if request.param == "coco":
        data = CocoDataModule(request.getfixturevalue("coco").root, size=[64, 96], batch_size=2, num_workers=0)
    else:
        data = FolderDataModule(request.getfixturevalue("folders"), size=32, batch_size=2, num_workers=0)
    data.setup("fit")
    return data


def test_batches_name_their_files(batches):
    expected = [str(batches.val_dataset.path(index)) for index in range(len(batches.val_dataset))]
    assert [file for batch in batches.val_dataloader() for file in batch.files] == expected
    seen = [file for batch in batches.train_dataloader() for file in batch.files]
    assert len(set(seen)) == len(batches.train_dataset)
    assert all(file.startswith(str(batches.root)) for file in seen)


def tensors(batch):
    for name, value in vars(batch).items():
        if name != "files":
            yield from value if isinstance(value, list) else [value]


def test_files_stay_where_they_are(batches, monkeypatch):
    batch = next(iter(batches.val_dataloader()))
    moved = move_data_to_device(batch, torch.device("meta"))
    assert type(moved) is type(batch)
    assert moved.files == batch.files
    assert {tensor.device.type for tensor in tensors(moved)} == {"meta"}

    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor.clone())
    copy = pin_memory(batch)
    assert type(copy) is type(batch)
    assert copy.files == batch.files
    assert [id(tensor) for tensor in pinned] == [id(tensor) for tensor in tensors(batch)]
    for one, other in zip(tensors(copy), tensors(batch), strict=True):
        assert torch.equal(one, other)


def test_batches_that_come_from_no_files():
    batch = ClassificationBatch(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]))
    assert batch.files == []
    assert len(batch) == 2
