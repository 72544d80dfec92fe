import copy
import re

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

from fna_lightning.architectures import load_architecture, parse_architecture, save_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.checkpoints import PUBLISHED, infer_architecture, load_seed
from fna_lightning.errors import CheckpointError

SUFFIXES = [".safetensors", ".pth", ".pt", ".ckpt"]

# torchvision's features -> (block, layer) of FNA.
PLACES = {
    **{1: (1, 0), 2: (2, 0), 3: (2, 1), 4: (3, 0), 5: (3, 1), 6: (3, 2)},
    **{7: (4, 0), 8: (4, 1), 9: (4, 2), 10: (4, 3), 11: (5, 0), 12: (5, 1)},
    **{13: (5, 2), 14: (6, 0), 15: (6, 1), 16: (6, 2), 17: (7, 0)},
}
FNA_OP = {"0.0": "0", "0.1": "1", "1.0": "3", "1.1": "4", "2": "6", "3": "7"}
FNA_OP_1 = {"0.0": "0", "0.1": "1", "1": "3", "2": "4"}
DENSENAS_PART = {
    "0.0": "_expand_conv.0",
    "0.1": "_expand_conv.1",
    "1.0": "_depthwise_conv.0",
    "1.1": "_depthwise_conv.1",
    "2": "_project_conv.0",
    "3": "_project_conv.1",
}
DENSENAS_PART_1 = {
    "0.0": "_depthwise_conv.0",
    "0.1": "_depthwise_conv.1",
    "1": "_project_conv.0",
    "2": "_project_conv.1",
}


def to_fna(key):
    number, rest = re.fullmatch(r"(?:features\.(\d+)|classifier\.1)\.(.+)", key).groups()
    if number is None:
        return f"classifier.{rest}"
    if number == "0":
        return f"blocks.0.{rest}"
    if number == "18":
        return f"blocks.8.conv.{rest}"
    part, tensor = re.fullmatch(r"conv\.([\d.]+)\.(\w+)", rest).groups()
    block, layer = PLACES[int(number)]
    return f"blocks.{block}.layers.{layer}.op.{(FNA_OP_1 if block == 1 else FNA_OP)[part]}.{tensor}"


def to_densenas(key):
    number, rest = re.fullmatch(r"(?:features\.(\d+)|classifier\.1)\.(.+)", key).groups()
    if number is None:
        return f"classifier.{rest}"
    if number == "0":
        return f"input_block.{rest}"
    if number == "18":
        return f"conv1_1_block.conv1_1.{rest}"
    part, tensor = re.fullmatch(r"conv\.([\d.]+)\.(\w+)", rest).groups()
    block, layer = PLACES[int(number)]
    place = "head_layer" if layer == 0 else f"stack_layers.{layer - 1}"
    return f"blocks.{block - 1}.{place}.{(DENSENAS_PART_1 if block == 1 else DENSENAS_PART)[part]}.{tensor}"


def renamed(state, rename, prefix=""):
    return {prefix + rename(key): tensor for key, tensor in state.items()}


def detector_of(state, rename, prefix=""):
    backbone = renamed(state, rename, f"{prefix}backbone.")
    others = {f"{prefix}neck.lateral_convs.0.conv.weight": torch.zeros(2, 2)}
    others[f"{prefix}bbox_head.retina_cls.bias"] = torch.zeros(3)
    return others | backbone


DIALECTS = {
    "torchvision": lambda s: s,
    "torchvision module.": lambda s: renamed(s, str, "module."),
    "torchvision wrapped": lambda s: {"state_dict": s, "epoch": 3},
    "fna": lambda s: renamed(s, to_fna),
    "fna module.": lambda s: renamed(s, to_fna, "module."),
    "fna wrapped": lambda s: {"state_dict": renamed(s, to_fna), "meta": {"epoch": 12, "time": "now"}},
    "fna model": lambda s: {"model": renamed(s, to_fna, "module.backbone.")},
    "fna detector": lambda s: {"state_dict": detector_of(s, to_fna), "optimizer": {"lr": 0.05}},
    "fna detector module.": lambda s: detector_of(s, to_fna, "module."),
    "densenas": lambda s: renamed(s, to_densenas),
    "densenas module.": lambda s: renamed(s, to_densenas, "module."),
    "densenas wrapped": lambda s: {"state_dict": renamed(s, to_densenas)},
    "no counters": lambda s: {k: t for k, t in renamed(s, to_fna).items() if not k.endswith("tracked")},
}


