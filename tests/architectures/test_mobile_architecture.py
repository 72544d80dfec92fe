import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fna_lightning.architectures import (
    MobileArchitecture,
    Operation,
    Stage,
    architecture_from_dict,
    load_architecture,
    parse_architecture,
    published_names,
    save_architecture,
)
from fna_lightning.architectures.parts import architecture_yaml
from fna_lightning.errors import ArchitectureError

PUBLISHED = {
    "mobilenet_v2": """
[[32, 16], ['k3_e1'], 1]|
[[16, 24], ['k3_e6', 'k3_e6'], 2]|
[[24, 32], ['k3_e6', 'k3_e6', 'k3_e6'], 2]|
[[32, 64], ['k3_e6', 'k3_e6', 'k3_e6', 'k3_e6'], 2]|
[[64, 96], ['k3_e6', 'k3_e6', 'k3_e6'], 1]|
[[96, 160], ['k3_e6', 'k3_e6', 'k3_e6'], 2]|
[[160, 320], ['k3_e6'], 1]
""",
    "fna_retinanet": """
[[32, 16], ['k3_e1'], 1]|
[[16, 24], ['k3_e6', 'k3_e6', 'skip', 'skip'], 2]|
[[24, 32], ['k7_e6', 'k5_e6', 'skip', 'skip'], 2]|
[[32, 64], ['k3_e6', 'k5_e6', 'k7_e6', 'k3_e6'], 2]|
[[64, 96], ['k5_e6', 'k7_e6', 'skip', 'skip'], 1]|
[[96, 160], ['k7_e6', 'k7_e6', 'k7_e3', 'k7_e6'], 2]|
[[160, 320], ['k7_e6'], 1]
""",
    "fna_ssdlite": """
[[32, 16], ['k3_e1'], 1]|
[[16, 24], ['k5_e6', 'skip', 'skip', 'skip'], 2]|
[[24, 32], ['k5_e6', 'k5_e6', 'k3_e6', 'k5_e6'], 2]|
[[32, 64], ['k5_e6', 'k7_e6', 'k3_e6', 'skip'], 2]|
[[64, 96], ['k7_e6', 'k7_e6', 'k7_e6', 'k7_e6'], 1]|
[[96, 160], ['k5_e6', 'k7_e6', 'k7_e6', 'skip'], 2]|
[[160, 320], ['k7_e6'], 1]
""",
    "fna_deeplabv3": """
[[32, 16], ['k3_e1'], 1]|
[[16, 24], ['k3_e6', 'k3_e6', 'skip', 'skip'], 2]|
[[24, 32], ['k7_e6', 'k3_e6', 'k3_e6', 'k3_e6'], 2]|
[[32, 64], ['k7_e6', 'k7_e6', 'k5_e6', 'k7_e6', 'k7_e6', 'k5_e6'], 2]|
[[64, 96], ['k7_e6', 'k7_e6', 'k7_e6', 'k7_e6', 'skip', 'skip'], 1]|
[[96, 160], ['k7_e6', 'k5_e6', 'skip', 'skip'], 2]|
[[160, 320], ['k7_e3'], 1]
""",
}
STAGE = "[[8, 8], ['k3_e1'], 1]"


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_are_the_published_texts(name):
    text = PUBLISHED[name].strip()
    architecture = load_architecture(name)
    assert str(architecture) == text
    assert architecture == parse_architecture(text)
    assert architecture.head_width == 1280


def test_published_names():
    assert set(PUBLISHED) <= set(published_names())
    assert "file" not in published_names()


def test_what_a_text_means():
    assert parse_architecture("[[4, 6], ['k5_e3', 'skip'], 2]|[[6, 9], ['k3_e1'], 1]") == MobileArchitecture(
        4, (Stage(6, 2, (Operation(5, 3), None)), Stage(9, 1, (Operation(3, 1),)))
    )


@pytest.mark.parametrize(
    "text",
    [
        "[[8, 8], ['k3_e1'], 1]|[[8, 9], ['k3_e6'], 2]|",
        "  [[8,8],['k3_e1'],1] |\n\n [[8, 9], [\"k3_e6\"], 2]\n",
        "[[8, 8], ['k3_e1'], 1]|[[8, 9], ['k3_e6'], 2]",
    ],
)
def test_spacing_and_a_last_bar_are_immaterial(text):
    assert str(parse_architecture(text)) == "[[8, 8], ['k3_e1'], 1]|\n[[8, 9], ['k3_e6'], 2]"


