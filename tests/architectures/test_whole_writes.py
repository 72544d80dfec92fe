import os

import pytest

from fna_lightning.files import replacing, write_text


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "kept.txt"
    write_text(path, "old")

    def interrupted():
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_new_file_takes_the_place_of_the_old_one_at_once(tmp_path):
    path, witness = tmp_path / "file.txt", tmp_path / "witness.txt"
    write_text(path, "old")
    os.link(path, witness)
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert (path.read_text(), witness.read_text()) == ("new", "old")


def test_folders_are_made_and_rights_are_the_usual_ones(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_text(path, "µ")
    assert path.read_bytes() == "µ".encode()
    (tmp_path / "usual").touch()
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode
