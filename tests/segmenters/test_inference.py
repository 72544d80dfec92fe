import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import nn

from fna_lightning.errors import ConfigError
from fna_lightning.segmenters import Inference, window_positions

CONF = Path(__file__).parents[2] / "conf"


class Coarse(nn.Module):
    """Logits at stride 4 that depend on all that is seen at once, as DeepLab's do; notes what it is given."""

    num_classes = 3

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, self.num_classes, 4, 4)
        self.seen, self.alive = [], []

    def forward(self, images):
        assert not any(output() is not None for output in self.alive), "an earlier pass is still held"
        self.seen.append(tuple(images.shape))
        x = images.float() / 64
        logits = self.conv(F.pad(x, (0, -images.shape[3] % 4, 0, -images.shape[2] % 4)))
        logits = logits + logits.mean(dim=(2, 3), keepdim=True)
        self.alive.append(weakref.ref(logits))
        return logits


class Pointwise(nn.Module):
    """A network that sees one pixel at a time, so that windows cannot make a difference."""

    num_classes = 4

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, self.num_classes, 1)

    def forward(self, images):
        return self.conv(images.float() / 100)


@pytest.fixture
def coarse():
    return Coarse().eval()


def images_of(*shape):
    return torch.randint(0, 256, (shape[0], 3, *shape[1:]), dtype=torch.uint8)


def softmax_at_full_size(network, images):
    """(3, H, W) numpy -> (C, H, W), resized with corners on corners by numpy."""
    logits = network(torch.from_numpy(images)[None])[0].numpy().astype(np.float64)
    (_, h, w), (height, width) = logits.shape, images.shape[1:]
    rows, columns = np.linspace(0, h - 1, height), np.linspace(0, w - 1, width)
    full = np.empty((len(logits), height, width))
    for full_map, coarse_map in zip(full, logits, strict=True):
        wide = np.array([np.interp(columns, range(w), row) for row in coarse_map])
        full_map[:] = np.array([np.interp(rows, range(h), column) for column in wide.T]).T
    powers = np.exp(full - full.max(axis=0))
    return powers / powers.sum(axis=0)


def plain_windows(network, image, sides, steps):
    """Window after window, pixel after pixel."""
    _, height, width = image.shape
    side = [min(sides[0], height), min(sides[1], width)]
    total, times = np.zeros((network.num_classes, height, width)), np.zeros((height, width))
    top = 0
    while True:
        top = min(top, height - side[0])
        left = 0
        while True:
            left = min(left, width - side[1])
            part = softmax_at_full_size(network, image[:, top : top + side[0], left : left + side[1]])
            for y in range(side[0]):
                for x in range(side[1]):
                    total[:, top + y, left + x] += part[:, y, x]
                    times[top + y, left + x] += 1
            if left + side[1] == width:
                break
            left += steps[1]
        if top + side[0] == height:
            break
        top += steps[0]
    assert times.min() > 0
    return total / times


@pytest.mark.parametrize(
    ("window", "stride", "sides", "steps"),
    [
        (12, 8, (12, 12), (8, 8)),  # last windows at the border
        (12, 12, (12, 12), (12, 12)),  # no overlap but the last
        (20, None, (20, 20), (14, 14)),
        ([9, 16], [4, 11], (9, 16), (4, 11)),
        (100, 60, (100, 100), (60, 60)),  # larger than the image
        ([10, 100], None, (10, 100), (7, 67)),
    ],
)
@pytest.mark.parametrize("window_batch", [1, 5])
@torch.no_grad()
def test_windows_against_plain_loops(coarse, window, stride, sides, steps, window_batch):
    images = images_of(2, 30, 37)
    found = Inference(window, stride, window_batch).probabilities(coarse, images)
    assert found.dtype == torch.float32
    referee = Coarse()
    referee.load_state_dict(coarse.state_dict())
    for image, probabilities in zip(images, found, strict=True):
        expected = plain_windows(referee, image.numpy(), sides, steps)
        np.testing.assert_allclose(probabilities.numpy(), expected, rtol=0, atol=2e-6)


def test_windows_of_the_paper():
    """1024x2048 in windows of 769: two rows of four, two thirds apart."""
    assert window_positions(1024, 769, 513) == [0, 255]
    assert window_positions(2048, 769, 513) == [0, 513, 1026, 1279]
    # On the meta device, which has no values: whatever would wait for the device fails there.
    network = Coarse().to("meta")
    images = torch.empty(2, 3, 1024, 2048, dtype=torch.uint8, device="meta")
    found = Inference(769, window_batch=3, flip=True).probabilities(network, images)
    assert found.shape == (2, 3, 1024, 2048)
    # Two images of eight windows, and their mirror images.
    assert network.seen == 2 * [*5 * [(3, 3, 769, 769)], (1, 3, 769, 769)]


@given(size=st.integers(1, 3000), window=st.integers(1, 1200), data=st.data())
@settings(max_examples=200)
def test_windows_cover_a_side(size, window, data):
    stride = data.draw(st.integers(1, window))
    positions = window_positions(size, window, stride)
    assert positions[0] == 0
    assert positions[-1] == max(size - window, 0)
    steps = np.diff(positions)
    assert ((steps > 0) & (steps <= stride)).all()
    assert (steps[:-1] == stride).all()
    covered = np.zeros(size, dtype=bool)
    for position in positions:
        covered[position : position + window] = True
    assert covered.all()


