import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torchvision.models.segmentation import deeplabv3 as reference

from fna_lightning.architectures import maps_at
from fna_lightning.backbones import build_backbone
from fna_lightning.choices import Choices
from fna_lightning.errors import ConfigError
from fna_lightning.segmenters import ASPP, DeepLabV3, DeepLabV3Plus, resize_logits
from fna_lightning.supernets import build_supernet

CONF = Path(__file__).parents[2] / "conf"
KINDS = {DeepLabV3: (3,), DeepLabV3Plus: (2, 3)}


@pytest.fixture
def make(small):
    """A segmenter of few channels: its last map at stride 8, its first at 4."""

    def build(kind, num_classes=3, **settings):
        backbone = build_backbone(small, KINDS[kind])
        return kind(backbone, num_classes, **{"channels": 6, "atrous_rates": (1, 2), **settings})

    return build


def layer(x, block, **options):
    """Convolution, batch norm in evaluation and ReLU, without a module."""
    conv, norm = block[0], block[1]
    x = F.conv2d(x, conv.weight, **options)
    return F.relu(F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-5))


def pyramid(x, aspp, dilations, separable):
    """What the head computes, written out once more."""
    maps = [layer(x, aspp.branches[0])]
    for branch, rate in zip(aspp.branches[1:], dilations, strict=True):
        if separable:
            spread = layer(x, branch[0], dilation=rate, padding=rate, groups=x.shape[1])
            maps.append(layer(spread, branch[1]))
        else:
            maps.append(layer(x, branch, dilation=rate, padding=rate))
    pooled = layer(F.adaptive_avg_pool2d(x, 1), aspp.pooling)
    # As the papers have it: bilinear from a single pixel.
    maps.append(F.interpolate(pooled, size=x.shape[-2:], mode="bilinear", align_corners=True))
    return layer(torch.cat(maps, dim=1), aspp.project)


@pytest.mark.parametrize("training", [False, True])
def test_dense_pyramid_equals_torchvision(randomise, training):
    ours = randomise(ASPP(5, 4, (2, 3, 5), 16, separable=False, dropout=0.0)).train(training)
    theirs = reference.ASPP(5, [2, 3, 5], 4).train(training)
    state = dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True))
    theirs.load_state_dict(state)
    theirs.project[3].p = 0.0
    x, weight = torch.randn(2, 5, 9, 7), torch.randn(2, 4, 9, 7)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    for module in (ours, theirs):
        (module(x) * weight).sum().backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-4)
    for mine, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(mine, other)


