"""ResNets against torchvision's: parameters, outputs, state dicts; and their first stages and norms fixed."""

import copy

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FrozenBatchNorm2d

from fna_lightning.architectures import ResNetArchitecture, load_architecture, pyramid_maps
from fna_lightning.backbones import build_backbone
from fna_lightning.blocks import freeze, reestimate_statistics
from fna_lightning.checkpoints import Seed, load_seed
from fna_lightning.costs import count
from fna_lightning.detectors import FasterRCNN
from fna_lightning.errors import CheckpointError, ConfigError
from fna_lightning.remapping import remap

EVERY = ("0", "1", "2", "3", "4")
# torchvision's published totals, of its DEFAULT weights, less the classifier of 1000 x (2048 + 1).
PARAMETERS = {
    name: weights.DEFAULT.meta["num_params"] - 2_049_000
    for name, weights in (
        ("resnet50", models.ResNet50_Weights),
        ("resnet101", models.ResNet101_Weights),
        ("resnext101_64x4d", models.ResNeXt101_64X4D_Weights),
    )
}
# Without the scales and shifts of frozen norms, in millions (spec FAD, section 5).
FROZEN = {"resnet50": 23.45, "resnet101": 42.39, "resnext101_64x4d": 81.20}


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_parameters(name):
    with torch.device("meta"):
        backbone = build_backbone(load_architecture(name))
        assert count(backbone, (224, 224)).params == PARAMETERS[name]
        freeze(backbone, norms=True)
    assert round(count(backbone, (224, 224)).params / 1e6, 2) == FROZEN[name]


def test_published_multiply_adds():
    """torchvision's GFLOPs of ResNet-50 are multiply-adds, the classifier's included."""
    with torch.device("meta"):
        backbone = build_backbone(load_architecture("resnet50"))
    total = count(backbone, (224, 224)).madds + 2048 * 1000
    assert round(total / 1e9, 3) == models.ResNet50_Weights.DEFAULT.meta["_ops"]


def test_torchvisions_state_gives_torchvisions_maps(small_resnet, torchvision_small_resnet):
    backbone = build_backbone(small_resnet, EVERY).eval()
    found = backbone.load_state_dict(torchvision_small_resnet.state_dict(), strict=False)
    assert found.missing_keys == []
    assert found.unexpected_keys == ["fc.weight", "fc.bias"]
    names = {"relu": "0", "layer1": "1", "layer2": "2", "layer3": "3", "layer4": "4"}
    reference = create_feature_extractor(torchvision_small_resnet, names)
    images = torch.rand(2, 3, 64, 96)
    wanted = reference(images)
    for name, value in backbone(images).items():
        assert torch.equal(value, wanted[name])
        assert backbone.out_channels[name] == value.shape[1]
        assert backbone.strides[name] == 64 // value.shape[2]


@pytest.mark.parametrize(("output_stride", "flags"), [(16, [False, False, True]), (8, [False, True, True])])
def test_dilations_are_torchvisions(small_resnet, torchvision_small_resnet, output_stride, flags):
    reference = models.ResNet(
        models.resnet.Bottleneck, [1, 2, 1, 1], groups=2, width_per_group=8, replace_stride_with_dilation=flags
    ).eval()
    reference.load_state_dict(torchvision_small_resnet.state_dict())
    backbone = build_backbone(small_resnet, ["4"], output_stride=output_stride).eval()
    backbone.load_state_dict(torchvision_small_resnet.state_dict(), strict=False)
    images = torch.rand(1, 3, 64, 64)
    wanted = create_feature_extractor(reference, {"layer4": "4"})(images)["4"]
    assert torch.equal(backbone(images)["4"], wanted)


def test_only_what_is_wanted_is_built(small_resnet):
    backbone = build_backbone(small_resnet, ["2"])
    assert {name.split(".")[0] for name in backbone.state_dict()} == {"conv1", "bn1", "layer1", "layer2"}
    assert list(build_backbone(small_resnet).out_channels) == list(pyramid_maps(small_resnet.levels()))
    with pytest.raises(ConfigError, match="the map '5'"):
        build_backbone(small_resnet, ["5"])


# Seeds

BLOCKS = {
    ResNetArchitecture("basic", (1, 2, 1, 1)): models.ResNet(models.resnet.BasicBlock, [1, 2, 1, 1]),
    ResNetArchitecture("bottleneck", (1, 1, 2, 1)): models.ResNet(models.resnet.Bottleneck, [1, 1, 2, 1]),
    ResNetArchitecture("bottleneck", (1, 1, 1, 1), 4, 6): models.ResNet(
        models.resnet.Bottleneck, [1, 1, 1, 1], groups=4, width_per_group=6
    ),
}


