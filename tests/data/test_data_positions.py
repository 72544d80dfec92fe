"""Lines and columns of JSON entries, against a count by hand in texts of any layout."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fna_lightning.data.checking.positions import JsonPositions, entry_positions

TEXT = st.text(st.sampled_from('ab "\\{}[],:\n\r\t\0é\u2028😀'), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
TABLES = st.dictionaries(
    TEXT, VALUES | st.lists(st.dictionaries(TEXT, VALUES, max_size=2), max_size=4), max_size=4
)
LAYOUTS = st.fixed_dictionaries(
    {
        "indent": st.sampled_from([None, 0, 1, 4, "\t", "\n "]),
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\n: "), ("\r\n,", ":")]),
        "ensure_ascii": st.booleans(),
    }
)


def marked(tables):
    """The same with a number as the first key of every entry that is an object, and all the numbers' places."""
    result, places = {}, []
    for key, value in tables.items():
        result[key] = value
        if isinstance(value, list):
            result[key] = [
                {"<mark>": len(places) + k, **entry} if isinstance(entry, dict) else entry
                for k, entry in enumerate(value)
            ]
            places += [(key, k) for k in range(len(value))]
    return result, places


@given(TABLES, LAYOUTS)
def test_entries_are_found_in_any_layout(tables, layout):
    content, places = marked(tables)
    text = json.dumps(content, **layout)
    found = entry_positions(text)
    assert {key: len(value) for key, value in found.items()} == {
        key: len(value) if isinstance(value, list) else 0 for key, value in content.items()
    }
    colon = layout["separators"][1]
    for number, (key, index) in enumerate(places):
        if not isinstance(content[key][index], dict):
            continue
        mark = text.index(f'"<mark>"{colon}{number}')
        start = text.rindex("{", 0, mark)
        line_start = text.rfind("\n", 0, start) + 1
        assert found[key][index].line == text.count("\n", 0, start) + 1
        before = text[line_start:start]
        assert found[key][index].column == (None if not before.strip() else len(before) + 1)


@given(st.lists(VALUES.filter(lambda value: not isinstance(value, dict)), max_size=5), LAYOUTS)
def test_entries_of_any_type_can_be_read_where_they_are_found(values, layout):
    text = json.dumps({"a": 1, "values": values}, **layout)
    lines = text.split("\n")
    found = entry_positions(text)["values"]
    for (line, column), value in zip(found, values, strict=True):
        blank = len(lines[line - 1]) - len(lines[line - 1].lstrip())
        rest = "\n".join([lines[line - 1][blank if column is None else column - 1 :], *lines[line:]])
        # As text, because NaN equals nothing.
        assert repr(json.JSONDecoder().raw_decode(rest)[0]) == repr(value)


def test_the_last_of_equal_keys_counts():
    assert entry_positions('{"a": [1], "a": [\n 2, 3]}') == {"a": [(2, None), (2, 5)]}


@pytest.mark.parametrize("text", ["[]", "", '{"a"', '{"a": [1', '{"a": 1 "b"'])
def test_what_is_no_object_is_refused(text):
    with pytest.raises(ValueError, match=r"no '|Expecting|Unterminated"):
        entry_positions(text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_file_is_read_only_when_asked(tmp_path, encoding):
    file = tmp_path / "some.json"
    find = JsonPositions(file).of("rows")
    file.write_text('{"é": 0,\n"rows": [{}, {}]}', encoding=encoding)
    assert [find(0)(), find(1)(), find(2)()] == [(2, 10), (2, 14), None]
    assert JsonPositions(file).of("others")(0)() is None


def test_files_that_changed_have_no_positions(tmp_path):
    (tmp_path / "changed.json").write_text("{")
    for name in ("changed.json", "gone.json"):
        assert JsonPositions(tmp_path / name).of("rows")(0)() is None
