"""Classification folders, and the generated sets."""

import numpy as np
import pytest
import torch

from fna_lightning.data import (
    FolderDataModule,
    ShapesClassificationDataModule,
    ShapesDetectionDataModule,
)
from fna_lightning.data.generated.drawing import SHAPES, draw_scene, outline
from fna_lightning.errors import ConfigError, DataError


def detection(root, **settings):
    return ShapesDetectionDataModule(root, **{"num_train": 12, "num_val": 4, "num_workers": 0, **settings})


def classification(root, **settings):
    settings = {"num_train": 12, "num_val": 4, "num_workers": 0, **settings}
    return ShapesClassificationDataModule(root, **settings)


def contents(root):
    return {str(f.relative_to(root)): f.read_bytes() for f in sorted(root.rglob("*")) if f.is_file()}


def test_folders(folders):
    data = FolderDataModule(folders, size=32, batch_size=5, num_workers=0)
    data.prepare_data()
    data.setup()
    assert data.class_names == ("ant", "bee", "cat")
    batches = list(data.val_dataloader())
    assert [batch.images.shape for batch in batches] == [(5, 3, 32, 32), (1, 3, 32, 32)]
    assert torch.cat([batch.labels for batch in batches]).tolist() == [0, 0, 1, 1, 2, 2]
    assert [len(batch) for batch in data.train_dataloader()] == [5, 5]
    with pytest.raises(ConfigError, match=r"data.size=32 must be positive and at most data.resize=30"):
        FolderDataModule(folders, size=32, resize=30)


def test_folder_batches_do_not_depend_on_workers(folders):
    def batches(num_workers):
        data = FolderDataModule(folders, size=24, batch_size=4, num_workers=num_workers, colour_jitter=0.3)
        data.setup("fit")
        return [(batch.images, batch.labels, batch.files) for batch in data.train_dataloader()]

    for (*tensors, files), (*other_tensors, other_files) in zip(batches(0), batches(2), strict=True):
        assert files == other_files
        torch.testing.assert_close(tensors, other_tensors, rtol=0, atol=0)


@pytest.mark.parametrize("make", [detection, classification])
def test_generated_sets_are_functions_of_their_settings(make, tmp_path):
    sets = []
    for name in ("one", "two"):
        data = make(tmp_path / name)
        data.prepare_data()
        sets.append(contents(tmp_path / name))
    assert sets[0] == sets[1]
    make(tmp_path / "three", generation_seed=1).prepare_data()
    assert contents(tmp_path / "three") != sets[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "three", "two"]  # nothing temporary stays


@pytest.mark.parametrize("make", [detection, classification])
def test_generated_sets_are_reused_and_never_overwritten(make, tmp_path):
    root = tmp_path / "shapes"
    make(root).prepare_data()
    before = {file: file.stat().st_mtime_ns for file in root.rglob("*")}
    make(root).prepare_data()
    assert before == {file: file.stat().st_mtime_ns for file in root.rglob("*")}
    beside = make(root, num_train=13)
    beside.prepare_data()
    beside.setup()
    assert len(beside.train_dataset) == 13
    assert beside.root.parent == root.parent
    assert beside.root.name.startswith("shapes-")
    assert make(root, num_train=13).root == beside.root
    assert make(root).root == root
    assert before == {file: file.stat().st_mtime_ns for file in root.rglob("*")}
    other = tmp_path / "other"
    other.mkdir()
    make(other).prepare_data()  # an empty folder is free to use
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="mine: holds something else than generated shapes"):
        make(tmp_path / "mine").prepare_data()


def test_an_interrupted_generation_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fna_lightning.data.generated.shapes.draw_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        detection(tmp_path / "shapes").prepare_data()
    assert list(tmp_path.iterdir()) == []


def test_generated_detection_set_trains(tmp_path):
    data = detection(tmp_path / "shapes", classes=5, image_size=64, batch_size=4, check_images="all")
    with pytest.raises(DataError, match=r"no such folder; set data.root"):
        data.setup()
    data.prepare_data()
    data.setup()
    assert data.class_names == SHAPES
    batch = next(iter(data.train_dataloader()))
    assert batch.images.shape == (4, 3, 64, 64)


def test_generated_classification_set_trains(tmp_path):
    data = classification(tmp_path / "shapes", batch_size=4)
    data.prepare_data()
    data.setup()
    assert data.class_names == tuple(sorted(SHAPES[:4]))
    labels = torch.cat([batch.labels for batch in data.train_dataloader()])
    assert labels.bincount().tolist() == [3, 3, 3, 3]


def test_drawn_shapes_are_where_their_outlines_say():
    for seed in range(30):
        picture, objects = draw_scene(np.random.default_rng(seed), 96, 5)
        assert picture.shape == (96, 96, 3)
        for label, points in objects:
            assert 0 <= label < 5
            assert (points > 0).all()
            assert (points < 96).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_outlines_lie_on_their_circle(shape):
    points = outline(shape, np.array([50.0, 40.0]), 10.0, 0.3)
    distances = np.linalg.norm(points - [50, 40], axis=1)
    assert distances.max() == pytest.approx(10)
    assert distances.min() >= 4


@pytest.mark.parametrize("settings", [{"classes": 2}, {"classes": 6}, {"num_val": 0}, {"image_size": 8}])
def test_impossible_settings(tmp_path, settings):
    with pytest.raises(ConfigError, match=f"data.{next(iter(settings))}="):
        detection(tmp_path, **settings)