@torch.no_grad()
def test_deeplabv3_against_plain_functions(make, randomise):
    network = randomise(make(DeepLabV3)).eval()
    images = torch.randint(0, 256, (2, 3, 50, 67), dtype=torch.uint8)
    deep = network.backbone((images - network.normalize.mean) / network.normalize.std)["3"]
    assert deep.shape[-2:] == (7, 9)
    expected = F.conv2d(
        pyramid(deep, network.aspp, (2, 4), separable=True), network.classifier.weight, network.classifier.bias
    )
    assert expected.std() > 0.1
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_deeplabv3plus_against_plain_functions(make, randomise):
    network = randomise(make(DeepLabV3Plus, low_channels=5)).eval()
    images = torch.randint(0, 256, (2, 3, 50, 67), dtype=torch.uint8)
    maps = network.backbone((images - network.normalize.mean) / network.normalize.std)
    low = layer(maps["2"], network.low)
    assert low.shape == (2, 5, 13, 17)
    deep = pyramid(maps["3"], network.aspp, (2, 4), separable=False)
    joined = torch.cat([F.interpolate(deep, size=(13, 17), mode="bilinear", align_corners=True), low], dim=1)
    for block in network.decoder:
        joined = layer(joined, block, padding=1)
    expected = F.conv2d(joined, network.classifier.weight, network.classifier.bias)
    assert expected.std() > 0.1
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("stride", "dilations"), [(16, [6, 12, 18]), (8, [12, 24, 36]), (32, [3, 6, 9]), (4, [24, 48, 72])]
)
@pytest.mark.parametrize("separable", [False, True])
def test_rates_follow_the_stride(stride, dilations, separable):
    aspp = ASPP(4, 4, (6, 12, 18), stride, separable=separable, dropout=0.0)
    kernels = [m for m in aspp.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert [kernel.dilation for kernel in kernels] == [(rate, rate) for rate in dilations]
    assert [kernel.padding for kernel in kernels] == [(rate, rate) for rate in dilations]
    assert {kernel.groups for kernel in kernels} == {4 if separable else 1}


def test_resized_logits_against_numpy():
    logits = torch.randn(2, 3, 4, 5)
    expected = np.empty((2, 3, 9, 14))
    for image, column in np.ndindex(2, 3):
        # Corners on corners: both ends of a side are the ends of the other.
        rows = np.array([np.interp(np.linspace(0, 4, 14), range(5), row) for row in logits[image, column].numpy()])
        expected[image, column] = np.array([np.interp(np.linspace(0, 3, 9), range(4), c) for c in rows.T]).T
    resized = resize_logits(logits, (9, 14))
    np.testing.assert_allclose(resized.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(resize_logits(logits, [4, 5]), logits)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_everything(make, kind):
    network = make(kind, dropout=0.0)
    labels = torch.randint(3, (2, 32, 40))
    logits = resize_logits(network(torch.randint(0, 256, (2, 3, 32, 40), dtype=torch.uint8)), labels.shape[1:])
    F.cross_entropy(logits, labels).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_architecture_parameters_get_gradients(small_space, kind):
    network = kind(build_supernet(small_space, KINDS[kind]), 3, channels=6)
    choices = Choices(network)
    alphas = [torch.zeros(size, requires_grad=True) for size in choices.sizes]
    choices.set_mixture([alpha.softmax(0) for alpha in alphas])
    network(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert all(alpha.grad is not None and alpha.grad.abs().sum() > 0 for alpha in alphas)


@pytest.mark.parametrize("kind", KINDS)
def test_begins_with_all_classes_equally_likely(make, kind):
    network = make(kind, num_classes=7, channels=64)
    probabilities = network(torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)).softmax(dim=1)
    assert (probabilities - 1 / 7).abs().max() < 0.1
    # Kaiming-normal over the fan out, as the backbone.
    assert network.aspp.project[0].weight.std().item() == pytest.approx(math.sqrt(2 / 64), rel=0.03)
    if kind is DeepLabV3Plus:
        assert network.decoder[0][0].weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.03)


def test_dropout_takes_whole_channels_and_only_in_training():
    aspp = ASPP(3, 50, (1,), 16, separable=True, dropout=0.5)
    with torch.no_grad():
        aspp.project[1].bias.fill_(10.0)  # nothing is zero by itself
    x = torch.randn(4, 3, 6, 6)
    dropped = (aspp(x) == 0).flatten(2)
    assert torch.equal(dropped.any(dim=2), dropped.all(dim=2))
    assert 0.35 < dropped.float().mean() < 0.65
    assert not (aspp.eval()(x) == 0).any()


@pytest.mark.parametrize("kind", KINDS)
class TestBatchOfOne:
    def test_cannot_be_trained(self, make, kind):
        with pytest.raises(ConfigError, match=r"^data\.batch_size=1: .* give 2 or more$"):
            make(kind)(torch.zeros(1, 3, 32, 32))

    def test_can_be_evaluated(self, make, kind):
        assert make(kind).eval()(torch.zeros(1, 3, 32, 32)).shape[0] == 1

    def test_is_too_few_for_a_synchronised_norm_of_one_process(self, make, kind):
        with pytest.raises(ConfigError, match="batch_size=1"):
            nn.SyncBatchNorm.convert_sync_batchnorm(make(kind))(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_half_precision_is_close(make, randomise, kind):
    network = randomise(make(kind)).eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    exact = network(images)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(images)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().mean() < 0.05 * exact.std()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_channels_last_stays(make, randomise, kind):
    network = randomise(make(kind)).eval()
    images = torch.randn(2, 3, 40, 48)
    expected = network(images)
    layouts = {}

    def remember(name):
        return lambda _, inputs: layouts.update({name: inputs[0].is_contiguous(memory_format=torch.channels_last)})

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and not name.startswith(("backbone", "aspp.pooling")):
            module.register_forward_pre_hook(remember(name))
    network.to(memory_format=torch.channels_last)
    found = network(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert layouts
    assert all(layouts.values()), layouts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(33, 65), (1, 1), (8, 100)])
def test_any_size(make, kind, size):
    stride = {DeepLabV3: 8, DeepLabV3Plus: 4}[kind]
    network = make(kind).eval()
    assert network(torch.zeros(1, 3, *size)).shape == (1, 3, *(math.ceil(side / stride) for side in size))


@pytest.mark.parametrize("kind", KINDS)
def test_forward_never_looks_at_values(make, kind):
    # The meta device has no values: whatever would wait for the device fails there.
    network = make(kind).to("meta")
    network(torch.empty(2, 3, 64, 64, device="meta", dtype=torch.uint8)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_what_cannot_be(make, small):
    with pytest.raises(ConfigError, match=r"num_classes=1: .*two classes"):
        make(DeepLabV3, num_classes=1)
    for rates in ((), (6, 0)):
        with pytest.raises(ConfigError, match=r"atrous_rates=\[.*\]: give one dilation or more"):
            make(DeepLabV3, atrous_rates=rates)
    with pytest.raises(ConfigError, match=r"features=\['3'\]: .*two"):
        DeepLabV3Plus(build_backbone(small, (3,)), 3)


@pytest.mark.parametrize(("name", "kind"), [("deeplabv3", DeepLabV3), ("deeplabv3plus", DeepLabV3Plus)])
def test_config_builds_the_default(mobilenet, name, kind):
    config = OmegaConf.load(CONF / "detector" / f"{name}.yaml")
    output_stride = config.pop("output_stride")
    stages = maps_at(mobilenet.levels(output_stride), config.pop("strides"))
    del config["defaults"], config["features"]  # Hydra's, and the other way to name maps
    backbone = build_backbone(mobilenet, stages, output_stride=output_stride)
    network, default = instantiate(config)(backbone, num_classes=19), kind(backbone, 19)
    assert str(network) == str(default)
    assert torch.equal(network.normalize.mean, default.normalize.mean)
    assert torch.equal(network.normalize.std, default.normalize.std)
    # Everything that can be set is in the file.
    arguments = set(kind.__init__.__annotations__) - {"backbone", "num_classes", "return"}
    assert arguments == set(config) - {"_target_", "_partial_", "_convert_"}
