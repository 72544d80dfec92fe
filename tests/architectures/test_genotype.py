import re
from dataclasses import replace

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fna_lightning.architectures import (
    Chain,
    Edge,
    HeadGenotype,
    TowerGenotype,
    load_architecture,
    load_parts,
    parse_architecture,
    parse_parts,
    parts_text,
    save_parts,
)
from fna_lightning.architectures.genotype import CHAINS, CHAINS_WITH_DILATION_3
from fna_lightning.errors import ArchitectureError, ConfigError
from fna_lightning.files import CONF_DIR
from fna_lightning.runs import build
from fna_lightning.runs.entry import short_architecture

# The four published lines, as the authors' README has them.
PUBLISHED = {
    "fad": (
        "Genotype(normal=[[('sinSep_conv_3x3_x3', 0), ('std_conv_3x3_x3', 1)], [('std_conv_3x3', 2), "
        "('sinSep_conv_3x3+dil_conv_3x3', 1)], [('sinSep_conv_3x3_x2', 2), ('std_conv_3x3_x2', 3)]], "
        "normal_concat=range(2, 5))",
        "Genotype(normal=[[('sinSep_conv_3x3_x2+dil_conv_3x3', 1), ('std_conv_3x3_x3', 0)], "
        "[('sinSep_conv_3x3_x2+dil_conv_3x3', 0), ('sinSep_conv_3x3', 2)], [('sinSep_conv_3x3_x2', 2), "
        "('std_conv_3x3', 3)]], normal_concat=range(2, 5))",
    ),
    "fad_other": (
        "Genotype(normal=[[('std_conv_3x3_x3', 0), ('std_conv_3x3_x2', 1)], [('std_conv_3x3', 0), "
        "('std_conv_3x3+dil_conv_3x3', 2)], [('std_conv_3x3_x2+dil_conv_3x3', 3), "
        "('std_conv_3x3+dil_conv_3x3', 2)]], normal_concat=range(2, 5))",
        "Genotype(normal=[[('std_conv_3x3_x3', 1), ('sinSep_conv_3x3+dil_conv_3x3', 0)], [('sinSep_conv_3x3', 0), "
        "('sinSep_conv_3x3+dil_conv_3x3', 2)], [('std_conv_3x3', 1), ('std_conv_3x3_x3', 0)]], "
        "normal_concat=range(2, 5))",
    ),
}
# Whole heads of two cells: the box tower's receptive field, the class tower's (1.6).
FIELDS = {"fad": (25, 47), "fad_other": (39, 63)}
WHOLE = {
    "fad_resnet50": "resnet50",
    "fad_resnet101": "resnet101",
    "fad_resnext101_64x4d": "resnext101_64x4d",
    "fad_mobilenet_v2": "mobilenet_v2",
}
FIRST, SECOND = PUBLISHED["fad"]
ONE_EDGE = "[('std_conv_3x3', 0)], "


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_lines(name):
    head = load_architecture(name)
    assert str(head) == "\n".join(PUBLISHED[name])
    assert parse_architecture(str(head)) == head
    assert parse_parts(str(head)) == {"head": head}
    assert head.fields(2) == FIELDS[name]


def test_the_baseline_sees_less():
    tower = TowerGenotype(((Edge("std_conv_3x3_x2", 0), Edge("std_conv_3x3_x2", 1)),), (2,))
    assert HeadGenotype(tower, tower).fields(2) == (9, 17)


@pytest.mark.parametrize(("name", "backbone"), WHOLE.items())
def test_whole_networks(name, backbone):
    parts = load_parts(name)
    assert parts == {"backbone": load_architecture(backbone), "head": load_architecture("fad")}
    assert parse_parts(parts_text(parts)) == parts
    assert load_architecture(name) == parts["backbone"]


def test_the_operations_in_the_order_in_which_roots_give_them_out():
    std = ["", "+dil_conv_3x3", "_x2", "_x2+dil_conv_3x3", "_x3"]
    assert [f"{family}_conv_3x3{end}" for family in ("std", "sinSep") for end in std] == list(CHAINS)
    std.insert(1, "+dil_conv_3x3_r3")
    assert [f"{family}_conv_3x3{end}" for family in ("std", "sinSep") for end in std] == list(
        CHAINS_WITH_DILATION_3
    )
    assert [Chain.parse(name).receptive_field for name in CHAINS_WITH_DILATION_3] == [3, 9, 7, 5, 9, 7] * 2


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("dilation", [0, 2, 3])
@pytest.mark.parametrize("family", ["std", "sinSep"])
def test_chains_are_their_names(family, depth, dilation):
    chain = Chain(family, depth, dilation)
    assert Chain.parse(str(chain)) == chain


