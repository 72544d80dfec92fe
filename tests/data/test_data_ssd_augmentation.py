"""SSD's augmentation against torchvision's, and against a plain one that does every step on the whole image."""

import colorsys
import inspect

import cv2
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.ops import box_iou
from torchvision.transforms import v2

from fna_lightning.data import CocoDataModule
from fna_lightning.data.augmentation import transforms as T
from fna_lightning.data.augmentation.ssd import PAD_COLOUR, Colours, SSDAugmentation, Window, augment
from fna_lightning.errors import ConfigError
from fna_lightning.files import CONF_DIR

SSD = SSDAugmentation()
SIZE = (48, 64)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth(height, width, seed=0):
    """A picture of soft blots in all colours."""
    blurred = cv2.GaussianBlur(noise(height, width, seed).astype(np.float32), (0, 0), height / 8)
    return cv2.normalize(blurred, None, 20, 235, cv2.NORM_MINMAX).astype(np.uint8)


def scattered(count, height, width, seed=0):
    """Boxes (count, 4) of all sizes."""
    points = np.random.default_rng(seed).uniform(0, 1, (count, 2, 2)) * (width - 1, height - 1)
    return np.hstack([points.min(axis=1), points.max(axis=1) + 1])


def plainly_recoloured(colours, image):
    """Pixel by pixel with Python's own HSV, nothing rounded before the end."""

    def clipped(values):
        return [min(max(value, 0.0), 255.0) for value in values]

    def recoloured(pixel):
        values = clipped([value + colours.brightness for value in pixel])
        if colours.contrast_first:
            values = clipped([value * colours.contrast for value in values])
        hue, saturation, value = colorsys.rgb_to_hsv(*(value / 255 for value in values))
        saturation = min(saturation * colours.saturation, 1)
        values = [255 * x for x in colorsys.hsv_to_rgb((hue + colours.hue / 360) % 1, saturation, value)]
        if not colours.contrast_first:
            values = clipped([value * colours.contrast for value in values])
        return [values[channel] for channel in colours.channels]

    return np.array([[recoloured(pixel) for pixel in row] for row in image.tolist()])


def on_canvas(image, window):
    """The whole picture on a canvas that holds the window as well, and the crop of it."""
    left, top, right, bottom = window.corners
    height, width = image.shape[:2]
    margins = [max(-left, 0), max(-top, 0), max(right - width, 0), max(bottom - height, 0)]
    canvas = v2.functional.pad(torch.from_numpy(image).permute(2, 0, 1), margins, fill=list(PAD_COLOUR))
    place = (top + margins[1], left + margins[0], window.height, window.width)
    return v2.functional.crop(canvas, *place), margins, place


def resized(picture, size):
    return v2.functional.resize(picture, list(size), antialias=False).permute(1, 2, 0).numpy()


def windows_of(seeds, height, width, boxes):
    return [SSD.draw_window((height, width), boxes, np.random.default_rng(seed)) for seed in seeds]


@pytest.mark.parametrize("seed", range(12))
def test_colours_equal_a_plain_loop(seed):
    image = noise(10, 14, seed)
    colours = SSDAugmentation(probability=0.8).draw_colours(np.random.default_rng(seed))
    difference = np.abs(colours.apply(image) - plainly_recoloured(colours, image))
    assert difference.max() < 4  # three steps, each rounded, and one that enlarges by up to 1.5
    assert difference.mean() < 1


@pytest.mark.parametrize("degrees", [-180, -18, -0.5, 7.3, 18, 180])
def test_hue_equals_torchvision(degrees):
    image = noise(30, 40)
    expected = v2.functional.adjust_hue(torch.from_numpy(image).permute(2, 0, 1), degrees / 360)
    found = Colours(hue=degrees).apply(image)
    assert np.abs(found.astype(int) - expected.permute(1, 2, 0).numpy()).max() <= 2


def test_no_change_of_colours_is_none():
    image = noise(9, 9)
    np.testing.assert_array_equal(Colours().apply(image), image)
    assert Colours(channels=(2, 0, 1)).apply(image).tolist() == image[..., [2, 0, 1]].tolist()
    assert not np.ptp(Colours(saturation=0).apply(image), axis=2).any()


