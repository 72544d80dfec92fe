"""What every kind of architecture must hold to: data, text, files, levels, parts."""

import itertools

import pytest
import torch
from systems import ARCHITECTURES, SIZE, SYSTEMS
from tower import TowerArchitecture

from fna_lightning.architectures import (
    architecture_from_dict,
    load_architecture,
    load_parts,
    maps_at,
    parse_parts,
    parts_from_dict,
    parts_to_dict,
    parts_yaml,
    save_architecture,
    save_parts,
)
from fna_lightning.backbones import build_backbone
from fna_lightning.checkpoints import Seed
from fna_lightning.errors import ConfigError
from fna_lightning.remapping import remap

every_kind = pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
every_backbone = pytest.mark.parametrize(
    "architecture", [each for each in ARCHITECTURES if each.part == "backbone"], ids=str
)

BACKBONES = {each.kind: each for each in ARCHITECTURES if each.part == "backbone"}


@every_kind
def test_round_trips(architecture, tmp_path):
    assert architecture_from_dict(architecture.to_dict()) == architecture
    assert hash(architecture_from_dict(architecture.to_dict())) == hash(architecture)
    parts = {architecture.part: architecture}
    assert parse_parts(str(architecture)) == parts
    assert parse_parts(parts_yaml(parts)) == parts
    assert parts_from_dict(parts_to_dict(parts)) == parts
    for name in ("architecture.yaml", "architecture.txt"):
        save_architecture(architecture, tmp_path / name)
        assert load_parts(tmp_path / name) == parts
    assert load_parts(tmp_path) == parts


@every_kind
def test_texts_are_of_one_kind_and_have_no_empty_lines(architecture):
    kinds = {type(each) for each in ARCHITECTURES}
    assert [kind for kind in kinds if kind.recognises(str(architecture).splitlines()[0])] == [type(architecture)]
    assert all(line.strip() for line in str(architecture).splitlines())


@every_backbone
def test_levels_are_the_maps_that_are_built(architecture):
    levels = architecture.levels()
    maps = [level.name for level in levels if level.form != "expand"]
    with torch.device("meta"):
        backbone = build_backbone(architecture, maps)
        found = backbone(torch.empty(2, 3, *SIZE))
    for level in (level for level in levels if level.name in maps):
        assert backbone.out_channels[level.name] == level.channels == found[level.name].shape[1]
        assert backbone.strides[level.name] == level.stride == SIZE[0] // found[level.name].shape[2]
    assert maps_at(levels, ["last"]) == (levels[-1 if levels[-1].form == "stage" else -2].name,)
    with pytest.raises(ConfigError, match="the backbone has no map '512': it has"):
        maps_at(levels, [512])


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)
def test_several_parts_in_one_run_directory(system, tmp_path):
    parts = {**system.base, "head": TowerArchitecture((3, 5))}
    save_parts(parts, tmp_path)
    assert load_parts(tmp_path) == load_parts(tmp_path / "architecture.txt") == parts
    assert parts_from_dict(parts_to_dict(parts)) == parse_parts(parts_yaml(parts)) == parts
    assert load_architecture(tmp_path) == parts["backbone"]


def test_a_single_backbone_is_written_as_ever(small, tmp_path):
    save_parts({"backbone": small}, tmp_path)
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("architecture.yaml", "architecture.txt"):
        save_architecture(small, alone / name)
        assert (tmp_path / name).read_bytes() == (alone / name).read_bytes()


@every_backbone
def test_a_seed_of_one_architecture_is_copied_whole(architecture, randomise):
    maps = [level.name for level in architecture.levels() if level.form != "expand"]
    state = randomise(build_backbone(architecture, maps), 1).state_dict()
    target = randomise(build_backbone(architecture, maps), 2)
    report = remap(Seed(architecture, state), target)
    assert {entry.how for entry in report.entries} == {"copied"}
    assert all(torch.equal(value, state[name]) for name, value in target.state_dict().items())


@pytest.mark.parametrize(("kind", "other"), list(itertools.permutations(BACKBONES, 2)))
def test_a_seed_of_another_kind_is_named(kind, other, randomise):
    seed = Seed(BACKBONES[kind], randomise(build_backbone(BACKBONES[kind])).state_dict())
    with pytest.raises(ConfigError, match=f"kind {kind}.*remap=random"):
        remap(seed, build_backbone(BACKBONES[other]))