@pytest.mark.parametrize(
    "name",
    [
        "", "none", "std_conv_3x3_x1", "std_conv_3x3_x4", "std_conv_5x5", "sep_conv_3x3", "dil_conv_3x3",
        "skip_connect", "std_conv_3x3+dil_conv_5x5", "std_conv_3x3+dil_conv_3x3_r2", "std_conv_3x3\n",
    ],
)  # fmt: skip
def test_operations_that_are_none(name):
    with pytest.raises(ArchitectureError, match="is unknown: write std_conv_3x3 or sinSep_conv_3x3"):
        Chain.parse(name)


def test_chains_of_other_numbers():
    with pytest.raises(ArchitectureError, match="depth 4 and dilation 0: give std or sinSep"):
        Chain("std", 4)


@st.composite
def towers(draw):
    nodes = []
    for number in range(draw(st.integers(1, 5))):
        names = st.builds(
            Chain, st.sampled_from(["std", "sinSep"]), st.sampled_from([1, 2, 3]), st.sampled_from([0, 2, 3])
        )
        edges = st.builds(Edge, names.map(str), st.integers(0, number + 1))
        nodes.append(tuple(draw(st.lists(edges, min_size=1, max_size=3))))
    states = list(range(2, 2 + len(nodes)))
    concat = draw(st.lists(st.sampled_from(states), min_size=1, unique=True) | st.just(states))
    return TowerGenotype(tuple(nodes), tuple(concat))


heads = st.builds(HeadGenotype, towers(), towers())


@given(head=heads, wrapped=st.booleans(), newline=st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_round_trips(head, wrapped, newline):
    text = str(head).replace("], [", f"],{newline}  [") if wrapped else str(head).replace("\n", newline)
    assert parse_architecture(text) == head
    assert parse_architecture(yaml.safe_dump(head.to_dict())) == head
    assert hash(parse_architecture(text)) == hash(head)


def test_a_list_in_place_of_the_range():
    text = str(load_architecture("fad")).replace("range(2, 5)", "[2, 3, 4]")
    assert parse_architecture(text) == load_architecture("fad")
    other = replace(load_architecture("fad").box, concat=(4, 2))
    assert "normal_concat=[4, 2])" in str(other)


MALFORMED = {
    "one line": (FIRST, "holds 1 Genotype(...): write two, that of the box tower before"),
    "three lines": (f"{FIRST}\n{SECOND}\n{SECOND}", "holds 3 Genotype(...)"),
    "a tail": (f"{FIRST}\n{SECOND}\nand so on", "classes: \"Genotype(normal=[[('sinSep_conv_3x3_x2+dil"),
    "an unknown operation": (
        f"{FIRST}\n{SECOND.replace('std_conv_3x3_x3', 'skip_connect')}",
        "classes: node 0, edge 1: operation 'skip_connect' is unknown: write std_conv_3x3",
    ),
    "a later state": (
        f"{FIRST.replace(chr(39) + ', 3)', chr(39) + ', 4)')}\n{SECOND}",
        "box: node 2, edge 1: source 4 is no earlier state: choose 0 to 3",
    ),
    "a negative state": (FIRST.replace("_x3', 1)", "_x3', -1)") + f"\n{SECOND}", "node 0, edge 1: source -1"),
    "a truth as a state": (FIRST.replace("_x3', 1)", "_x3', True)") + f"\n{SECOND}", "node 0, edge 1 is"),
    "a flat list": (
        f"Genotype(normal=[('std_conv_3x3', 0)], normal_concat=range(2, 3))\n{SECOND}",
        "box: node 0, edge 0 is 'std_conv_3x3': give an operation and the number of a state",
    ),
    "no nodes": (f"Genotype(normal=[], normal_concat=range(2, 5))\n{SECOND}", "box: 0 nodes: give 1 to 16"),
    "no edges": (f"Genotype(normal=[[]], normal_concat=[2])\n{SECOND}", "box: node 0 has 0 edges"),
    "a number for nodes": (f"Genotype(normal=3, normal_concat=[2])\n{SECOND}", "box: nodes 3: give a list"),
    "inputs given out": (FIRST.replace("range(2, 5)", "range(0, 5)") + f"\n{SECOND}", "its nodes are the states"),
    "nothing given out": (FIRST.replace("range(2, 5)", "range(5, 2)") + f"\n{SECOND}", "concat []: give each"),
    "a state twice": (FIRST.replace("range(2, 5)", "[2, 2]") + f"\n{SECOND}", "concat [2, 2]: give each"),
    "a long range": (FIRST.replace("range(2, 5)", "range(2, 10**9)") + f"\n{SECOND}", "is no genotype: write"),
    "a longer range": (FIRST.replace("5))", f"{10**40}))") + f"\n{SECOND}", "box: concat [2, 3, 4"),
    "a range of one": (FIRST.replace("range(2, 5)", "range(5)") + f"\n{SECOND}", "is no genotype: write"),
    "a text for concat": (FIRST.replace("range(2, 5)", "'2, 3'") + f"\n{SECOND}", "box: concat 2, 3: give a list"),
    "a reduction cell": (FIRST[:-1] + f", reduce=[])\n{SECOND}", "is no genotype: write Genotype("),
    "a key twice": (FIRST[:-1] + f", normal=[])\n{SECOND}", "is no genotype: write Genotype("),
    "a call inside": (
        f"Genotype(normal=__import__('os').system('touch MARKER'), normal_concat=[2])\n{SECOND}",
        "is no genotype: write",
    ),
    "a call as the range": (
        FIRST.replace("range(2, 5)", "open('MARKER', 'w')") + f"\n{SECOND}",
        "is no genotype: write",
    ),
    "a call before": (f"Genotype(open('MARKER', 'w'))\n{SECOND}", "is no genotype: write"),
    "unclosed": (f"{FIRST[:-3]}\n{SECOND}", "is no genotype: write"),
    "deep": (f"Genotype(normal={'[' * 90}{']' * 90}, normal_concat=[2])\n{SECOND}", "is no genotype: write"),
    "signs": (f"Genotype(normal={'-' * 9000}1, normal_concat=[2])\n{SECOND}", "is no genotype: write"),
    "endless": (f"{FIRST}{' ' * 30_000}\n{SECOND}", "characters: 20000 are the most"),
    "an endless number": (FIRST.replace("5))", f"{'9' * 5000}))") + f"\n{SECOND}", "box: "),
    "many nodes": (
        f"Genotype(normal=[{ONE_EDGE * 17}], normal_concat=[2])\n{SECOND}",
        "box: 17 nodes: give 1 to 16",
    ),
    "a missing key": ("kind: genotype\nbox: {nodes: [], concat: []}", "genotype lacks the key 'classes'"),
    "a key too many": (
        yaml.safe_dump({**load_architecture("fad").to_dict(), "mask": []}),
        "genotype has unknown keys: 'mask'",
    ),
    "a tower that is none": ("kind: genotype\nbox: 3\nclasses: 4", "genotype: box is 3"),
    "nodes that are none": (
        "kind: genotype\nbox: {nodes: [[3]], concat: [2]}\nclasses: {nodes: [], concat: []}",
        "box: node 0, edge 0 is '3': give an operation",
    ),
    "a name of nothing": ("backbone: resnet50\nhead: nothing", "kind None is unknown"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_text_is_refused_in_one_line_and_never_run(case, tmp_path, monkeypatch):
    text, words = MALFORMED[case]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArchitectureError, match=re.escape(words)) as caught:
        parse_architecture(text)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


PIECES = ["Genotype(", "normal=", "normal_concat=", "range(", "[", "(", "]", ")", ", ", "2", "0", "5", "\n", "-"]
PIECES += ["'std_conv_3x3'", "'sinSep_conv_3x3_x2'", FIRST, SECOND, "kind: genotype\n", "box: ", "nodes: ", "'"]


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=14))
def test_any_scramble_is_read_or_refused(pieces):
    try:
        assert isinstance(parse_architecture("".join(pieces)), HeadGenotype)
    except ArchitectureError as error:
        assert "\n" not in str(error)  # noqa: PT017