def save(content, path):
    if path.suffix == ".safetensors":
        save_file({key: tensor.contiguous() for key, tensor in content.items()}, path)
    else:
        torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def expected(torchvision_net):
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return images, torchvision_net.features(images)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".ckpt"])
@pytest.mark.parametrize("dialect", DIALECTS)
@torch.no_grad()
def test_every_dialect_gives_the_same_network(torchvision_net, mobilenet, expected, tmp_path, dialect, suffix):
    content = DIALECTS[dialect](torchvision_net.state_dict())
    if suffix == ".safetensors" and not all(isinstance(value, torch.Tensor) for value in content.values()):
        content = next(value for key, value in content.items() if key in ("state_dict", "model"))
    seed = load_seed(save(content, tmp_path / f"weights{suffix}"))
    assert seed.architecture == mobilenet
    assert seed.source.endswith(f"weights{suffix}")
    counted = {name for name in seed.state if name.endswith("num_batches_tracked")}
    assert len(seed.state) - len(counted) == 260
    backbone = build_backbone(seed.architecture, (8,))
    lacking = backbone.load_state_dict(seed.state, strict=bool(counted))
    assert all(name.endswith("num_batches_tracked") for name in lacking.missing_keys)
    images, features = expected
    assert torch.equal(backbone.eval()(images)["8"], features)


# The project's own files


@pytest.fixture(scope="module")
def odd(randomise):
    """A network whose strides and number of stages no weight tells."""
    architecture = parse_architecture("[[8, 6], ['k3_e1'], 2]|[[6, 6], ['skip', 'k5_e3', 'skip'], 1]")
    return architecture, randomise(build_backbone(architecture, (2,))).state_dict()


def assert_odd(seed, odd):
    architecture, state = odd
    assert seed.architecture == architecture
    assert set(seed.state) == set(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in seed.state.items())


@pytest.mark.parametrize("prefix", ["", "backbone.", "network.backbone.", "module.network.backbone."])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_own_files_carry_their_architecture(odd, tmp_path, prefix, suffix):
    architecture, state = odd
    state = {prefix + name: tensor for name, tensor in state.items()}
    path = tmp_path / f"own{suffix}"
    if suffix == ".safetensors":
        save_file(state, path, metadata={"architecture": str(architecture)})
    else:
        state |= {"network.head.weight": torch.zeros(2)} if prefix.startswith("network.") else {}
        torch.save({"state_dict": state, "architecture": str(architecture), "epoch": 1}, path)
    assert_odd(load_seed(path), odd)


def test_the_architecture_may_be_given(odd, tmp_path):
    torch.save(odd[1], tmp_path / "own.pth")
    assert_odd(load_seed(tmp_path / "own.pth", odd[0]), odd)
    with pytest.raises(CheckpointError, match=r"own\.pth.*2 stages.*give the architecture"):
        load_seed(tmp_path / "own.pth")


def test_a_run_directory(odd, tmp_path):
    architecture, state = odd
    (tmp_path / "checkpoints").mkdir()
    torch.save(
        {"state_dict": {f"network.backbone.{name}": tensor for name, tensor in state.items()}},
        tmp_path / "checkpoints" / "last.ckpt",
    )
    save_architecture(architecture, tmp_path / "architecture.yaml")
    assert_odd(load_seed(tmp_path), odd)
    torch.save({"state_dict": {"broken": torch.zeros(1)}}, tmp_path / "checkpoints" / "epoch-3.ckpt")
    assert_odd(load_seed(str(tmp_path)), odd)


# What the shapes show


@pytest.mark.parametrize(
    "text",
    [
        "[[24, 12], ['k3_e1'], 1]|[[12, 20], ['k3_e6', 'k3_e4'], 2]|[[20, 36], ['k5_e6'], 2]|"
        "[[36, 40], ['k7_e2'], 2]|[[40, 44], ['k3_e3'], 1]|[[44, 50], ['k3_e1'], 2]|[[50, 60], ['k3_e6'], 1]",
        str(load_architecture("fna_retinanet")),
        str(load_architecture("fna_deeplabv3")) + "|[[320, 640], ['conv_2d_1x1'], 1]",
    ],
)
def test_architecture_from_shapes(text):
    architecture = parse_architecture(text)
    last_skips_gone = re.sub(r"(, 'skip')+\]", "]", str(architecture))
    with torch.device("meta"):
        found = infer_architecture(build_backbone(architecture, (8,)).state_dict())
    assert str(found) == last_skips_gone


def test_skips_in_the_middle_are_seen():
    text = str(load_architecture("mobilenet_v2")).replace(
        "'k3_e6', 'k3_e6', 'k3_e6']", "'k3_e6', 'skip', 'k5_e6']"
    )
    with torch.device("meta"):
        state = build_backbone(parse_architecture(text), (7,)).state_dict()
    assert str(infer_architecture(state)) == text


