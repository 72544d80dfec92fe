"""Generated shapes with labels: they say what is drawn, against OpenCV's distances to the outlines."""

import cv2
import numpy as np
import pytest
import torch

from fna_lightning.data import CityscapesDataModule, ShapesSegmentationDataModule
from fna_lightning.data.generated.drawing import draw_labels, draw_scene
from fna_lightning.errors import ConfigError, DataError


def module(root, **settings):
    defaults = {"num_train": 10, "num_val": 4, "image_size": 48, "batch_size": 2, "num_workers": 0}
    return ShapesSegmentationDataModule(root, **{**defaults, **settings})


def contents(root):
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


def test_labels_are_the_shapes_that_are_seen():
    size, shapes = 48, 0
    for seed in range(8):
        _, objects = draw_scene(np.random.default_rng(seed), size, 5)
        labels = draw_labels(size, objects)
        expected, border = np.zeros((size, size), int), np.zeros((size, size), bool)
        for label, points in objects:
            corners = points.astype(np.float32)
            distances = np.array(
                [[cv2.pointPolygonTest(corners, (x, y), True) for x in range(size)] for y in range(size)]
            )
            expected[distances > 0] = label + 1
            border = np.where(distances > 1.5, False, border) | (np.abs(distances) <= 1.5)
        np.testing.assert_array_equal(labels[~border], expected[~border])
        assert set(np.unique(labels)) <= {0, 255, *(label + 1 for label, _ in objects)}
        assert not (labels == 255)[~border].any()
        shapes += len(objects)
    assert shapes > 10


def test_void_is_everywhere_between_two_classes():
    for seed in range(40):
        _, objects = draw_scene(np.random.default_rng(seed), 96, 5)
        labels = draw_labels(96, objects).astype(int)
        for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
            assert ((one == other) | (one == 255) | (other == 255)).all()
        assert (labels == 255).mean() < 0.08


def test_pictures_are_those_of_detection(tmp_path):
    data = module(tmp_path / "shapes", generation_seed=3)
    data.prepare_data()
    picture, objects = draw_scene(np.random.default_rng([3, 1, 2]), 48, 4)
    folder = tmp_path / "shapes"
    stored = cv2.imread(str(folder / "leftImg8bit/val/shapes/shapes_000002_leftImg8bit.png"))
    np.testing.assert_array_equal(stored, picture)
    stored = cv2.imread(str(folder / "gtFine/val/shapes/shapes_000002_gtFine_labelIds.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(stored, draw_labels(48, objects))


def test_the_set_trains(tmp_path):
    data = module(tmp_path / "shapes", classes=5, num_train=30, check_images="all")
    with pytest.raises(DataError, match=r"no such folder; set data.root"):
        data.setup()
    data.prepare_data()
    data.setup()
    assert data.class_names == ("ground", "circle", "square", "triangle", "star", "cross")
    batch = next(iter(data.train_dataloader()))
    assert batch.images.shape == (2, 3, 48, 48)
    assert batch.labels.shape == (2, 48, 48)
    assert data.train_dataset.totals()["classes that occur"] == 6
    seen = torch.cat([batch.labels for batch in data.val_dataloader()])
    assert set(seen.unique().tolist()) <= {*range(6), 255}
    assert len(set(data.label_map.colours)) == 6
    assert module(tmp_path / "shapes", crop=[32, 24], resize=[64, 64]).train_transform is not None


def test_the_set_is_in_cityscapes_layout(tmp_path):
    data = module(tmp_path / "shapes")
    data.prepare_data()
    plain = CityscapesDataModule(
        tmp_path / "shapes", {"ground": 0, "things": [1, 2, 3, 4]}, crop=[32, 32], batch_size=2, num_workers=0
    )
    plain.setup()
    assert plain.train_dataset.totals()["classes that occur"] == 2


def test_generated_sets_are_functions_of_their_settings(tmp_path):
    module(tmp_path / "one").prepare_data()
    module(tmp_path / "two").prepare_data()
    module(tmp_path / "three", generation_seed=1).prepare_data()
    sets = [contents(tmp_path / name) for name in ("one", "two", "three")]
    assert sets[0] == sets[1]
    assert sets[0] != sets[2]
    assert len(sets[0]) == 2 * 14 + 1
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "one").rglob("*")}
    module(tmp_path / "one").prepare_data()
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "one").rglob("*")}
    assert module(tmp_path / "one", num_train=11).root == tmp_path / "one-segmentation-11-4-48-4-0"


@pytest.mark.parametrize("settings", [{"classes": 2}, {"classes": 6}, {"num_val": 0}, {"image_size": 8}])
def test_impossible_settings(tmp_path, settings):
    with pytest.raises(ConfigError, match=f"data.{next(iter(settings))}="):
        module(tmp_path, **settings)