def composed(*overrides):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", short_architecture(list(overrides)))


def test_parts_from_several_places_on_the_command_line(tmp_path):
    """A name, a file of the authors' two lines, a run directory; what is saved is whole."""
    log = tmp_path / "genotype.log"
    log.write_text("\n".join(PUBLISHED["fad_other"]))
    save_parts({"backbone": load_architecture("mobilenet_v2"), "head": load_architecture("fad")}, tmp_path)
    for head, found in {"fad_other": "fad_other", str(log): "fad_other", str(tmp_path): "fad"}.items():
        for backbone in ("mobilenet_v2", str(tmp_path)):
            config = composed(
                "architecture=fad_resnet50", f"architecture.head={head}", f"architecture.backbone={backbone}"
            )
            parts = build.resolve_parts(config)
            assert parts == {"backbone": load_architecture("mobilenet_v2"), "head": load_architecture(found)}
            assert OmegaConf.to_container(config.architecture) == {
                name: part.to_dict() for name, part in parts.items()
            }
            assert build.resolve_parts(config) == parts


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["architecture=fad"], "holds that of a head alone; add the backbone's"),
        (["architecture=fad_resnet50", "architecture.head=nothing"], "head: architecture 'nothing' is no file"),
        (
            ["architecture=fad_resnet50", "architecture.head=resnet50"],
            "head: resnet50 holds .* a backbone, of no head",
        ),
    ],
)
def test_parts_that_are_not_there(overrides, words):
    with pytest.raises((ArchitectureError, ConfigError), match=words):
        build.resolve_parts(composed(*overrides))


def test_a_file_names_published_parts_and_no_files(tmp_path):
    path = tmp_path / "net.yaml"
    path.write_text("backbone: mobilenet_v2\nhead: fad_other\n")
    assert load_parts(path) == {
        "backbone": load_architecture("mobilenet_v2"),
        "head": load_architecture("fad_other"),
    }
    path.write_text(f"backbone: {path}\n")
    with pytest.raises(ArchitectureError, match=r"backbone: '.*net\.yaml' is none of detnas_"):
        load_parts(path)
