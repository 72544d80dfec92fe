import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from fna_lightning.architectures import load_architecture, parse_architecture
from fna_lightning.backbones import Classifier, build_backbone
from fna_lightning.blocks import Norm, Normalize
from fna_lightning.checkpoints import load_seed
from fna_lightning.errors import ArchitectureError, ConfigError

# Number of the last of torchvision's features in each stage of FNA.
LAST_FEATURE = {0: 0, 1: 1, 2: 3, 3: 6, 4: 10, 5: 13, 6: 16, 7: 17, 8: 18}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@torch.no_grad()
def test_every_stage_equals_torchvision(torchvision_net, tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    save = save_file if suffix == ".safetensors" else torch.save
    save(torchvision_net.state_dict(), path)
    seed = load_seed(path)
    backbone = build_backbone(seed.architecture, range(9))
    backbone.load_state_dict(seed.state)
    images = torch.randn(2, 3, 65, 96)
    maps = backbone.eval()(images)

    assert list(maps) == [str(number) for number in range(9)]
    x = images
    for number, features in enumerate(torchvision_net.features):
        x = features(x)
        stage = [stage for stage, last in LAST_FEATURE.items() if last == number]
        if stage:
            assert x.abs().max() > 0
            assert (maps[str(stage[0])] - x).abs().max() == 0


@pytest.mark.parametrize(("name", "params"), [("mobilenet_v2", 1_811_712), ("fna_retinanet", 2_055_712)])
def test_published_parameters(name, params):
    backbone = build_backbone(load_architecture(name))
    assert sum(parameter.numel() for parameter in backbone.parameters()) == params


def test_map_sizes_of_the_papers(mobilenet):
    with torch.device("meta"):
        backbone, images = build_backbone(mobilenet), torch.empty(1, 3, 800, 1088)
    assert {name: tuple(feature.shape) for name, feature in backbone(images).items()} == {
        "2": (1, 24, 200, 272),
        "3": (1, 32, 100, 136),
        "5": (1, 96, 50, 68),
        "7": (1, 320, 25, 34),
    }
    assert backbone.out_channels == {"2": 24, "3": 32, "5": 96, "7": 320}
    assert backbone.strides == {"2": 4, "3": 8, "5": 16, "7": 32}


@pytest.mark.parametrize(
    ("output_stride", "sizes", "dilations"),
    [
        (None, {4: (64, 128), 5: (64, 128), 6: (32, 64), 7: (32, 64)}, {4: 1, 5: 1, 6: 1, 7: 1}),
        (16, {4: (64, 128), 5: (64, 128), 6: (64, 128), 7: (64, 128)}, {4: 1, 5: 1, 6: 2, 7: 2}),
        (8, {4: (128, 256), 5: (128, 256), 6: (128, 256), 7: (128, 256)}, {4: 2, 5: 2, 6: 4, 7: 4}),
    ],
)
def test_output_stride(output_stride, sizes, dilations):
    with torch.device("meta"):
        backbone = build_backbone(load_architecture("fna_deeplabv3"), (4, 5, 6, 7), output_stride=output_stride)
        maps = backbone(torch.empty(1, 3, 1024, 2048))
    assert {int(name): tuple(feature.shape[2:]) for name, feature in maps.items()} == sizes
    assert {int(name): (1024 // stride, 2048 // stride) for name, stride in backbone.strides.items()} == sizes
    for number, dilation in dilations.items():
        kernels = [m for m in backbone.stages[number].modules() if getattr(m, "kernel_size", (1,))[0] > 1]
        assert kernels
        assert {kernel.dilation for kernel in kernels} == {(dilation, dilation)}


def test_which_blocks_add_their_input():
    """The first of a stage where the architecture says so, and whatever its stride is turned into; all others."""
    text = "[[8, 8], ['k3_e1'], 1, 'no_residual']|[[8, 8], ['k3_e6', 'k3_e6'], 1]|[[8, 8], ['k3_e6', 'k3_e6'], 2]"
    for output_stride in (None, 2):
        backbone = build_backbone(parse_architecture(text), (1, 2, 3), output_stride=output_stride)
        adding = [[block.residual for block in stage] for stage in backbone.stages[1:]]
        assert adding == [[False], [True, True], [False, True]]


@pytest.mark.parametrize(("out_stages", "stages"), [((2,), 3), ((5, 3), 6), ((7, 7), 8), ((8,), 9), ((0,), 1)])
def test_ends_with_the_last_wanted_stage(mobilenet, out_stages, stages):
    with torch.device("meta"):
        backbone = build_backbone(mobilenet, out_stages).eval()
        maps = backbone(torch.empty(1, 3, 32, 32))
    assert len(backbone.stages) == stages
    assert list(maps) == [str(number) for number in sorted(set(out_stages))]


@pytest.mark.parametrize("out_stages", [(), (9,), (2, 9), (-1, 2)])
def test_wrong_out_stages(mobilenet, out_stages):
    with pytest.raises(ConfigError, match=r"out_stages.*from 0 .* to 8"):
        build_backbone(mobilenet, out_stages)


def test_impossible_output_stride(mobilenet):
    with pytest.raises(ArchitectureError, match="output stride 12"):
        build_backbone(mobilenet, output_stride=12)


def test_what_is_no_architecture():
    with pytest.raises(TypeError, match="str"):
        build_backbone("mobilenet_v2")


def test_eval_and_train_return_the_backbone(small):
    backbone = build_backbone(small, (3,))
    assert backbone.eval() is backbone
    assert not any(module.training for module in backbone.modules())
    assert backbone.train() is backbone


def test_norm_settings_reach_every_norm(small):
    backbone = build_backbone(small, (4,), norm=Norm(eps=1e-3, momentum=0.03))
    norms = [module for module in backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 1 + 2 + 2 * 3 + 3 * 3 + 1
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.03)}


def test_skips_are_identities_that_keep_their_place():
    backbone = build_backbone(parse_architecture("[[4, 4], ['k3_e2', 'skip', 'k5_e2'], 1]"), (1,))
    names = {name.split(".")[2] for name in backbone.state_dict() if name.startswith("stages.1.")}
    assert names == {"0", "2"}
    x = torch.randn(1, 4, 5, 5)
    assert torch.equal(backbone.stages[1][1](x), x)


def test_initial_values(mobilenet):
    """Kaiming-normal over the fan out, groups not counted, as PyTorch has it: deviation sqrt(2 / (k k C_out))."""
    state = build_backbone(mobilenet, (7,)).state_dict()
    assert state["stages.6.1.depthwise.conv.weight"].std().item() == pytest.approx(
        math.sqrt(2 / (9 * 960)), rel=0.05
    )
    assert state["stages.7.0.project.conv.weight"].std().item() == pytest.approx(math.sqrt(2 / 320), rel=0.02)
    assert state["stages.7.0.project.norm.weight"].eq(1).all()
    assert state["stages.7.0.project.norm.bias"].eq(0).all()


@given(data=st.data(), height=st.integers(1, 33), width=st.integers(1, 33))
@settings(max_examples=20)
@torch.no_grad()
def test_any_architecture_and_size_runs(mobile_architectures, data, height, width):
    architecture = data.draw(mobile_architectures())
    last = len(architecture.stages)
    backbone = build_backbone(architecture, (0, last)).eval()
    maps = backbone(torch.randn(1, 3, height, width))
    for name, stages in (("0", architecture.strides[:1]), (str(last), architecture.strides[: last + 1])):
        h, w = height, width
        for stride in stages:
            h, w = math.ceil(h / stride), math.ceil(w / stride)
        assert maps[name].shape == (1, architecture.widths[int(name)], h, w)
        assert backbone.strides[name] == math.prod(stages)


@torch.no_grad()
def test_classifier_equals_torchvision(torchvision_net, mobilenet, tmp_path):
    torch.save(torchvision_net.state_dict(), tmp_path / "weights.pth")
    network = Classifier(build_backbone(mobilenet, (8,)), 1000).eval()
    network.backbone.load_state_dict(load_seed(tmp_path / "weights.pth").state)
    network.classifier.load_state_dict(torchvision_net.classifier[1].state_dict())
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normal = (images / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(network(images), torchvision_net(normal), rtol=1e-3, atol=1e-4)


def test_normalize_holds_no_state():
    assert not Normalize().state_dict()
    assert Normalize((1, 2, 3), (2, 2, 2))(torch.full((1, 3, 1, 1), 5)).flatten().tolist() == [2.0, 1.5, 1.0]