@pytest.mark.parametrize(
    ("factor", "widths"),
    [
        (0.35, (16, 8, 8, 16, 24, 32, 56, 112, 1280)),
        (0.5, (16, 8, 16, 16, 32, 48, 80, 160, 1280)),
        (0.75, (24, 16, 24, 24, 48, 72, 120, 240, 1280)),
        (1.4, (48, 24, 32, 48, 88, 136, 224, 448, 1792)),
    ],
)
@torch.no_grad()
def test_other_widths_of_mobilenet_v2(randomise, mobilenet, tmp_path, factor, widths):
    """In narrow ones a stage may begin without a change of width."""
    network = randomise(mobilenet_v2(width_mult=factor)).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    seed = load_seed(tmp_path / "weights.pth")
    assert seed.architecture.widths == widths
    assert [stage.layers for stage in seed.architecture.stages] == [stage.layers for stage in mobilenet.stages]
    backbone = build_backbone(seed.architecture, (8,)).eval()
    backbone.load_state_dict(seed.state)
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(backbone(images)["8"], network.features(images))


def test_other_depths_under_torchvisions_names(tmp_path):
    """As many layers as MobileNetV2 has, in other stages."""
    setting = [
        [1, 16, 1, 1],
        [6, 24, 4, 2],
        [6, 32, 3, 2],
        [6, 64, 3, 2],
        [6, 96, 3, 1],
        [6, 160, 2, 2],
        [6, 320, 1, 1],
    ]
    network = mobilenet_v2(inverted_residual_setting=setting)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    stages = load_seed(tmp_path / "weights.pth").architecture.stages
    assert [(len(stage.layers), stage.width) for stage in stages] == [(n, c) for _, c, n, _ in setting]


# What does not fit


def test_unknown_names(tmp_path):
    torch.save({"blocks1.0.conv1.weight": torch.zeros(1)}, tmp_path / "strange.pth")
    with pytest.raises(CheckpointError, match=r"strange\.pth.*blocks1\.0\.conv1\.weight"):
        load_seed(tmp_path / "strange.pth")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("features.0.0.weight", "stages.0.conv.weight"),
        ("features.4.conv.1.0.weight", "stages.3.0.depthwise.conv.weight"),
        ("features.4.conv.0.0.weight", "stages.3.0.expand.conv.weight"),
        ("features.1.conv.1.weight", "stages.1.0.project.conv.weight"),
    ],
)
def test_a_network_with_a_hole(torchvision_net, tmp_path, key, words):
    state = {name: tensor for name, tensor in torchvision_net.state_dict().items() if name != key}
    torch.save(state, tmp_path / "hole.pth")
    with pytest.raises(CheckpointError, match=f"hole.pth.*{re.escape(words)}"):
        load_seed(tmp_path / "hole.pth")


@pytest.mark.parametrize("shape", [(), (3,), (0, 0, 0, 0)])
@pytest.mark.parametrize("dialect", ["torchvision", "fna", "densenas"])
def test_tensors_of_impossible_shapes(torchvision_net, tmp_path, dialect, shape):
    state = copy.copy(torchvision_net.state_dict())
    state["features.4.conv.0.0.weight"] = torch.zeros(shape)
    torch.save(DIALECTS[dialect](state), tmp_path / "flat.pth")
    with pytest.raises(CheckpointError, match=r"flat\.pth"):
        load_seed(tmp_path / "flat.pth")


@pytest.mark.parametrize("text", ["[[8, 8], ['k4_e1'], 1]", "kind: nothing", ""])
def test_a_broken_architecture_inside_a_file(odd, tmp_path, text):
    torch.save({"state_dict": odd[1], "architecture": text}, tmp_path / "own.ckpt")
    with pytest.raises(CheckpointError, match=r"own\.ckpt"):
        load_seed(tmp_path / "own.ckpt")


# Torchvision's published weights


def test_published_weights_by_name(torchvision_net, mobilenet, monkeypatch):
    asked = []

    def give(self, *_, **options):
        asked.append((self, options))
        return torchvision_net.state_dict()

    monkeypatch.setattr(MobileNet_V2_Weights, "get_state_dict", give)
    seed = load_seed("mobilenet_v2")
    assert [weights for weights, _ in asked] == [MobileNet_V2_Weights.DEFAULT]
    assert asked[0][1]["check_hash"] is True
    assert seed.architecture == mobilenet
    assert torch.equal(seed.state["stages.0.conv.weight"], torchvision_net.features[0][0].weight)
    assert "mobilenet_v2" in PUBLISHED


def test_published_weights_without_network(monkeypatch):
    def fail(*_, **__):
        raise OSError("network is unreachable")

    monkeypatch.setattr(MobileNet_V2_Weights, "get_state_dict", fail)
    with pytest.raises(CheckpointError, match=r"mobilenet_v2.*could not be downloaded.*give a file"):
        load_seed("mobilenet_v2")
