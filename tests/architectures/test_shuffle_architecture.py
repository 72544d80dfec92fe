import re
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fna_lightning.architectures import (
    ShuffleArchitecture,
    ShuffleStage,
    architecture_from_dict,
    load_architecture,
    load_parts,
    parse_architecture,
    published_names,
)
from fna_lightning.architectures.shuffle_encodings import CANDIDATES
from fna_lightning.errors import ArchitectureError

# Stages separated, as the specification lists them (1.5).
PUBLISHED = {
    "detnas_coco_fpn_300m": "2120 2112 33130031 3132",
    "detnas_coco_fpn_300m_1019": "0001 2033 12223331 3232",
    "detnas_coco_retinanet_300m": "2311 3213 31113320 3333",
    "detnas_voc_fpn_300m": "2103 1303 20113333 3331",
    "detnas_voc_retinanet_300m": "1300 2333 23333220 2311",
    "detnas_coco_fpn_1_3g": "00312102 03123320 2113202221310333 13333333",
    "detnas_coco_fpn_3_8g": "00312102 03123320 2113202221310333 13333333",
    "mmrazor_coco_fpn_300m": "1000 3032 22330213 2221",
    "mmrazor_spos_300m": "2020 3110 01010312 2013",
    "spos_300m": "2101 2020 20230000 3233",
    "shufflenet_300m": "0000 0000 00000000 0000",
    "shufflenet_1_3g": "00000000 00000000 0000000000000000 00000000",
    "shufflenet_small": "00 00 0000 00",
    "shufflenet_3_8g": "00000000 00000000 0000000000000000 00000000",
}
WIDTHS = {
    "300m": (16, 64, 160, 320, 640, 1024),
    "1_3g": (48, 96, 240, 480, 960, 1024),
    "3_8g": (72, 172, 432, 864, 1728, 1728),
    "small": (16, 32, 64, 128, 256, 512),
}
MMRAZORS = ("shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "shuffle_xception")


def integers(text):
    return [int(digit) for digit in text.replace(" ", "")]


def mmrazor(text, key="backbone.layers.{}.{}", value=lambda name: {"chosen": name}):
    """The file of an architecture as mmrazor writes it."""
    return {
        key.format(stage, block): value(MMRAZORS[int(digit)])
        for stage, digits in enumerate(text.split())
        for block, digit in enumerate(digits)
    }


def test_all_published_ones_are_tested():
    assert set(PUBLISHED) == {n for n in published_names() if load_architecture(n).kind == "shuffle"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_are_the_published_integers(name):
    architecture = load_architecture(name)
    assert [CANDIDATES.index(layer) for stage in architecture.stages for layer in stage.layers] == integers(
        PUBLISHED[name]
    )
    assert [len(stage.layers) for stage in architecture.stages] == [len(part) for part in PUBLISHED[name].split()]
    assert architecture.widths == next(widths for label, widths in WIDTHS.items() if label in name)
    publisher = {"d": "detnas", "m": "mmrazor", "s": "mmrazor"}[name[0]]
    assert architecture.layout == ("detnas_supernet" if "shufflenet" in name else publisher)


def test_the_text_form():
    text = "shuffle detnas: 16 | 64: 2120 | 160: 2112 | 320: 33130031 | 640: 3132 | 1024"
    architecture = load_architecture("detnas_coco_fpn_300m")
    assert str(architecture) == text
    assert parse_architecture(text) == parse_architecture(text.replace(" ", "  ")) == architecture
    assert parse_architecture("shuffle mmrazor: 4 | 8: 03 | 10") == ShuffleArchitecture(
        "mmrazor", 4, (ShuffleStage(8, ("shuffle_3x3", "xception_3x3")),), 10
    )


@given(data=st.data())
def test_round_trips(data, shuffle_architectures):
    architecture = data.draw(shuffle_architectures)
    assert parse_architecture(str(architecture)) == architecture
    assert parse_architecture(yaml.safe_dump(architecture.to_dict())) == architecture
    assert architecture_from_dict(architecture.to_dict()) == architecture
    assert hash(parse_architecture(str(architecture))) == hash(architecture)


operations = st.lists(st.integers(0, 3), min_size=20, max_size=20) | st.lists(
    st.integers(0, 3), min_size=40, max_size=40
)


@given(values=operations, as_tuple=st.booleans(), newline=st.booleans())
def test_the_authors_integers(values, as_tuple, newline):
    text = str(tuple(values) if as_tuple else values)
    architecture = parse_architecture(text.replace(", ", ",\n  ", 1 if newline else 0))
    assert [CANDIDATES.index(name) for stage in architecture.stages for name in stage.layers] == values
    assert architecture.layout == "detnas"
    assert architecture.widths == WIDTHS["300m" if len(values) == 20 else "1_3g"]


@given(values=operations, indent=st.sampled_from(["", "  "]), end=st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_the_authors_integers_as_a_list_of_yaml(values, indent, end):
    text = "".join(f"{indent}- {value}{end}" for value in values)
    assert parse_architecture(text) == parse_architecture(str(values))


FORMS = {
    "1.x": ("backbone.layers.{}.{}", lambda name: {"chosen": name}),
    "1.x exported": ("architecture.backbone.layers.{}.{}", lambda name: {"chosen": name}),
    "0.x": ("stage_{}_block_{}", lambda name: {"chosen": [name]}),
}


@pytest.mark.parametrize("form", FORMS)
@given(values=operations)
def test_mmrazors_files(form, values):
    widths = (4, 4, 8, 4) if len(values) == 20 else (8, 8, 16, 8)
    digits = iter(map(str, values))
    text = " ".join("".join(next(digits) for _ in range(width)) for width in widths)
    found = parse_architecture(yaml.safe_dump(mmrazor(text, *FORMS[form])))
    assert found == replace(parse_architecture(str(values)), layout="mmrazor")


@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_theirs(form, tmp_path):
    path = tmp_path / "subnet.yaml"
    path.write_text("# found\n" + yaml.safe_dump(mmrazor("1000 3032 22330213 2221", *FORMS[form])))
    assert load_parts(path) == {"backbone": load_architecture("mmrazor_coco_fpn_300m")}
    path.write_text(str(integers("2120 2112 33130031 3132")))
    assert load_architecture(path) == load_architecture("detnas_coco_fpn_300m")


def test_a_converted_file():
    plain = mmrazor(PUBLISHED["spos_300m"], value=str)
    text = yaml.safe_dump({"modules": plain, "channels": None})
    assert parse_architecture(text) == load_architecture("spos_300m")


def test_names_of_all_publishers_are_read():
    data = load_architecture("shufflenet_300m").to_dict()
    data["stages"][0]["layers"] = ["shufflenet_3x3", "shufflenet_5x5", "shuffle_xception", "shufflenet_7x7"]
    stage = architecture_from_dict(data).stages[0]
    assert stage.layers == ("shuffle_3x3", "shuffle_5x5", "xception_3x3", "shuffle_7x7")


LIST = "2, 1, 2, 0, 2, 1, 1, 2, 3, 3, 1, 3, 0, 0, 3, 1, 3, 1, 3"
SUBNET = mmrazor(PUBLISHED["spos_300m"])
BASE = load_architecture("shufflenet_300m").to_dict()


def without(key):
    return {name: value for name, value in SUBNET.items() if name != key}


def as_yaml(data):
    return yaml.safe_dump(data)


MALFORMED = {
    "too few integers": (
        f"[{LIST}]",
        "an architecture of 19 integers: give 20 (300M setting) or 40 (1.3G setting)",
    ),
    "no integers": ("[1]", "of 1 integers"),
    "an unknown integer": (f"[{LIST}, 4]", "integer 20 is 4: choose 0 (shuffle_3x3), 1 (shuffle_5x5)"),
    "a negative integer": (f"({LIST}, -1)", "integer 20 is -1"),
    "a truth": (f"[{LIST}, True]", "integer 20 is True"),
    "a text among them": (f"[{LIST}, 'k3']", "integer 20 is k3"),
    "unclosed": (f"[{LIST}", "is no list of integers: write one a block"),
    "a call": (f"[{LIST}, __import__('os').system('touch MARKER')]", "is no list of integers"),
    "one number in brackets": ("(5)", "is no list of integers: write it in brackets"),
    "no layout": (
        "shuffle 16 | 64: 21 | 8",
        "'shuffle 16' begins no network: write 'shuffle <layout>: <stem width>'",
    ),
    "unknown layout": (
        "shuffle v2: 16 | 64: 21 | 8",
        "layout 'v2' is unknown: give one of detnas, detnas_supernet",
    ),
    "no tail": ("shuffle detnas: 16 | 64: 21", "does not end with '| <width of the tail>'"),
    "unknown digit": (
        "shuffle detnas: 16 | 64: 24 | 8",
        "stage 1 is '64: 24': write <width>: <a digit from 0 to 3",
    ),
    "no stages": ("shuffle detnas: 16 | 8", "at least one stage"),
    "odd width": ("shuffle mmrazor: 16 | 63: 2 | 8", "stage 1 has width 63: layout mmrazor needs multiples of 2"),
    "width in halves of halves": ("shuffle detnas_supernet: 4 | 10: 2 | 8", "needs multiples of 4"),
    "width 0": ("shuffle mmrazor: 16 | 0: 2 | 8", "stage 1 has width 0"),
    "narrower": ("shuffle detnas: 16 | 64: 2 | 64: 2 | 8", "stage 2 goes from 64 to 64 channels"),
    "stem width 0": ("shuffle detnas: 0 | 64: 2 | 8", "stem width 0"),
    "endless": ("shuffle detnas: 16 | " + "9" * 5000 + ": 2 | 8", "stage 1 is '999"),
    "a block missing": (as_yaml(without("backbone.layers.2.5")), "lacks block 5 of stage 2: the 300M setting"),
    "a block too many": (
        as_yaml({**without("backbone.layers.2.5"), "backbone.layers.4.0": {"chosen": "shuffle_3x3"}}),
        "lacks block 5 of stage 2",
    ),
    "one too many": (
        as_yaml({**SUBNET, "backbone.layers.3.4": {"chosen": "shuffle_3x3"}}),
        "has besides block 4 of stage 3: the 300M setting",
    ),
    "lines of something else": ("- 1\n- b\n- 2\n", "is no list of integers"),
    "too few lines": ("- 1\n- 2\n", "an architecture of 2 integers: give 20"),
    "far too many": (
        as_yaml(mmrazor("000000000 00000000 0000000000000000 00000000")),
        "has besides block 8 of stage 0: the 1.3G setting",
    ),
    "an unknown operation": (
        as_yaml({**SUBNET, "backbone.layers.2.5": {"chosen": "conv"}}),
        "backbone.layers.2.5: chosen is 'conv': choose shuffle_3x3, shuffle_5x5, shuffle_7x7, xception_3x3",
    ),
    "several chosen": (
        as_yaml({**SUBNET, "backbone.layers.2.5": {"chosen": ["shuffle_3x3", "shuffle_5x5"]}}),
        "backbone.layers.2.5: chosen is \"['shuffle_3x3'",
    ),
    "nothing chosen": (as_yaml({**SUBNET, "backbone.layers.2.5": None}), "backbone.layers.2.5: chosen is 'None'"),
    "something else": (
        as_yaml({**SUBNET, "neck": {"chosen": "fpn"}}),
        "'neck' is no block: write backbone.layers",
    ),
    "layout missing": (as_yaml({k: v for k, v in BASE.items() if k != "layout"}), "lacks the key 'layout'"),
    "unknown key": (as_yaml({**BASE, "head_width": 3}), "unknown keys: 'head_width'"),
    "unknown layer": (
        as_yaml({**BASE, "stages": [{"width": 64, "layers": ["shuffle_3x3", "skip"]}]}),
        "stage 1 layer 1 is 'skip': choose shuffle_3x3",
    ),
    "no layers": (as_yaml({**BASE, "stages": [{"width": 64, "layers": []}]}), "stage 1 has no layers"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_text_is_refused_in_one_line_and_never_run(case, tmp_path, monkeypatch):
    text, words = MALFORMED[case]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArchitectureError, match=re.escape(words)) as caught:
        parse_architecture(text)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_operation_that_no_reader_has_seen():
    with pytest.raises(ArchitectureError, match="stage 1 layer 0 is 'shuffle_9x9': choose"):
        ShuffleArchitecture("detnas", 4, (ShuffleStage(8, ("shuffle_9x9",)),), 8)


PIECES = ["[", "(", "]", ")", ",", "0", "3", "shuffle ", "detnas", ": ", " | ", "16", "64: 21", "8", "\n", "-1"]
PIECES += ["backbone.layers.0.0", "stage_0_block_0", "{chosen: ", "}", "shuffle_3x3", "modules:", "kind: shuffle"]


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=12))
def test_any_scramble_is_read_or_refused(pieces):
    try:
        assert isinstance(parse_architecture("".join(pieces)), ShuffleArchitecture)
    except ArchitectureError as error:
        assert str(error)  # noqa: PT017