def test_a_stage_that_begins_without_a_residual():
    text = "[[8, 8], ['k3_e1'], 1, 'no_residual']|\n[[8, 8], ['k3_e6', 'k3_e6'], 1]"
    architecture = parse_architecture(text)
    assert [stage.residual for stage in architecture.stages] == [False, True]
    assert str(architecture) == text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[8, 9], ['k3_e1'], 1, 'no_residual']", "stage 1 could not begin with a residual"),
        ("[[8, 8], ['k3_e1'], 2, 'no_residual']", "stage 1 could not begin with a residual"),
        ("[[8, 8], ['k3_e1'], 1, 'residual']", "only 'no_residual' may follow"),
        ("[[8, 8], ['k3_e1'], 1, 'no_residual', 1]", "only 'no_residual' may follow"),
    ],
)
def test_what_cannot_follow_a_stride(text, complaint):
    with pytest.raises(ArchitectureError, match=complaint):
        parse_architecture(text)


def test_head_width_of_naa():
    text = "[[8, 8], ['k3_e1'], 1]|\n[[8, 2048], ['conv_2d_1x1'], 1]"
    architecture = parse_architecture(text)
    assert (architecture.head_width, len(architecture.stages), architecture.widths) == (2048, 1, (8, 8, 2048))
    assert str(architecture) == text


@given(data=st.data())
def test_round_trips(data, mobile_architectures):
    architecture = data.draw(mobile_architectures())
    assert parse_architecture(str(architecture)) == architecture
    as_yaml = yaml.safe_dump(architecture.to_dict())
    assert parse_architecture(as_yaml) == architecture
    assert architecture_from_dict(architecture.to_dict()) == architecture
    assert len({architecture, parse_architecture(as_yaml)}) == 1


