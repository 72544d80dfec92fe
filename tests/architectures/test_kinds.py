"""Everything that a kind of architecture registers, by two kinds that the package does not know."""

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from toy_kinds import GraphArchitecture, PlainArchitecture, register

from fna_lightning.architectures import (
    architecture_from_dict,
    architecture_yaml,
    load_architecture,
    load_parts,
    parse_architecture,
    parse_parts,
    parts_from_dict,
    parts_text,
    parts_to_dict,
    parts_yaml,
    save_architecture,
    save_parts,
)
from fna_lightning.architectures.kinds import KINDS
from fna_lightning.backbones import build_backbone
from fna_lightning.checkpoints import READERS, load_seed
from fna_lightning.errors import ArchitectureError, CheckpointError, ConfigError
from fna_lightning.files import CONF_DIR
from fna_lightning.reporting.html import write_report
from fna_lightning.runs import build
from fna_lightning.runs.entry import short_architecture
from fna_lightning.supernets import MobileSpace

PLAIN = PlainArchitecture((8, 12, 16, 20, 24))
GRAPH = GraphArchitecture(("conv_3x3", "conv_5x5"))


@pytest.fixture(autouse=True)
def _toy_kinds():
    before = [(registry, dict(registry)) for registry in (KINDS, READERS)]
    register()
    yield
    for registry, known in before:
        registry.clear()
        registry.update(known)


def composed(*overrides):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", short_architecture(list(overrides)))


@pytest.mark.parametrize("architecture", [PLAIN, GRAPH], ids=["plain", "graph"])
def test_round_trips(architecture, tmp_path):
    assert parse_architecture(str(architecture)) == architecture
    assert parse_architecture(architecture_yaml(architecture)) == architecture
    assert architecture_from_dict(architecture.to_dict()) == architecture
    assert parse_parts(str(architecture)) == {architecture.part: architecture}
    for file in ("net.yaml", "net.txt"):
        save_architecture(architecture, tmp_path / file)
        assert load_architecture(tmp_path / file) == architecture


def test_one_part_is_written_as_ever(tmp_path, mobilenet):
    save_parts({"backbone": mobilenet}, tmp_path)
    data = yaml.safe_dump(mobilenet.to_dict(), sort_keys=False, default_flow_style=None)
    assert (tmp_path / "architecture.yaml").read_text() == data
    assert (tmp_path / "architecture.txt").read_text() == f"{mobilenet}\n"
    assert load_parts(tmp_path) == {"backbone": mobilenet}


@pytest.mark.parametrize("backbone", ["mobilenet", "plain"])
def test_several_parts(tmp_path, mobilenet, backbone):
    parts = {"backbone": mobilenet if backbone == "mobilenet" else PLAIN, "head": GRAPH}
    save_parts(parts, tmp_path)
    assert yaml.safe_load((tmp_path / "architecture.yaml").read_text()) == {
        name: architecture.to_dict() for name, architecture in parts.items()
    }
    text = (tmp_path / "architecture.txt").read_text()
    assert text == f"{parts['backbone']}\n{GRAPH}\n" == parts_text(parts)
    for source in (tmp_path, tmp_path / "architecture.txt"):
        assert load_parts(source) == parts
        assert load_architecture(source) == parts["backbone"]
    assert parse_parts(parts_yaml(parts)) == parts == parts_from_dict(parts_to_dict(parts))
    assert parse_parts(f"\n{GRAPH}\n\n\n{parts['backbone']}") == parts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "head: {kind: nothing}",
            "kind 'nothing' is unknown: give one of .*mobile, plain, resnet, shuffle",
        ),
        ("head: {widths: [3]}", "head: kind None is unknown"),
        ("backbone: {kind: plain}", "backbone: plain lacks the key 'widths'"),
        ("head: {kind: plain, widths: [3]}", "head: is the architecture of a backbone, not of a head"),
        ("tail: {kind: plain, widths: [3]}", "tail: is the architecture of a backbone, not of a tail"),
        ("backbone: {kind: plain, widths: [3]}\nseed: 3", "kind None is unknown"),
        ("widths: 3 4\n[[8, 8], ['k3_e1'], 1]", "two architectures of a backbone: leave one out"),
        ("neither", "neither an architecture in YAML nor .*a net_config or .*a list of widths or a Graph"),
        ("{}", "kind None is unknown"),
    ],
)
def test_what_is_no_network(text, words):
    with pytest.raises(ArchitectureError, match=words):
        parse_parts(text)


def test_architecture_on_the_command_line(tmp_path):
    save_architecture(PLAIN, tmp_path / "net.txt")
    config = composed(f"architecture={tmp_path}/net.txt")
    assert build.resolve_parts(config)["backbone"] == PLAIN
    assert OmegaConf.to_container(config.architecture) == PLAIN.to_dict()
    assert build.resolve_parts(config) == {"backbone": PLAIN}


