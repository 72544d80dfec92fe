"""Sets in the layout of Cityscapes: what is read, how it is batched, and that nothing depends on chance."""

import shutil

import cv2
import numpy as np
import pytest
import torch
from cityscapes_trees import CLASSES, Streets, write

from fna_lightning.data import CityscapesDataModule, SegmentationBatch
from fna_lightning.errors import ConfigError


@pytest.fixture
def streets(tmp_path):
    return Streets(tmp_path / "streets")


def by_hand(ids):
    """Labels of the classes in `cityscapes_trees`."""
    labels = np.full(ids.shape, 255, np.uint8)
    for label, own in enumerate(([7], [24, 25], [23])):
        labels[np.isin(ids, own)] = label
    return labels


def test_what_is_read(streets):
    data = streets.ready()
    assert data.kind == "segmentation"
    assert data.class_names == tuple(CLASSES)
    assert data.num_classes == 3
    assert data.label_map.class_ids == ((7,), (24, 25), (23,))
    files = [data.train_dataset.path(k).relative_to(streets.root).as_posix() for k in range(6)]
    assert files[0] == "leftImg8bit/train/aachen/00_leftImg8bit.png"
    assert [name.split("/")[2] for name in files] == ["aachen"] * 3 + ["ulm"] * 3
    assert data.train_dataset.names.dtype.kind == "S"
    ids = [streets.ids("train", f"{('aachen', 'ulm')[k % 2]}/{k:02d}") for k in range(6)]
    pixels = sum(int((by_hand(stored) != 255).sum()) for stored in ids)
    assert data.train_dataset.totals() == {"images": 6, "classes that occur": 3, "pixels of classes": pixels}


def test_validation_batches_are_padded_pictures_and_labels(streets):
    data = streets.ready(batch_size=3)
    (batch,) = data.val_dataloader()
    assert isinstance(batch, SegmentationBatch)
    assert batch.images.shape == (3, 3, 48, 68)
    assert batch.labels.shape == (3, 48, 68)
    assert (batch.images.dtype, batch.labels.dtype) == (torch.uint8, torch.uint8)
    assert batch.sizes.tolist() == batch.label_sizes.tolist() == [[48, 60], [48, 64], [48, 68]]
    for k in range(3):
        picture = cv2.imread(batch.files[k])[..., ::-1]
        width = picture.shape[1]
        np.testing.assert_array_equal(batch.images[k, :, :, :width].permute(1, 2, 0), picture)
        np.testing.assert_array_equal(batch.labels[k, :, :width], by_hand(streets.ids("val", f"bonn/{k:02d}")))
        assert (batch.images[k, :, :, width:].permute(1, 2, 0) == torch.tensor([124, 116, 104])).all()
        assert (batch.labels[k, :, width:] == 255).all()


def test_resize_leaves_validation_labels_as_they_are_stored(streets):
    data = streets.ready(resize=[24, 32], crop=[24, 32], scales=[1.0], flip=0.0, batch_size=3)
    (batch,) = data.val_dataloader()
    assert batch.images.shape == (3, 3, 24, 32)
    assert batch.sizes.tolist() == [[24, 32]] * 3
    assert batch.label_sizes.tolist() == [[48, 60], [48, 64], [48, 68]]
    np.testing.assert_array_equal(batch.labels[2], by_hand(streets.ids("val", "bonn/02")))
    for trained in data.train_dataloader():
        assert trained.labels.shape == (3, 24, 32)
        assert trained.sizes.tolist() == trained.label_sizes.tolist() == [[24, 32]] * 3
        for k, file in enumerate(trained.files):
            name = file.split("/train/")[1].removesuffix("_leftImg8bit.png")
            stored = by_hand(streets.ids("train", name))
            for y, x in np.ndindex(24, 32):
                centre = (y + 0.5) * len(stored) / 24 - 0.5  # between two rows where it is a half
                rows = {round(centre - 1e-6), round(centre + 1e-6)}
                assert trained.labels[k, y, x] in stored[sorted(rows), 2 * x : 2 * x + 2]


def test_training_batches_do_not_depend_on_workers(streets):
    def batches(num_workers):
        data = streets.ready(num_workers=num_workers)
        return [(b.images, b.labels, b.files) for b in data.train_dataloader()]

    alone, shared = batches(0), batches(2)
    assert len(alone) == 3
    for (images, labels, files), (other_images, other_labels, other_files) in zip(alone, shared, strict=True):
        assert images.shape == (2, 3, 32, 48)
        assert files == other_files
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


def test_passes_differ_in_order_and_crops(streets):
    loader = streets.ready().train_dataloader()
    first = next(iter(loader))
    loader.sampler.set_epoch(1)
    second = next(iter(loader))
    assert not torch.equal(first.images, second.images)


@pytest.mark.parametrize("augment", [True, False])
def test_search_halves(streets, augment):
    data = streets.ready(batch_size=1, resize=[40, 48], crop=[16, 16])
    weights, architecture = data.search_dataloaders(share=0.2, augment_weight_half=augment)
    files = [sorted({file for batch in loader for file in batch.files}) for loader in (weights, architecture)]
    assert [len(names) for names in files] == [5, 1]
    assert not set(files[0]) & set(files[1])
    for loader, side in ((weights, (16, 16) if augment else (40, 48)), (architecture, (16, 16))):
        for batch in loader:
            assert batch.images.shape[-2:] == batch.labels.shape[-2:] == side


def test_other_layouts(tmp_path):
    """No folders of cities, other folders, names and endings, and one set for both splits."""
    root = tmp_path / "mine"
    for k in range(3):
        size = (30, 40)
        write(root / "photos" / "all" / f"{k}.jpg", np.full((*size, 3), 40 * k, np.uint8))
        write(root / "masks" / "all" / f"{k}.png", np.full(size, k, np.uint8))
    (root / "photos" / "all" / "notes.txt").write_text("not a picture")
    (root / "photos" / "all" / "._0.jpg").write_text("what a Mac leaves")
    data = CityscapesDataModule(
        root,
        {"a": 0, "b": [1]},
        ignored=[2],
        train_split="all",
        val_split="all",
        images_folder="photos",
        labels_folder="masks",
        image_suffix=".jpg",
        label_suffix=".png",
        crop=[8, 8],
        batch_size=3,
        num_workers=0,
    )
    data.setup()
    (batch,) = data.val_dataloader()
    assert batch.labels.flatten(1).unique(dim=1).tolist() == [[0], [1], [255]]
    assert [file.split("/")[-1] for file in batch.files] == ["0.jpg", "1.jpg", "2.jpg"]


def test_folders_may_be_links(streets, tmp_path):
    elsewhere = tmp_path / "disk"
    shutil.move(streets.root / "leftImg8bit" / "train" / "ulm", elsewhere)
    (streets.root / "leftImg8bit" / "train" / "ulm").symlink_to(elsewhere)
    assert len(streets.ready().train_dataset) == 6


def test_impossible_settings_are_named_at_once(streets):
    for settings, key in (({"crop": [3]}, "crop"), ({"resize": [0, 1]}, "resize"), ({"scales": [-1]}, "scales")):
        with pytest.raises(ConfigError, match=f"data.{key}="):
            streets.module(**settings)
