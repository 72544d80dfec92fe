"""Weights of ShuffleNetV2's family under every publisher's names."""

import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import shufflenet_v2_x1_0

from fna_lightning.architectures import load_architecture, parse_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.checkpoints import load_seed
from fna_lightning.choices import Choices
from fna_lightning.errors import CheckpointError
from fna_lightning.remapping import remap
from fna_lightning.supernets import ShuffleSpace, build_supernet

NAMES = ("shufflenet_3x3", "shufflenet_5x5", "shufflenet_7x7", "xception_3x3")
MMRAZORS = ("shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "shuffle_xception")
OWN = re.compile(r"stages\.(\d+)\.(?:(\d+)\.(side|main)\.(\d)\.)?(conv|norm)\.(\w+)")


def to_authors(architecture, candidate=None):
    """Names of the authors' release, from ours; in a supernet with the candidate's number."""
    places = [(s, b) for s, stage in enumerate(architecture.stages, 1) for b in range(len(stage.layers))]

    def rename(key):
        stage, block, branch, index, part, tensor = OWN.fullmatch(key).groups()
        if block is None:
            end = "first_conv" if stage == "0" else "last_conv"
            return f"{end}.{'conv' if part == 'conv' else 'bn'}.{tensor}"
        operation = NAMES[("shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "xception_3x3").index(
            architecture.stages[int(stage) - 1].layers[int(block)]
        )]  # fmt: skip
        place = f"{stage}{'abcdefghijklmnop'[int(block)]}"
        number = "" if candidate is None else f"{candidate}."
        start = f"features.{places.index((int(stage), int(block)))}.{number}"
        if branch == "side":
            start, name, pointwise = f"{start}proj_conv.", f"{place}_proj", index == "1"
        else:
            xception = operation == "xception_3x3"
            pair, pointwise = {
                False: {"0": ("a", True), "1": ("b", False), "2": ("b", True)},
                True: {str(i): ("abc"[i // 2], i % 2 == 1) for i in range(6)},
            }[xception][index]
            start, name = f"{start}conv.{'abc'.index(pair)}.", f"{place}_{operation}_branch2{pair}"
        if pointwise:
            return f"{start}{'interstellar' if part == 'conv' else 'bn'}{name}.{tensor}"
        return f"{start}interstellar{name}_s{'' if part == 'conv' else '_bn'}.{tensor}"

    return rename


def to_mmrazor(architecture, wrapped):
    """Names of mmrazor, from ours; `wrapped` as its exported subnets have them."""
    last = len(architecture.stages) + 1

    def rename(key):
        stage, block, branch, index, part, tensor = OWN.fullmatch(key).groups()
        part = "conv" if part == "conv" else "bn"
        if block is None:
            return f"{'conv1' if stage == '0' else f'layers.{last - 1}'}.{part}.{tensor}"
        operation = architecture.stages[int(stage) - 1].layers[int(block)]
        name = "shuffle_xception" if operation == "xception_3x3" else operation
        start = f"layers.{int(stage) - 1}.{block}." + (f"_candidates.{name}." if wrapped else "")
        if branch == "side":
            return f"{start}branch1.{index}.{part}.{tensor}"
        if operation == "xception_3x3":
            half = ("depthwise_conv", "pointwise_conv")[int(index) % 2]
            return f"{start}branch2.{int(index) // 2}.{half}.{part}.{tensor}"
        return f"{start}branch2.{index}.{part}.{tensor}"

    return rename


@pytest.fixture(scope="module")
def networks(randomise):
    """By layout, a whole network of all operations with random weights."""
    result = {}
    for layout in ("detnas", "mmrazor"):
        architecture = replace(load_architecture("detnas_coco_fpn_300m"), layout=layout)
        result[layout] = (architecture, randomise(build_backbone(architecture, (5,))).state_dict())
    return result


def renamed(state, rename, prefix=""):
    """A file of that publisher; the authors' stems take BGR."""
    content = {prefix + rename(key): tensor.clone() for key, tensor in state.items()}
    stem = f"{prefix}first_conv.conv.weight"
    return content | ({stem: content[stem][:, [2, 1, 0]].clone()} if stem in content else {})


DIALECTS = {
    "authors": ("detnas", to_authors, {}, ""),
    "authors, in a detector": ("detnas", to_authors, {}, "module.backbone.body."),
    "mmrazor": ("mmrazor", to_mmrazor, {"wrapped": False}, ""),
    "mmrazor, in a classifier": ("mmrazor", to_mmrazor, {"wrapped": True}, "backbone."),
    "mmrazor, exported": ("mmrazor", to_mmrazor, {"wrapped": True}, "architecture.backbone."),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_the_same_network(networks, tmp_path, dialect, suffix):
    layout, names, settings, prefix = DIALECTS[dialect]
    architecture, state = networks[layout]
    content = renamed(state, names(architecture, **settings), prefix)
    content |= {"neck.lateral_convs.0.conv.weight": torch.zeros(2, 2)} if prefix else {}
    assert len(set(content)) >= len(state)
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(content, path)
    for seed in (load_seed(path), load_seed(path, architecture)):
        assert seed.architecture == architecture
        assert set(seed.state) == set(state)
        assert all(torch.equal(tensor, state[name]) for name, tensor in seed.state.items())


def test_the_names_are_the_published_ones(networks):
    """Some of each release, written out."""
    architecture, state = networks["detnas"]
    names = set(renamed(state, to_authors(architecture)))
    assert {
        "first_conv.conv.bias",
        "features.0.conv.0.interstellar1a_shufflenet_7x7_branch2a.weight",
        "features.0.conv.1.interstellar1a_shufflenet_7x7_branch2b_s.weight",
        "features.0.conv.1.interstellar1a_shufflenet_7x7_branch2b_s_bn.running_mean",
        "features.0.proj_conv.bn1a_proj.weight",
        "features.8.conv.2.bn3a_xception_3x3_branch2c.bias",
        "features.19.conv.1.interstellar4d_shufflenet_7x7_branch2b.weight",
        "last_conv.bn.running_var",
    } <= names
    architecture, state = networks["mmrazor"]
    names = set(renamed(state, to_mmrazor(architecture, wrapped=True)))
    assert {
        "conv1.bn.weight",
        "layers.0.0._candidates.shuffle_7x7.branch1.0.conv.weight",
        "layers.0.0._candidates.shuffle_7x7.branch2.2.bn.weight",
        "layers.2.0._candidates.shuffle_xception.branch2.2.pointwise_conv.bn.running_mean",
        "layers.4.conv.weight",
    } <= names


@pytest.mark.parametrize("layout", ["detnas", "mmrazor"])
@torch.no_grad()
def test_a_published_network_as_a_seed(networks, tmp_path, layout):
    """Read, carried over, and computing what it did; from a detector, which has no tail."""
    architecture, state = networks[layout]
    names = to_authors(architecture) if layout == "detnas" else to_mmrazor(architecture, wrapped=True)
    torch.save(renamed({k: v for k, v in state.items() if "stages.5" not in k}, names), tmp_path / "w.pth")
    source, target = build_backbone(architecture, (5,)).eval(), build_backbone(architecture, (2, 4)).eval()
    source.load_state_dict(state)
    report = remap(load_seed(tmp_path / "w.pth"), target)
    assert {entry.how for entry in report.entries} == {"copied"}
    images = torch.randn(1, 3, 64, 64)
    x = images
    for stage in source.stages[:5]:
        x = stage(x)
    assert torch.equal(target(images)["4"], x)


@pytest.mark.parametrize("layout", ["detnas", "detnas_supernet", "mmrazor"])
def test_own_files_carry_their_architecture(randomise, tmp_path, layout):
    architecture = parse_architecture(f"shuffle {layout}: 4 | 8: 03 | 12: 2 | 20")
    state = randomise(build_backbone(architecture, (3,))).state_dict()
    torch.save({"state_dict": state, "architecture": str(architecture)}, tmp_path / "own.pth")
    torch.save(state, tmp_path / "bare.pth")
    for seed in (load_seed(tmp_path / "own.pth"), load_seed(tmp_path / "bare.pth", architecture)):
        assert seed.architecture == architecture
        assert set(seed.state) == set(state)
    # What tensors cannot tell: the authors' supernets shuffle otherwise than their networks.
    told = replace(architecture, layout="detnas") if layout == "detnas_supernet" else architecture
    assert load_seed(tmp_path / "bare.pth").architecture == told


def test_supernets_are_refused(tmp_path):
    architecture = parse_architecture("shuffle detnas: 4 | 8: 0 | 20")
    state = {}
    for candidate, operation in enumerate("013"):
        one = parse_architecture(f"shuffle detnas: 4 | 8: {operation} | 20")
        state |= renamed(build_backbone(one, (2,)).state_dict(), to_authors(one, candidate))
    torch.save(state, tmp_path / "supernet.pth")
    with pytest.raises(
        CheckpointError, match=r"supernet\.pth: holds several candidates of block a of stage 1, as a"
    ):
        load_seed(tmp_path / "supernet.pth")
    supernet = build_supernet(ShuffleSpace(architecture), (1,))
    Choices(supernet).set_path([0])
    torch.save(supernet.state_dict(), tmp_path / "own.pth")
    with pytest.raises(CheckpointError, match=r"own\.pth: holds several candidates of block 0 of stage 1"):
        load_seed(tmp_path / "own.pth")


def test_torchvisions_network_is_refused(tmp_path):
    torch.save(shufflenet_v2_x1_0().state_dict(), tmp_path / "tv.pth")
    for architecture in (None, load_architecture("detnas_coco_fpn_300m")):
        with pytest.raises(
            CheckpointError, match=r"tv\.pth: is torchvision's ShuffleNetV2, whose stem .* pooling"
        ):
            load_seed(tmp_path / "tv.pth", architecture)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("stages.1.0.main.1.conv.weight"), "tensors of stages.1.0 show is 'nothing'"),
        (lambda state: state.pop("stages.0.conv.weight"), "stages.0.conv.weight is missing"),
        (lambda state: state.pop("stages.2.0.side.1.conv.weight"), "stages.2.0.side.1.conv.weight is missing"),
        (
            lambda state: state.update({"stages.1.0.main.1.conv.weight": torch.zeros(4, 1, 9, 9)}),
            "show is 'shuffle_9x9': choose shuffle_3x3",
        ),
        (lambda state: state.update({"stages.0.conv.weight": torch.zeros(4)}), "or of no convolution"),
    ],
)
def test_what_shapes_do_not_show(tmp_path, change, words):
    state = build_backbone(parse_architecture("shuffle detnas: 4 | 8: 03 | 12: 2 | 20"), (3,)).state_dict()
    change(state)
    torch.save(dict(state), tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=rf"odd\.pth: .*{re.escape(words)}"):
        load_seed(tmp_path / "odd.pth")