def test_a_run_directory_of_several_parts(tmp_path):
    save_parts({"backbone": PLAIN, "head": GRAPH}, tmp_path)
    config = composed(f"architecture={tmp_path}")
    for _ in range(2):  # the second time as data, as from a saved configuration
        assert build.resolve_parts(config) == {"backbone": PLAIN, "head": GRAPH}
        assert build.resolve_parts(config)["backbone"] == PLAIN
    assert OmegaConf.to_container(config.architecture) == {"backbone": PLAIN.to_dict(), "head": GRAPH.to_dict()}


def test_a_run_needs_a_backbone(tmp_path):
    save_architecture(GRAPH, tmp_path / "head.yaml")
    with pytest.raises(ConfigError, match="architecture: holds that of a head alone; add the backbone's"):
        build.resolve_parts(composed(f"architecture={tmp_path}/head.yaml"))


MAPS = {
    "retinanet": (["x3", "x4", "x5"], (8, 16, 32)),
    "deeplabv3": (["x5"], (16,)),
    "deeplabv3plus": (["x2", "x5"], (4, 16)),
}


@pytest.mark.parametrize("detector", MAPS)
def test_detectors_around_it(detector, tmp_path):
    save_architecture(PLAIN, tmp_path / "net.yaml")
    recipe = [] if detector == "retinanet" else ["experiment=demo/segmentation"]
    config = composed(*recipe, f"detector={detector}", f"architecture={tmp_path}/net.yaml")
    architecture = build.resolve_parts(config)["backbone"]
    backbone = build_backbone(architecture, **build.map_settings(config, architecture))
    names, strides = MAPS[detector]
    assert (list(backbone.out_channels), tuple(backbone.strides.values())) == (names, strides)
    network = build.build_network(config, backbone, 3).eval()
    outputs = network(torch.zeros(1, 3, 64, 64))
    assert torch.isfinite(outputs.logits if detector == "retinanet" else outputs).all()


def test_ssdlite_names_what_it_has_not(tmp_path):
    save_architecture(PLAIN, tmp_path / "net.yaml")
    config = composed("experiment=fna/ssdlite_coco", "data.root=x", f"architecture={tmp_path}/net.yaml")
    words = r"^detector\.strides=\['16\.expand', 'head'\]: .*no map '16\.expand': it has 2, 4, 8, 16, 32$"
    with pytest.raises(ConfigError, match=words):
        build.map_settings(config, build.resolve_parts(config)["backbone"])
    config.detector.features = ["x4", -1]
    assert build.map_settings(config, PLAIN)["out_stages"] == ("x4", "x5")


def test_seeds(tmp_path):
    backbone = build_backbone(PLAIN)
    state = {f"conv{key[8:]}": tensor for key, tensor in backbone.state_dict().items()}
    torch.save(state, tmp_path / "toy.pth")
    torch.save({"state_dict": backbone.state_dict(), "architecture": str(PLAIN)}, tmp_path / "own.pth")
    for seed in (
        load_seed(tmp_path / "toy.pth"),
        load_seed(tmp_path / "toy.pth", PLAIN),
        load_seed(tmp_path / "own.pth"),
    ):
        assert seed.architecture == PLAIN
        assert list(seed.state) == list(backbone.state_dict())


def test_seeds_of_another_kind(tmp_path, mobilenet):
    torch.save({"conv1.conv.weight": torch.zeros(8, 3, 3, 3), "b": torch.zeros(1)}, tmp_path / "toy.pth")
    with pytest.raises(CheckpointError, match=r"names \(conv1\.conv\.weight, b, .* this project's.* nor Toy's"):
        load_seed(tmp_path / "toy.pth", mobilenet)


def test_a_seed_with_a_head(tmp_path):
    backbone = build_backbone(PLAIN)
    text = parts_yaml({"backbone": PLAIN, "head": GRAPH})
    torch.save({"state_dict": backbone.state_dict(), "architecture": text}, tmp_path / "own.pth")
    assert load_seed(tmp_path / "own.pth").architecture == PLAIN


def test_a_space_of_another_kind():
    with pytest.raises(
        ConfigError, match="architecture is of kind plain, but space searches those of kind mobile"
    ):
        MobileSpace(PLAIN, {2: 2})


def test_report(tmp_path):
    save_parts({"backbone": PLAIN, "head": GRAPH}, tmp_path)
    page = write_report(tmp_path, "Run").read_text()
    assert 'alt="Architecture 1"' in page
    assert 'alt="Architecture 2"' in page
    assert "Graph(normal" in page
