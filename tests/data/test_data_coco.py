"""The COCO module on a small set: what it reads, pads and yields."""

import json
from types import SimpleNamespace

import cv2
import lightning
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from fna_lightning.data import CocoDataModule, ShapesDetectionDataModule, read_annotations
from fna_lightning.data.checking.images import read_image
from fna_lightning.errors import ConfigError, DataError


def module(root, **settings):
    settings = {"size": [64, 96], "batch_size": 2, "num_workers": 0, **settings}
    return CocoDataModule(root, **settings)


def ready(root, **settings):
    data = module(root, **settings)
    data.prepare_data()
    data.setup("fit")
    return data


def assert_same_batches(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        left_values, right_values = dict(vars(a)), dict(vars(b))
        assert left_values.pop("files") == right_values.pop("files")
        torch.testing.assert_close(left_values, right_values, rtol=0, atol=0)


def test_categories_with_gaps_become_labels_in_the_order_of_ids(coco):
    data = ready(coco.root)
    assert data.category_ids == [3, 8, 90]
    assert data.class_names == ("car", "truck", "brush")
    assert data.num_classes == 3
    assert data.val_annotation_file == coco.file("val2017")


def test_batch(coco):
    data = ready(coco.root, size=None, short_side=60, long_side=90, flip=0.0)
    samples = [data.val_dataset[0, k] for k in (0, 2)]
    batch = data.val_dataset.collate(samples)
    assert batch.sizes.tolist() == [[80, 60], [60, 60]]
    assert batch.images.shape == (2, 3, 96, 64)
    assert batch.images.dtype == torch.uint8
    assert batch.original_sizes.tolist() == [[64, 48], [64, 64]]
    assert batch.image_ids.tolist() == [10, 24]
    assert [len(boxes) for boxes in batch.boxes] == [0, 2]
    assert [labels.dtype for labels in batch.labels] == [torch.int64] * 2
    torch.testing.assert_close(batch.images[1, :, :60, :60], samples[1].image)
    outside = torch.ones(96, 64, dtype=torch.bool)
    outside[:60, :60] = False
    assert batch.images[1, :, outside].unique(dim=1).tolist() == [[124], [116], [104]]
    # Image 24's first annotation: bbox [3.25, 4, 20.5, 18] at scale 60/64.
    expected = torch.tensor([3.25, 4, 23.75, 22]) * 60 / 64
    torch.testing.assert_close(batch.boxes[1][0], expected, rtol=0, atol=1e-4)
    assert batch.labels[1].tolist() == [2, 0]


def test_training_alone_has_several_sizes(coco):
    settings = {"short_side": 60, "long_side": 90, "train_short_sides": [30, 40]}
    data = ready(coco.root, size=None, **settings)
    shapes = {tuple(data.train_dataset[number, 0].image.shape[1:]) for number in range(30)}
    assert len(shapes) > 5
    assert {min(shape) for shape in shapes} <= set(range(30, 41))
    assert min(data.val_dataset[0, 0].image.shape[1:]) == 60
    assert "train_short_sides" not in data.picture_settings
    fixed = ready(coco.root, size=[48, 64], **settings)
    assert {tuple(fixed.train_dataset[number, 0].image.shape[1:]) for number in range(5)} == {(48, 64)}


def test_images_without_boxes_train_and_crowds_do_not(coco):
    content = coco.read()
    content["annotations"][0]["iscrowd"] = 1  # the only box of image 17
    coco.write(content)
    data = ready(coco.root)
    batches = list(data.train_dataloader())
    counts = {
        int(image): len(boxes)
        for batch in batches
        for image, boxes in zip(batch.image_ids, batch.boxes, strict=True)
    }
    assert counts == {10: 0, 17: 0, 24: 2, 31: 0, 38: 1, 45: 2}
    assert all(boxes.shape[1] == 4 for batch in batches for boxes in batch.boxes)
    assert data.train_dataset.annotations.as_coco()["annotations"][0]["iscrowd"] == 1


def test_colours_are_red_green_blue_and_orientation_tags_are_ignored(tmp_path):
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[..., 2] = 255  # OpenCV's red
    cv2.imwrite(str(tmp_path / "red.png"), picture)
    assert read_image(tmp_path / "red.png")[0, 0].tolist() == [255, 0, 0]
    cv2.imwrite(str(tmp_path / "grey.png"), picture[..., 2])
    assert read_image(tmp_path / "grey.png").shape == (8, 8, 3)
    # An Exif segment that says "turned by 90 degrees".
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    content = cv2.imencode(".jpg", np.zeros((8, 16, 3), np.uint8))[1].tobytes()
    turned = content[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + content[2:]
    (tmp_path / "turned.jpg").write_bytes(turned)
    assert read_image(tmp_path / "turned.jpg").shape == (8, 16, 3)


def test_reader_agrees_with_pycocotools(tmp_path, capsys):
    data = ShapesDetectionDataModule(tmp_path / "shapes", num_train=30, num_val=5, num_workers=0)
    data.prepare_data()
    data.setup()
    reference = COCO(str(data.train_annotation_file))
    rewritten = COCO()
    rewritten.dataset = json.loads(json.dumps(data.train_dataset.annotations.as_coco()))
    rewritten.createIndex()
    capsys.readouterr()
    annotations = data.train_dataset.annotations
    assert annotations.image_ids.tolist() == reference.getImgIds()
    for index, image_id in enumerate(reference.getImgIds()):
        expected = reference.loadAnns(reference.getAnnIds(image_id))
        rows = annotations.boxes_of(index)
        assert annotations.boxes[rows].tolist() == [a["bbox"] for a in expected]
        assert [data.category_ids[k] for k in annotations.labels[rows]] == [a["category_id"] for a in expected]
        assert annotations.areas[rows].tolist() == [a["area"] for a in expected]
        found = rewritten.loadAnns(rewritten.getAnnIds(image_id))
        assert found == [{key: a[key] for key in found[0]} for a in expected]
    assert reference.getCatIds() == data.category_ids


def test_annotations_in_any_order_reach_their_images(coco):
    data = ready(coco.root)
    content = coco.read()
    content["annotations"].reverse()
    coco.write(content)
    other = ready(coco.root)
    for index in range(6):
        boxes = [dataset.train_dataset[0, index].boxes for dataset in (data, other)]
        torch.testing.assert_close(boxes[0].sort(dim=0).values, boxes[1].sort(dim=0).values)


def test_batches_do_not_depend_on_workers(coco):
    torch.manual_seed(0)
    plain, parallel = ready(coco.root), ready(coco.root, num_workers=2)
    state = torch.get_rng_state()
    loaders = plain.train_dataloader(), parallel.train_dataloader()
    for epoch in range(2):
        for loader in loaders:
            loader.sampler.set_epoch(epoch)
        assert_same_batches(*(list(loader) for loader in loaders))
    assert torch.equal(state, torch.get_rng_state())  # the loaders drew nothing from the run's generator
    parallel.teardown()


def test_augmentation_changes_with_the_epoch_and_validation_does_not(coco):
    data = ready(coco.root)
    images = [[data.train_dataset[epoch, k].image for k in range(6)] for epoch in range(4)]
    assert any(not torch.equal(a, b) for epoch in images[1:] for a, b in zip(images[0], epoch, strict=True))
    torch.testing.assert_close(data.val_dataset[0, 1].image, data.val_dataset[3, 1].image, rtol=0, atol=0)


def test_search_halves(coco):
    data = ready(coco.root, flip=1.0, batch_size=1)
    weights, architecture = data.search_dataloaders(share=0.5, augment_weight_half=False)
    seen = [{int(batch.image_ids) for batch in loader} for loader in (weights, architecture)]
    assert not seen[0] & seen[1]
    assert seen[0] | seen[1] == {10, 17, 24, 31, 38, 45}
    index = {int(image_id): k for k, image_id in enumerate(data.train_dataset.annotations.image_ids)}
    plain = data.train_dataset.with_transform(data.eval_transform())
    for loader, dataset in ((weights, plain), (architecture, data.train_dataset)):
        for batch in loader:
            expected = dataset[0, index[int(batch.image_ids)]]
            torch.testing.assert_close(batch.images[0, :, :64, :96], expected.image, rtol=0, atol=0)


def test_halves_smaller_than_a_batch(coco):
    data = ready(coco.root, batch_size=4)
    with pytest.raises(DataError, match=r"weights' part .* has 3 images per process, less .* data.batch_size=4"):
        data.search_dataloaders()
    with pytest.raises(DataError, match="the training set has 6 images per process"):
        ready(coco.root, batch_size=7).train_dataloader()


def test_ranks_share_the_samples(coco):
    seen = []
    for rank in range(2):
        data = ready(coco.root, batch_size=1)
        data.trainer = SimpleNamespace(global_rank=rank, world_size=2)
        seen.append([int(batch.image_ids) for batch in data.train_dataloader()])
        assert len(list(data.val_dataloader())) == 2 - rank
    assert len(seen[0]) == len(seen[1]) == 3
    assert len(set(seen[0] + seen[1])) == 6


def test_evaluation_needs_no_training_set(coco):
    coco.file().unlink()
    data = module(coco.root)
    data.setup("validate")
    assert data.num_classes == 3
    assert len(list(data.test_dataloader())) == 2
    with pytest.raises(DataError, match=r"instances_train2017.json: no such annotation file"):
        data.setup("fit")


def test_setup_reads_once(coco):
    data = ready(coco.root)
    before = data.train_dataset, data.val_dataset
    data.setup("fit")
    data.setup(None)
    assert (data.train_dataset, data.val_dataset) == before


def test_absolute_paths(coco, tmp_path):
    moved = tmp_path / "elsewhere.json"
    coco.file("val2017").rename(moved)
    assert len(ready(coco.root, val_annotations=str(moved)).val_dataset) == 3


def test_missing_area_and_crowd_are_filled_in(coco):
    content = coco.read()
    for row in content["annotations"]:
        del row["area"], row["iscrowd"]
    coco.write(content)
    first = read_annotations(coco.file()).as_coco()["annotations"][0]
    assert (first["area"], first["iscrowd"]) == (20.5 * 17, 0)


@pytest.mark.parametrize(
    "settings", [{"on_error": "ignore"}, {"check_images": "some"}, {"batch_size": 0}, {"size": [1]}]
)
def test_impossible_settings(coco, settings):
    with pytest.raises(ConfigError, match=f"data.{next(iter(settings))}="):
        module(coco.root, **settings)


class Recorder(lightning.LightningModule):
    """Writes down the images of every training step."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch):
        self.seen.append((self.current_epoch, *batch.image_ids.tolist()))
        return self.weight * 0

    def validation_step(self, batch):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_the_trainer_sets_epochs(coco, tmp_path):
    recorder, data = Recorder(), module(coco.root)
    lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    ).fit(recorder, datamodule=data)
    loader = data.train_dataloader()
    expected = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        expected += [(epoch, *batch.image_ids.tolist()) for batch in loader]
    assert recorder.seen == expected
    assert expected[:3] != expected[3:]