@pytest.mark.parametrize("file", ["found.yaml", "found.txt", "deep/er/found.yaml"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_save_and_load(tmp_path, name, file):
    architecture = load_architecture(name)
    save_architecture(architecture, tmp_path / file)
    assert load_architecture(tmp_path / file) == architecture
    assert [path.name for path in (tmp_path / file).parent.iterdir()] == [(tmp_path / file).name]


def test_load_from_a_run_directory(tmp_path):
    architecture = load_architecture("fna_retinanet")
    save_architecture(architecture, tmp_path / "architecture.yaml")
    assert load_architecture(str(tmp_path)) == architecture


def test_an_interrupted_save_leaves_the_old_file(tmp_path, small):
    class Broken:
        def to_dict(self):
            raise KeyboardInterrupt

    path = tmp_path / "architecture.yaml"
    save_architecture(small, path)
    with pytest.raises(KeyboardInterrupt):
        save_architecture(Broken(), path)
    assert load_architecture(path) == small


def yaml_with(**changes):
    data = {
        "kind": "mobile",
        "stem_width": 8,
        "stages": [{"width": 8, "stride": 1, "layers": ["k3_e1"]}],
        "head_width": 1280,
    }
    data.update(changes)
    return yaml.safe_dump({key: value for key, value in data.items() if value is not None})


MALFORMED = {
    "empty": ("", "empty"),
    "blank": (" \n ", "empty"),
    "not literal": ("[[8, 8], [k3_e1], 1]", "stage 1"),
    "unclosed": ("[[8, 8], ['k3_e1'], 1", "stage 1"),
    "call": ("[[8, 8], __import__('os').system('touch MARKER'), 1]", "stage 1"),
    "call as text": ("__import__('os').system('touch MARKER')", "neither"),
    "python object": ("!!python/object/apply:os.system ['touch MARKER']", "neither"),
    "two numbers": ("[[8, 8], ['k3_e1']]", "stage 1"),
    "stage missing": (f"{STAGE}||{STAGE}", "stage 2"),
    "chain": (f"{STAGE}|[[9, 8], ['k3_e1'], 1]", "stage 2 takes 9 channels, but stage 1 gives 8"),
    "unknown operation": ("[[8, 8], ['conv3'], 1]", "'conv3'"),
    "endless kernel": (f"[[8, 8], ['k{'3' * 5000}_e1'], 1]", "unknown operation"),
    "operation no text": ("[[8, 8], [3], 1]", "operation 3"),
    "even kernel": ("[[8, 8], ['k4_e1'], 1]", "kernel 4"),
    "expansion 0": ("[[8, 8], ['k3_e0'], 1]", "expansion 0"),
    "stride 3": ("[[8, 8], ['k3_e1'], 3]", "stride 3"),
    "stride true": ("[[8, 8], ['k3_e1'], True]", "whole numbers"),
    "width 0": ("[[8, 0], ['k3_e1'], 1]", "width 0"),
    "width in halves": ("[[8, 8.5], ['k3_e1'], 1]", "whole numbers"),
    "stem width 0": ("[[0, 8], ['k3_e1'], 1]", "stem width 0"),
    "no layers": ("[[8, 8], [], 1]", "no layers"),
    "only skips": ("[[8, 8], ['skip', 'skip'], 1]", "only skips"),
    "skip over a stride": ("[[8, 8], ['skip', 'k3_e1'], 2]", "begins with skip"),
    "skip over a width": ("[[8, 9], ['skip', 'k3_e1'], 1]", "begins with skip"),
    "only a head": ("[[8, 1280], ['conv_2d_1x1'], 1]", "conv_2d_1x1"),
    "head in the middle": (f"[[8, 8], ['conv_2d_1x1'], 1]|{STAGE}", "conv_2d_1x1"),
    "yaml list": ("- a\n- b", "neither"),
    "yaml broken": ("kind: [mobile", "neither YAML"),
    "yaml impossible date": ("kind: 2001-13-45", "neither YAML"),
    "yaml deep": ("kind: " + "[" * 2000, "neither YAML"),
    "no kind": (yaml_with(kind=None), "kind None"),
    "unknown kind": (yaml_with(kind="transformer"), "'transformer'"),
    "kind a list": (yaml_with(kind=["mobile"]), "kind"),
    "missing key": (yaml_with(stem_width=None), "lacks the key 'stem_width'"),
    "unknown key": (yaml_with(depth=3), "unknown keys: 'depth'"),
    "wrong type": (yaml_with(stem_width="eight"), "stem_width is 'eight'"),
    "a truth for a number": (yaml_with(head_width=True), "head_width is True"),
    "stages no list": (yaml_with(stages=3), "stages is 3"),
    "stages empty": (yaml_with(stages=[]), "at least one stage"),
    "stage no mapping": (yaml_with(stages=["k3_e1"]), "stage 1 is 'k3_e1'"),
    "stage key missing": (yaml_with(stages=[{"width": 8, "layers": ["k3_e1"]}]), "stage 1 lacks the key 'stride'"),
    "stage key unknown": (
        yaml_with(stages=[{"width": 8, "stride": 1, "layers": ["k3_e1"], "se": 4}]),
        "stage 1 has unknown keys: 'se'",
    ),
    "layer a number": (yaml_with(stages=[{"width": 8, "stride": 1, "layers": [3]}]), "operation 3"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_text_is_refused_and_never_run(case, tmp_path, monkeypatch):
    text, words = MALFORMED[case]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArchitectureError, match=re.escape(words)) as caught:
        parse_architecture(text)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@given(text=st.text())
def test_any_text_is_read_or_refused(text):
    try:
        assert isinstance(parse_architecture(text), MobileArchitecture)
    except ArchitectureError as error:
        assert str(error)  # noqa: PT017


PIECES = [
    "[[8, 8]",
    "[",
    "]",
    ",",
    "'k3_e1'",
    "1",
    "|",
    "skip",
    "conv_2d_1x1",
    "-1",
    "1e9",
    "{",
    "}",
    ":",
    "\n",
    "\0",
]
PIECES += ["kind: mobile", "stages:", "- width: 8", "  stride: 1", "&a", "*a", "!!int", "!!bool", "?", '"']


@given(
    pieces=st.lists(st.sampled_from(PIECES), max_size=12),
    glue=st.sampled_from(["", " "]),
)
@settings(max_examples=100)
def test_any_scramble_is_read_or_refused(pieces, glue):
    try:
        assert isinstance(parse_architecture(glue.join(pieces)), MobileArchitecture)
    except ArchitectureError as error:
        assert str(error)  # noqa: PT017


@pytest.mark.parametrize("tag", ["!!int", "!!bool x", "!!timestamp x", "!!float", "!!binary ä", "!!set 3"])
def test_broken_yaml_tags_are_refused(tag):
    with pytest.raises(ArchitectureError):
        parse_architecture(f"kind: {tag}\nstem_width: 8")


def test_files_that_cannot_be_read_name_themselves(tmp_path):
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00kind")
    broken = tmp_path / "broken.yaml"
    broken.write_text(STAGE.replace("k3", "k4"))
    for path in (binary, broken):
        with pytest.raises(ArchitectureError, match=path.name):
            load_architecture(path)


@pytest.mark.parametrize(
    "source", ["no_such_network", "no/such/file.yaml", "nul\0byte", "x" * 5000, "../mobilenet_v2"]
)
def test_what_is_not_there_is_named(source):
    with pytest.raises(ArchitectureError, match="is no file") as caught:
        load_architecture(source)
    assert "mobilenet_v2" in str(caught.value)


def test_a_directory_without_architecture(tmp_path):
    with pytest.raises(ArchitectureError, match="architecture"):
        load_architecture(tmp_path)


@pytest.mark.parametrize(
    ("output_stride", "expected"),
    [
        (None, [(2, 1), (1, 1), (2, 1), (2, 1), (2, 1), (1, 1), (2, 1), (1, 1), (1, 1)]),
        (32, [(2, 1), (1, 1), (2, 1), (2, 1), (2, 1), (1, 1), (2, 1), (1, 1), (1, 1)]),
        (16, [(2, 1), (1, 1), (2, 1), (2, 1), (2, 1), (1, 1), (1, 2), (1, 2), (1, 2)]),
        (8, [(2, 1), (1, 1), (2, 1), (2, 1), (1, 2), (1, 2), (1, 4), (1, 4), (1, 4)]),
    ],
)
def test_strides_turn_into_dilations(mobilenet, output_stride, expected):
    assert list(mobilenet.strides_and_dilations(output_stride)) == expected


@pytest.mark.parametrize("output_stride", [64, 12, 0, 3])
def test_impossible_output_strides(mobilenet, output_stride):
    with pytest.raises(ArchitectureError, match=f"output stride {output_stride} cannot be had"):
        mobilenet.strides_and_dilations(output_stride)


def test_numbers_by_stage(mobilenet):
    assert mobilenet.widths == (32, 16, 24, 32, 64, 96, 160, 320, 1280)
    assert mobilenet.in_widths == (32, 16, 24, 32, 64, 96, 160)
    assert mobilenet.strides == (2, 1, 2, 2, 2, 1, 2, 1, 1)
    assert mobilenet.head_stage == 8


@pytest.mark.parametrize("text", ["skip", "k3_e", "k3_e6 ", "K3_e6", "k-3_e6", "k3e6", ""])
def test_operations_of_other_forms(text):
    with pytest.raises(ArchitectureError, match="unknown operation"):
        Operation.parse(text)


@pytest.mark.parametrize("change", [lambda t: t, lambda t: t.replace("\n", "\r\n")], ids=["plain", "line ends"])
@pytest.mark.parametrize("form", [str, architecture_yaml], ids=["text", "YAML"])
def test_files_of_other_systems(small, tmp_path, form, change):
    (tmp_path / "net.txt").write_bytes(b"\xef\xbb\xbf" + change(form(small) + "\n").encode())
    assert load_architecture(tmp_path / "net.txt") == small


def test_a_key_that_comes_twice_is_refused(small, tmp_path):
    text = architecture_yaml(small)
    (tmp_path / "net.yaml").write_text(f"{text}stages: []\n")
    with pytest.raises(ArchitectureError, match=r"net.yaml: is neither YAML nor .*the key stages comes twice"):
        load_architecture(tmp_path / "net.yaml")