def test_colours_are_drawn_evenly_and_apart():
    rng = np.random.default_rng(0)
    drawn = [SSD.draw_colours(rng) for _ in range(2000)]
    for name, still, low, high in (
        ("brightness", 0, -32, 32),
        ("contrast", 1, 0.5, 1.5),
        ("saturation", 1, 0.5, 1.5),
        ("hue", 0, -18, 18),
    ):
        values = np.array([getattr(colours, name) for colours in drawn])
        assert abs((values != still).mean() - 0.5) < 0.04, name
        counts = np.histogram(values[values != still], bins=8, range=(low, high))[0]
        assert counts.sum() == (values != still).sum()
        assert counts.min() > 80, name  # of 125 expected
    assert abs(np.mean([colours.contrast_first for colours in drawn]) - 0.5) < 0.04
    orders = [colours.channels for colours in drawn]
    assert len(set(orders)) == 6
    assert abs(np.mean([order != (0, 1, 2) for order in orders]) - 0.5 * 5 / 6) < 0.04
    together = np.mean([colours.hue != 0 and colours.saturation != 1 for colours in drawn])
    assert abs(together - 0.25) < 0.04


@pytest.mark.parametrize("seed", range(20))
def test_view_and_boxes_equal_torchvision(seed):
    image, boxes = smooth(60, 90, seed), scattered(6, 60, 90, seed)
    (window,) = windows_of([seed], 60, 90, boxes)
    cropped, margins, place = on_canvas(image, window)
    difference = np.abs(window.view(image, SIZE).astype(int) - resized(cropped, SIZE))
    # At the rim of a window that lies across an edge of the picture, `cv2.warpAffine` sees what is behind the rim.
    assert difference[1:-1, 1:-1].max() <= 2

    expected = tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=(60, 90))
    expected = v2.functional.crop(v2.functional.pad(expected, margins), *place)
    kept, shares = window.cut(boxes)
    left, top, right, bottom = window.corners
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert kept.tolist() == [left < x < right and top < y < bottom for x, y in centres]
    expected = v2.functional.resize(expected, list(SIZE)).numpy()[kept]
    np.testing.assert_allclose(shares * np.tile(SIZE[::-1], 2), expected, atol=1e-3)


@pytest.mark.parametrize("seed", range(20))
def test_everything_equals_doing_it_step_by_step(seed):
    image, boxes = smooth(60, 90, seed), scattered(6, 60, 90, seed)
    rng = np.random.default_rng(seed)
    colours = SSD.draw_colours(rng)
    window = SSD.draw_window((60, 90), boxes, rng)
    whole = np.rint(plainly_recoloured(colours, image)).astype(np.uint8)
    expected = resized(on_canvas(whole, window)[0], SIZE)
    found = augment(image, window, colours, SIZE)
    difference = np.abs(found.astype(int) - expected)[1:-1, 1:-1]
    # Where a pixel shows picture and canvas mixed, both change colour, or neither does.
    picture = np.zeros(SIZE, np.uint8)
    window.picture_in(picture, image)[:] = 1
    rim = cv2.dilate(picture, np.ones((3, 3))) - cv2.erode(picture, np.ones((3, 3)))
    rim = rim.astype(bool)[1:-1, 1:-1]
    assert difference[~rim].max(initial=0) <= 6
    assert difference[~rim].mean() < 1


def test_windows_are_distributed_as_torchvisions():
    height, width, boxes = 60, 90, scattered(4, 60, 90, seed=3)
    ours = windows_of(range(400), height, width, boxes)
    theirs = []
    torch.manual_seed(0)
    expand = v2.RandomZoomOut()
    crop = v2.RandomIoUCrop(trials=50)
    picture = tv_tensors.Image(torch.zeros(3, height, width, dtype=torch.uint8))
    on_picture = tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=(height, width))
    for _ in range(400):
        margins = [0, 0, 0, 0]
        if torch.rand(1) < 0.5:
            margins = expand.make_params([picture])["padding"]
        canvas = v2.functional.pad(picture, margins)
        place = crop.make_params([canvas, v2.functional.pad(on_picture, margins)])
        if place:
            window = Window(place["left"] - margins[0], place["top"] - margins[1], place["width"], place["height"])
        else:
            window = Window(-margins[0], -margins[1], canvas.shape[2], canvas.shape[1])
        theirs.append(window)
    for measure in (
        lambda window: window.left,
        lambda window: window.top,
        lambda window: window.width,
        lambda window: window.height,
        lambda window: window.width / window.height,
        lambda window: window.cut(boxes)[0].sum(),
    ):
        samples = [np.sort([measure(window) for window in windows]) for windows in (ours, theirs)]
        places = np.concatenate(samples)
        shares = [np.searchsorted(sample, places, side="right") / len(sample) for sample in samples]
        # Kolmogorov and Smirnov's distance: two samples of 400 exceed 0.138 once in a thousand times.
        assert np.abs(shares[0] - shares[1]).max() < 0.138


def test_crops_overlap_with_a_box_that_they_keep():
    boxes = np.array([[20, 10, 70, 50], [2, 2, 30, 20], [60, 40, 88, 58.0]])
    demanding = SSDAugmentation(probability=0, min_ious=(0.7,) * 500)
    windows = [demanding.draw_window((60, 90), boxes, np.random.default_rng(seed)) for seed in range(60)]
    assert any(window != Window(0, 0, 90, 60) for window in windows)
    overlaps = []
    for window in windows:
        kept, _ = window.cut(boxes)
        overlaps.append(box_iou(torch.tensor([window.corners]), torch.from_numpy(boxes[kept])).max())
        assert 0.5 <= window.width / window.height <= 2
    assert sorted(overlaps)[1] >= 0.7  # 1 in 502 draws asks for any overlap, and as many for no crop


fractions = st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=8)


@given(fractions, st.integers(1, 120), st.integers(1, 120), st.integers(0, 2**64 - 1), st.booleans())
@settings(max_examples=150, deadline=None)
def test_boxes_stay_valid_and_labels_in_step(fractions, height, width, seed, keep_ratio):
    corners = np.array(fractions).reshape(-1, 2, 2)
    smallest = np.array([width, height]) / 100
    low, high = corners.min(axis=1) * (width, height), corners.max(axis=1) * (width, height)
    boxes = np.hstack([np.minimum(low, (width, height) - smallest), np.maximum(high, low + smallest)])
    boxes = np.minimum(boxes, (width, height) * 2)
    labels = np.arange(len(boxes)) + 3
    rule = T.detection_resize(short_side=40, long_side=70) if keep_ratio else T.detection_resize(size=SIZE)
    pipeline = T.detection_training(rule, 0.5, SSD)
    image, moved, kept = pipeline(noise(height, width), boxes, labels, seed)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert max(image.shape[:2]) <= 70 if keep_ratio else image.shape == (*SIZE, 3)
    assert (moved.dtype, moved.shape, kept.dtype) == (np.float32, (len(kept), 4), np.int64)
    assert (moved >= 0).all()
    assert (moved <= np.tile(image.shape[1::-1], 2)).all()
    assert (moved[:, 2:] > moved[:, :2]).all()
    assert bool(len(kept)) == bool(len(boxes))  # a crop keeps at least one
    assert set(kept.tolist()) <= set(labels.tolist())
    assert len(set(kept.tolist())) == len(kept)


def test_labels_follow_their_boxes():
    """Boxes around spots of one colour each are around them afterwards."""
    image = np.zeros((80, 120, 3), np.uint8)
    boxes = np.array([[8 + 28 * k, 10 + 12 * k, 24 + 28 * k, 26 + 12 * k] for k in range(4)], float)
    for k, (left, top, right, bottom) in enumerate(boxes.astype(int)):
        image[top:bottom, left:right] = 60 * (k + 1)
    still = SSDAugmentation(brightness=0, contrast=(1, 1), saturation=(1, 1), hue=0)
    pipeline = T.detection_training(T.detection_resize(size=[160, 240]), 0.5, still)
    seen = 0
    for seed in range(30):
        picture, moved, labels = pipeline(image, boxes, np.arange(4), seed)
        for (x, y), label in zip((moved[:, :2] + moved[:, 2:]) / 2, labels, strict=True):
            assert abs(int(picture[int(y), int(x), 0]) - 60 * (label + 1)) <= 1
            seen += 1
    assert seen > 60


