"""What libraries say, cut to a line."""

from hypothesis import given
from hypothesis import strategies as st

from fna_lightning.errors import brief, listed


@given(st.text(), st.integers(1, 60))
def test_a_brief_text_is_one_line_of_whole_words(text, length):
    found, words = brief(text, length), text.split()
    assert len(found) <= length + len(" ...")
    if found.endswith(" ...") and found != " ".join(words):
        kept = found.removesuffix(" ...")
        assert kept == kept[:length]
        assert " ".join(words).startswith(kept)
        assert kept.split() == words[: len(kept.split())] or " " not in kept
    else:
        assert found == " ".join(words)


@given(st.lists(st.integers(0, 99)), st.integers(1, 9))
def test_of_many_words_the_first_are_listed(words, most):
    found = listed(words, most, "; ")
    shown, _, more = found.partition(" and ")
    assert shown == "; ".join(map(str, words[:most]))
    assert more == (f"{len(words) - most} more" if len(words) > most else "")