@pytest.mark.parametrize("architecture", BLOCKS, ids=str)
@pytest.mark.parametrize("wrapped", [False, True])
def test_torchvisions_files_are_seeds(tmp_path, randomise, architecture, wrapped):
    network = randomise(copy.deepcopy(BLOCKS[architecture]))
    state = network.state_dict()
    torch.save({"model": {f"module.{k}": v for k, v in state.items()}} if wrapped else state, tmp_path / "a.pth")
    seed = load_seed(tmp_path / "a.pth")
    assert seed.architecture == architecture
    target = build_backbone(architecture)
    report = remap(seed, target)
    assert {entry.how for entry in report.entries} == {"copied"}
    assert all(torch.equal(value, state[name]) for name, value in target.state_dict().items())


def test_a_seed_of_another_resnet_is_named(small_resnet):
    seed = Seed(small_resnet, build_backbone(small_resnet).state_dict())
    with pytest.raises(
        ConfigError, match=r"the target is resnet\(basic.*, the seed resnet\(bottleneck.*remap=random"
    ):
        remap(seed, build_backbone(ResNetArchitecture("basic", (1, 1, 1, 1))))


def test_files_with_gaps(tmp_path, torchvision_small_resnet):
    state = torchvision_small_resnet.state_dict()
    for gone, message in (
        ("layer2.0.", "no whole stage layer2"),
        ("layer1.0.conv2.weight", "conv2.weight is missing"),
    ):
        torch.save({k: v for k, v in state.items() if not k.startswith(gone)}, tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match=message):
            load_seed(tmp_path / "a.pth")


# Fixed stages and norms


def trained(network):
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("stages", [0, 1, 2, 5])
@pytest.mark.parametrize("norms", [False, True])
def test_what_is_fixed(small_resnet, stages, norms):
    backbone = build_backbone(small_resnet)
    names = set(backbone.state_dict())
    freeze(backbone, stages, norms)
    assert set(backbone.state_dict()) == {
        name for name in names if not name.endswith("tracked") or (not norms and not of_first(name, stages))
    }
    assert not any(of_first(name, stages) for name in trained(backbone))
    bare = {name for name in trained(backbone) if "bn" not in name and "downsample.1" not in name}
    assert bare == {n for n, _ in build_backbone(small_resnet).named_parameters() if n in bare}
    frozen = [name for name, m in backbone.named_modules() if isinstance(m, FrozenBatchNorm2d)]
    plain = [name for name, m in backbone.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert not (norms and plain)
    assert all(norms or of_first(name, stages) for name in frozen)
    assert not any(of_first(name, stages) for name in plain)


def of_first(name, stages):
    prefixes = [("conv1", "bn1"), *((f"layer{k}.",) for k in range(1, 5))][:stages]
    return any(name.startswith(prefix) for prefix in prefixes)


def test_fixed_norms_compute_what_they_did(small_resnet, randomise):
    backbone = randomise(build_backbone(small_resnet)).eval()
    images = torch.rand(2, 3, 64, 64)
    wanted = backbone(images)
    freeze(backbone, norms=True)
    for name, value in backbone.train()(images).items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=1e-4)


def test_training_and_calibration_leave_fixed_parts_alone(small_resnet, randomise):
    backbone = randomise(build_backbone(small_resnet))
    freeze(backbone, stages=2, norms=True)
    network = FasterRCNN(backbone, 2, fpn_channels=8, box_width=8).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}

    def run(images):
        return network.loss(network(images), [torch.tensor([[5.0, 5.0, 50.0, 40.0]])] * 2, [torch.tensor([1])] * 2)

    optimizer = torch.optim.SGD(network.parameters(), 0.01, weight_decay=0.1)
    batches = [torch.rand(2, 3, 64, 64) * 255 for _ in range(2)]
    reestimate_statistics(network, batches, run)
    sum(run(batches[0]).values()).backward()
    optimizer.step()
    reestimate_statistics(network.eval(), batches, run)
    after = network.state_dict()
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    norms = ("bn1", "bn2", "bn3", "downsample.1")
    assert moved & {name for name in after if name.startswith("backbone.")} == {
        f"backbone.{name}" for name in backbone.state_dict() if name.startswith(("layer2", "layer3", "layer4"))
        and not any(f".{norm}." in name for norm in norms)
    }  # fmt: skip
    assert {"fpn.inner_blocks.0.1.running_mean", "box_head.layers.0.1.running_mean"} <= moved


def test_a_seed_fills_fixed_norms(small_resnet, torchvision_small_resnet):
    backbone = build_backbone(small_resnet)
    freeze(backbone, stages=1, norms=True)
    state = {k: v for k, v in torchvision_small_resnet.state_dict().items() if not k.startswith("fc.")}
    remap(Seed(small_resnet, state), backbone)
    assert all(torch.equal(value, state[name]) for name, value in backbone.state_dict().items())


def test_stages_of_a_mobile_network(small):
    backbone = build_backbone(small, [3])
    freeze(backbone, stages=2)
    assert {name.split(".")[1] for name in trained(backbone)} == {"2", "3"}
    with pytest.raises(ConfigError, match=r"parameters.frozen_stages=9: the backbone has 4 stages"):
        freeze(backbone, stages=9)