def test_pictures_without_boxes_are_expanded_but_not_cropped():
    nothing = np.zeros((0, 4))
    for window in windows_of(range(40), 60, 90, nothing):
        left, top, right, bottom = window.corners
        assert left <= 0
        assert top <= 0
        assert right >= 90
        assert bottom >= 60
    pipeline = T.detection_training(T.detection_resize(size=SIZE), 0.5, SSD)
    image, boxes, labels = pipeline(noise(60, 90), nothing, nothing[:, 0], random_seed=5)
    assert (image.shape, boxes.shape, labels.shape) == ((*SIZE, 3), (0, 4), (0,))


def test_expansion_is_drawn_evenly():
    windows = windows_of(range(2000), 600, 900, np.zeros((0, 4)))
    ratios = np.array([window.width / 900 for window in windows if window != Window(0, 0, 900, 600)])
    assert abs(len(ratios) / len(windows) - 0.5) < 0.04
    counts = np.histogram(ratios, bins=6, range=(1, 4))[0]
    assert counts.sum() == len(ratios)
    assert counts.min() > 120  # of 167 expected
    assert all(abs(window.height / 600 - window.width / 900) < 0.003 for window in windows)


def test_what_is_added_keeps_the_mean_colour():
    window, image = Window(-90, -60, 270, 180), np.zeros((60, 90, 3), np.uint8)
    view = augment(image, window, Colours(brightness=30, channels=(2, 1, 0)), (90, 90))
    assert (view[:29] == PAD_COLOUR).all()
    assert (view[:, 61:] == PAD_COLOUR).all()
    assert (view[31:59, 31:59] == 30).all()


def test_equal_seeds_give_equal_results_whatever_came_before():
    image, boxes, labels = noise(60, 90), scattered(5, 60, 90), np.arange(5)
    pipeline = T.detection_training(T.detection_resize(size=SIZE), 0.5, SSD)
    first = [pipeline(image, boxes, labels, seed) for seed in range(20)]
    for seed in reversed(range(20)):
        for found, expected in zip(pipeline(image, boxes, labels, seed), first[seed], strict=True):
            np.testing.assert_array_equal(found, expected)
    assert len({picture.tobytes() for picture, *_ in first}) == 20


def test_batches_do_not_depend_on_workers(coco):
    batches = []
    for num_workers in (0, 2):
        data = CocoDataModule(
            coco.root, size=[64, 96], batch_size=2, num_workers=num_workers, augmentation=SSD, repeat=2
        )
        data.setup("fit")
        batches.append([(batch.images, *batch.boxes) for batch in data.train_dataloader()])
        data.teardown()
    torch.testing.assert_close(*batches, rtol=0, atol=0)
    plain = data.val_dataset[0, 0].image
    torch.testing.assert_close(data.val_dataset[7, 0].image, plain, rtol=0, atol=0)


def test_config_has_the_numbers_of_the_recipe(coco):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        overrides = ["data=coco", f"data.root={coco.root}", "data/augmentation=ssd", "data.size=[48,64]"]
        chosen = instantiate(compose("check", overrides).data)
        changed = instantiate(compose("check", [*overrides, "data.augmentation.expansion=2"]).data)
        default = instantiate(compose("check", overrides[:2]).data)
        keys = set(compose("check", overrides).data.augmentation) - {"_target_", "_convert_"}
    assert keys == set(inspect.signature(SSDAugmentation).parameters)
    for key in keys:
        value = getattr(chosen.augmentation, key)
        assert (tuple(value) if isinstance(value, list) else value) == getattr(SSD, key)
    assert changed.augmentation.expansion == 2
    assert default.augmentation is None
    chosen.setup("fit")
    assert chosen.train_dataset[0, 2].image.shape == (3, 48, 64)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("probability", 1.5),
        ("brightness", -1),
        ("contrast", [1.5, 0.5]),
        ("saturation", [0.5]),
        ("hue", 200),
        ("expansion", 0.5),
        ("min_ious", [0.5, 2]),
        ("min_size", 0),
    ],
)
def test_impossible_numbers(key, value):
    with pytest.raises(ConfigError, match=rf"^data\.augmentation\.{key}=.* must be "):
        SSDAugmentation(**{key: value})
