"""Epochs of several passes: every pass whole, in an order and with an augmentation of its own."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fna_lightning.data import CocoDataModule, EpochSampler, FolderDataModule, sample_seed
from fna_lightning.errors import ConfigError

sizes = st.integers(1, 40)
repeats = st.integers(1, 6)
worlds = st.integers(1, 5)
epochs = st.integers(0, 400)


def ready(root, **options):
    data = CocoDataModule(root, **{"size": [64, 96], "batch_size": 2, "num_workers": 0, "repeat": 3, **options})
    data.setup("fit")
    return data


def keys(sampler, epoch):
    sampler.set_epoch(epoch)
    return list(sampler)


def assert_equal_batches(left, right):
    assert len(left) == len(right) > 0
    for a, b in zip(left, right, strict=True):
        assert a.files == b.files
        torch.testing.assert_close((a.images, a.boxes), (b.images, b.boxes), rtol=0, atol=0)


@given(sizes, repeats, epochs)
@settings(max_examples=60, deadline=None)
def test_an_epoch_of_passes_is_as_many_epochs_of_one(size, repeat, epoch):
    several, one = EpochSampler(size, 3, True, repeat=repeat), EpochSampler(size, 3, True)
    expected = [key for number in range(epoch * repeat, (epoch + 1) * repeat) for key in keys(one, number)]
    assert keys(several, epoch) == expected
    assert len(several) == len(expected) == size * repeat


@given(sizes, repeats, worlds, epochs)
@settings(max_examples=80, deadline=None)
def test_no_image_comes_again_before_all_have_come(size, repeat, world, epoch):
    ranks = [EpochSampler(size, 7, True, rank, world, repeat=repeat) for rank in range(world)]
    shares = [keys(sampler, epoch) for sampler in ranks]
    assert {len(share) for share in shares} == {size * repeat // world} == {len(sampler) for sampler in ranks}
    together = [key for step in zip(*shares, strict=True) for key in step]
    for start in range(0, len(together), size):
        some = together[start : start + size]
        assert len({index for _, index in some}) == len(some)
        assert {number for number, _ in some} == {epoch * repeat + start // size}
    assert size * repeat - len(together) < world


def test_passes_have_orders_of_their_own():
    (first, second, third), other = (
        [[index for _, index in keys(EpochSampler(30, 0, True, repeat=3), epoch)][k : k + 30] for k in (0, 30, 60)]
        for epoch in (0, 1)
    )
    assert len({tuple(order) for order in (first, second, third, *other)}) == 6


@given(sizes, repeats, worlds, st.integers(0, 250))
@settings(max_examples=60, deadline=None)
def test_skip_leads_into_any_pass(size, repeat, world, skipped):
    sampler = EpochSampler(size, 1, True, 0, world, repeat=repeat)
    whole = keys(sampler, 2)
    sampler.skip(skipped)
    assert list(sampler) == whole[skipped:]
    assert list(sampler) == whole


def test_a_repeated_set_gives_other_samples_in_every_pass(coco):
    data = ready(coco.root, flip=0.5)
    sampler = data.train_dataloader().loader.sampler
    drawn = keys(sampler, 4)
    assert [number for number, _ in drawn] == [12] * 6 + [13] * 6 + [14] * 6
    assert len({sample_seed(data.random_seed, *key) for key in drawn}) == 18
    batches = list(data.train_dataloader())
    assert sum(len(batch) for batch in batches) == 18
    by_file = {}
    for batch in batches:
        for file, image in zip(batch.files, batch.images, strict=True):
            by_file.setdefault(file, []).append(image)
    assert {len(images) for images in by_file.values()} == {3}
    flips = [not torch.equal(images[0], other) for images in by_file.values() for other in images[1:]]
    assert any(flips)
    assert not all(flips)


def test_batches_are_those_of_the_keys(coco):
    data = ready(coco.root)
    loader = data.train_dataloader()
    loader.set_epoch(1)
    dataset = data.train_dataset
    drawn = keys(EpochSampler(6, 0, True, repeat=3), 1)
    samples = [dataset[key] for key in drawn]
    expected = [dataset.collate(samples[k : k + 2]) for k in range(0, 18, 2)]
    assert_equal_batches(list(loader), expected)


@pytest.mark.parametrize("given_out", [1, 4, 8])
def test_a_run_goes_on_in_any_pass(coco, given_out):
    whole = ready(coco.root).train_dataloader()
    whole.set_epoch(2)
    expected = list(whole)
    loader = ready(coco.root).train_dataloader()
    loader.set_epoch(2)
    batches = iter(loader)
    begun = [next(batches) for _ in range(given_out)]
    resumed = ready(coco.root).train_dataloader()
    resumed.load_state_dict(loader.state_dict())
    resumed.set_epoch(2)
    assert_equal_batches([*begun, *resumed], expected)


def test_ranks_share_every_pass(coco):
    seen = []
    for rank in range(2):
        data = ready(coco.root, batch_size=1)
        data.trainer = SimpleNamespace(global_rank=rank, world_size=2)
        seen.append([batch.files[0] for batch in data.train_dataloader()])
    for start in (0, 3, 6):
        assert len({file for share in seen for file in share[start : start + 3]}) == 6


def test_both_halves_of_a_search_are_repeated(coco):
    halves = ready(coco.root, batch_size=1).search_dataloaders(0.5)
    seen = [[batch.files[0] for batch in half] for half in halves]
    for files in seen:
        assert [len(set(files[start : start + 3])) for start in (0, 3, 6)] == [3, 3, 3]
        assert len(files) == 9
        assert len(set(files)) == 3
    assert not set(seen[0]) & set(seen[1])


def test_validation_is_not_repeated(coco, folders):
    assert sum(len(batch) for batch in ready(coco.root).val_dataloader()) == 3
    data = FolderDataModule(folders, size=32, batch_size=4, num_workers=0, repeat=2)
    data.setup("fit")
    loaders = data.train_dataloader(), data.val_dataloader()
    assert [sum(len(batch) for batch in loader) for loader in loaders] == [24, 6]


@pytest.mark.parametrize("repeat", [0, -1])
def test_impossible_number_of_passes(coco, repeat):
    with pytest.raises(ConfigError, match=f"data.repeat={repeat} must be at least 1"):
        ready(coco.root, repeat=repeat)