@given(
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    window=st.integers(1, 30),
    window_batch=st.integers(1, 9),
    flip=st.booleans(),
    data=st.data(),
)
def test_windows_make_no_difference_to_a_network_of_single_pixels(size, window, window_batch, flip, data):
    torch.manual_seed(0)
    network, images = Pointwise().eval(), images_of(2, *size)
    stride = data.draw(st.integers(max(1, window // 3), window))
    found = Inference(window, stride, window_batch, flip=flip).probabilities(network, images)
    expected = network(images).softmax(dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, *size), rtol=0, atol=1e-6)


def test_whole_images_in_one_pass(coarse):
    images = images_of(3, 21, 34)
    found = Inference(window_batch=1).probabilities(coarse, images)
    assert coarse.seen == [(3, 3, 21, 34)]
    for image, probabilities in zip(images, found, strict=True):
        coarse.alive.clear()
        with torch.no_grad():
            expected = softmax_at_full_size(coarse, image.numpy())
        np.testing.assert_allclose(probabilities.numpy(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("window_batch", [1, 3, 100])
def test_no_more_windows_than_asked_for(coarse, window_batch):
    """Nor is anything of an earlier pass alive in the next, which `Coarse` itself sees to."""
    Inference(16, 10, window_batch, scales=(1.0, 0.8), flip=True).probabilities(coarse, images_of(2, 30, 40))
    counts = [shape[0] for shape in coarse.seen]
    # 3x4 windows at scale 1, 2x3 of 24x32 at 0.8; two images; each mirrored as well.
    assert sum(counts) == 2 * 2 * (3 * 4 + 2 * 3)
    assert max(counts) == min(window_batch, 24)
    assert len(counts) == 2 * (-(-24 // window_batch) + -(-12 // window_batch))


@torch.no_grad()
def test_mirror_images(coarse):
    images = images_of(2, 20, 27)
    plain, both = Inference(12), Inference(12, flip=True)
    mirrored = plain.probabilities(coarse, images[..., torch.arange(26, -1, -1)])
    expected = (plain.probabilities(coarse, images) + mirrored[..., torch.arange(26, -1, -1)]) / 2
    torch.testing.assert_close(both.probabilities(coarse, images), expected)


@pytest.mark.parametrize("window", [None, 16])
@torch.no_grad()
def test_scales(coarse, window):
    images = images_of(2, 20, 28)
    plain = Inference(window)
    expected = plain.probabilities(coarse, images)
    for size in ((10, 14), (30, 42)):
        # By pixel centres and without smoothing.
        resized = centred(images.double(), size).float()
        expected = expected + centred(plain.probabilities(coarse, resized).double(), (20, 28))
    found = Inference(window, scales=(0.5, 1.0, 1.5)).probabilities(coarse, images)
    torch.testing.assert_close(found.double(), expected / 3, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 20, 28), rtol=0, atol=1e-5)


def centred(x, size):
    """Bilinear by pixel centres, as a product with a matrix of weights for each side."""
    weights = []
    for old, new in zip(x.shape[-2:], size, strict=True):
        centres = (np.arange(new) + 0.5) * old / new - 0.5
        weights.append(torch.from_numpy(np.stack([np.interp(centres, range(old), unit) for unit in np.eye(old)])))
    return torch.einsum("nchw,hi,wj->ncij", x, *weights)


@pytest.mark.parametrize("window", [None, 16])
@torch.no_grad()
def test_half_precision_ends_with_the_logits(coarse, window):
    images = images_of(1, 30, 16)
    exact = Inference(window).probabilities(coarse, images)
    with torch.autocast("cpu", torch.bfloat16):
        rough = Inference(window).probabilities(coarse, images)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=0, atol=0.05)
    torch.testing.assert_close(rough.sum(dim=1), torch.ones(1, 30, 16), rtol=0, atol=1e-6)

    # Resized and summed as exactly as if only the logits had been rounded.
    rounding = coarse.register_forward_hook(lambda *call: call[-1].bfloat16())
    found = Inference(window).probabilities(coarse, images)
    rounding.remove()
    coarse.register_forward_hook(lambda *call: call[-1].bfloat16().float())
    expected = plain_windows(coarse, images[0].numpy(), (window or 30, 16), (11, 11))
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=0, atol=2e-6)


def test_leaves_no_graph_and_the_images_as_they_were(coarse):
    images = images_of(1, 30, 40)
    before = images.clone()
    assert not Inference(16, flip=True).probabilities(coarse, images).requires_grad
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"window": 0}, r"task\.window=0: give pixels"),
        ({"window": [769]}, r"task\.window=\[769\]: give pixels, or \[height, width\]"),
        ({"window": 9, "stride": -1}, r"task\.stride=-1: give pixels"),
        ({"window": 9, "stride": 10}, r"task\.stride=10: leaves gaps between windows of 9"),
        ({"window": [9, 12], "stride": 10}, r"task\.stride=10: leaves gaps"),
        ({"stride": 9}, r"task\.stride=9: .* give task\.window as well"),
        ({"window_batch": 0}, r"task\.window_batch=0: give 1 or more"),
        ({"scales": []}, r"task\.scales=\[\]: give one positive factor"),
        ({"scales": [1.0, 0.0]}, r"task\.scales=\[1\.0, 0\.0\]"),
    ],
)
def test_impossible_settings(given, words):
    with pytest.raises(ConfigError, match=words) as error:
        Inference(**given)
    assert "\n" not in str(error.value)


def test_config_holds_the_defaults():
    config = OmegaConf.to_container(OmegaConf.load(CONF / "task" / "segmentation.yaml"))
    del config["_target_"]
    assert Inference(**{**config, "scales": tuple(config["scales"])}) == Inference()
