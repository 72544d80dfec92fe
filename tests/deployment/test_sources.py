"""Which files are looked at, and how what is written of them is called."""

from pathlib import Path

import pytest

from fna_lightning.deployment import find_sources
from fna_lightning.errors import DataError


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """tree(*files) -> a folder with these, which is the current one."""
    monkeypatch.chdir(tmp_path)

    def write(*files):
        for name in files:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(name)
        return tmp_path

    return write


def names(*places, output="out"):
    return [(source.path.as_posix(), source.name) for source in find_sources(places, Path(output))]


def test_folders_patterns_and_files(tree):
    tree("in/b.jpg", "in/a.PNG", "in/below/c.mov", "in/notes.txt", "in/.hidden.png", "in/odd.dat")
    everything = [("in/a.PNG", "a"), ("in/b.jpg", "b"), ("in/below/c.mov", "below/c")]
    assert names("in") == everything
    assert names("in/**/*") == [("in/a.PNG", "a"), ("in/b.jpg", "b"), ("in/below/c.mov", "below/c")]
    assert names("in/*/*") == [("in/below/c.mov", "below/c")]
    assert names("in/odd.dat") == [("in/odd.dat", "odd")]
    assert [source.is_video for source in find_sources(["in"], Path("out"))] == [False, False, True]


def test_every_file_once_and_every_name_once(tree):
    tree("one/a.png", "two/a.png", "two/A.jpg", "two/a_2.png")
    found = names("one", "two", "two/a.png", "one/*.png")
    assert [path for path, _ in found] == ["one/a.png", "two/A.jpg", "two/a.png", "two/a_2.png"]
    assert [name for _, name in found] == ["a", "A_2", "a_3", "a_2_2"]


def test_a_name_that_looks_like_a_pattern(tree):
    tree("[1].png", "1.png")
    assert names("[1].png") == [("[1].png", "[1]")]


def test_results_of_earlier_calls_are_no_sources(tree):
    tree("a.png", "out/pictures/a.png")
    assert names(".") == [("a.png", "a")]
    with pytest.raises(DataError, match=r"^out: holds no picture or video but those in out"):
        names("out")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("gone.jpg", "gone.jpg: no such file or folder; correct the path"),
        ("~/gone.jpg", "~/gone.jpg: no such file or folder; write /"),
        ("texts", "texts: no picture or video in the folder or below"),
        ("texts/*", "texts/*: 1 files match, but none is a picture or video"),
        ("gone/*.jpg", "gone/*.jpg: no file matches"),
    ],
)
def test_what_is_not_there(tree, place, words):
    tree("texts/a.txt")
    with pytest.raises(DataError) as caught:
        names(place)
    assert str(caught.value).startswith(words)
