"""Values that Hydra's grammar refuses arrive as they were written; what it reads is not touched."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fna_lightning.files import CONF_DIR
from fna_lightning.overrides import mend_of_mapping, quoted, readable


def read(override):
    """(key, value or values) as Hydra has them; None where it refuses."""
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return None
    value = parsed.value()
    return parsed.key_or_group, list(parsed.sweep_string_iterator()) if parsed.is_sweep_override() else value


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("seed.weights=outputs/run/epoch=3-step=12.ckpt", "outputs/run/epoch=3-step=12.ckpt"),
        ("resume=/runs/lr=0.1,wd=0/checkpoints", ["/runs/lr=0.1", "wd=0/checkpoints"]),
        ("seed.weights=a/epoch=3.ckpt,b/epoch=4.ckpt", ["a/epoch=3.ckpt", "b/epoch=4.ckpt"]),
        ("seed.weights=imagenet,b/epoch=4.ckpt", ["imagenet", "b/epoch=4.ckpt"]),
        ("+checkpoint=it's/epoch=3.ckpt", "it's/epoch=3.ckpt"),
        ("hydra.run.dir=outputs/(a) lr=0.1", "outputs/(a) lr=0.1"),
        ("data.root=/data/my (first) set", "/data/my (first) set"),
        ("seed.weights=${paths.output}/epoch=3.ckpt", "${paths.output}/epoch=3.ckpt"),
    ],
)
def test_paths_arrive(override, wanted):
    (changed,) = readable([override])
    value = read(changed)[1]
    if isinstance(wanted, list):
        value = [read(f"a={text}")[1] for text in value]
    assert value == wanted


@pytest.mark.parametrize(
    "override",
    ["trainer.max_epochs=[1", "data.classes={road=7}", "a='b", 'a="b=1', "lr=choice(1,2", "a", "~a", "=", ""],
)
def test_mistakes_stay(override):
    assert readable([override]) == [override]


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ('classes={"a b": c}', {"a b": "c"}),
        ("classes={'a b' : \"c d\", e: f}", {"a b": "c d", "e": "f"}),
        ('classes={"a (b), c=d: [e] {f}": g}', {"a (b), c=d: [e] {f}": "g"}),
        ('classes={"a": "b, \'c\': {d}"}', {"a": "b, 'c': {d}"}),
        ('classes={"1": one, "False": yes}', {1: "one", False: "yes"}),
        ('data.classes={"the road": 7, person: [24, 25]}', {"the road": 7, "person": [24, 25]}),
        ('+a={"b c": {"d e": "f: g"}}', {"b c": {"d e": "f: g"}}),
    ],
)
def test_keys_in_quotes(override, wanted):
    (changed,) = readable([override])
    assert read(override) is None
    assert read(changed)[1] == wanted


@pytest.mark.parametrize("name", ["Kühe", "it's", "a & b", "null", "1.50", ""])
def test_keys_that_cannot_be_written(name):
    override = f'data.classes={{cow: 1, "{name}": 2}}'
    assert readable([override]) == [override]
    assert mend_of_mapping(override) == (
        f'the name "{name}" can only stand in a file: write the mapping into <folder>/data/classes/<name>.yaml '
        "and give hydra.searchpath=[<folder>] +data/classes=<name>"
    )


def test_mends_of_mappings():
    assert "names of more than letters and digits in quotes" in mend_of_mapping("classes={Kühe: cow}")
    assert mend_of_mapping("trainer.max_epochs=[1") == mend_of_mapping("a") == ""


def test_keys_that_can_only_stand_in_a_file(tmp_path):
    for group, entry in (("classes", "evaluate"), ("data/classes", "check")):
        (tmp_path / group).mkdir(parents=True)
        (tmp_path / group / "mine.yaml").write_text('{Kühe: cow, "it\'s": 7}', encoding="utf-8")
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            given = ["data=cityscapes", f"hydra.searchpath=[{tmp_path}]", f"+{group}=mine"]
            config = compose(entry, given)
        assert OmegaConf.select(config, group.replace("/", ".")) == {"Kühe": "cow", "it's": 7}


NAME = st.text("ab 1/=.,\\()[]{}:-_+$%*@?|\t", min_size=1, max_size=12)


@given(NAME, NAME)
def test_any_name_that_has_a_place(name, other):
    override = f"classes={{{quoted(name)}: {quoted(other)}, last: 'x: y'}}"
    (changed,) = readable([override])
    if changed != override:
        assert [(str(key), value) for key, value in read(changed)[1].items()] == [(name, other), ("last", "x: y")]
    else:
        assert mend_of_mapping(override).startswith(f"the name {quoted(name)} can only stand in a file")


def test_a_file_whose_name_has_a_comma(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b=1.ckpt").write_text("")
    assert read(*readable(["checkpoint=a,b=1.ckpt"])) == ("checkpoint", "a,b=1.ckpt")


TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=12)
LIKELY = st.text("ab/=.,'\"\\\\ ()[]{}$:1-", max_size=12)


@given(TEXT | LIKELY)
@example("\\\\'")
@example("a\\\\")
def test_anything_can_be_quoted(value):
    assert read(f"key={quoted(value)}") == ("key", value)


@given(LIKELY | TEXT)
def test_what_is_read_stays_and_the_rest_is_the_text(value):
    override = f"key={value}"
    (changed,) = readable([override])
    if read(override) is not None:
        assert changed == override
    elif changed != override:
        found = read(changed)[1]
        parts = value.split(",")
        wanted = [text if read(f"key={text}") is None else read(f"key={text}")[1] for text in parts]
        if len(parts) == 1:
            assert found == wanted[0]
        else:
            assert [read(f"key={text}")[1] for text in found] == wanted
