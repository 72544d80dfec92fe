"""The table of candidates, read and drawn."""

import csv

import numpy as np
import pytest

from fna_lightning.errors import UserError
from fna_lightning.reporting.candidates import read_candidates
from fna_lightning.reporting.html import write_report
from fna_lightning.reporting.pictures import draw_candidates, to_png

HEAD = ["candidate", "generation", "path", "madds", "params", "score"]


@pytest.fixture
def table(tmp_path):
    """Twelve candidates in three generations; the best is number 7, and one could not be scored."""
    scores = [0.1, 0.2, 0.15, 0.3, 0.25, 0.1, 0.2, 0.9, 0.4, 0.5, 0.6, float("-inf")]
    rows = [[n, n // 4, f"{n}-0-1", 10**9 + n * 10**7, 10**6 + n, score] for n, score in enumerate(scores)]
    path = tmp_path / "candidates.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([HEAD, *rows])
    return path


def test_rows(table):
    candidates = read_candidates(table)
    assert candidates.quantities == ("multiply-adds", "parameters")
    assert candidates.rows[7] == (7, 1, "7-0-1", (1.07e9, 1000007.0), 0.9)
    assert len(candidates.rows) == 12


def test_a_row_that_was_cut_off(table):
    text = table.read_text()
    table.write_text(text[: text.rindex("-inf") - 3])
    assert len(read_candidates(table).rows) == 11


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", ",".join(HEAD) + "\n"])
def test_no_table(text, table):
    table.write_text(text)
    with pytest.raises(UserError, match=r"candidates\.csv: (is no table of candidates|holds no candidate yet)"):
        draw_candidates(table)


def test_drawn(table):
    figure = draw_candidates(table)
    left, right = figure.axes
    (points,) = [drawn for drawn in left.collections if drawn.get_gid() == "candidates"]
    assert len(points.get_offsets()) == 11
    (front,) = left.lines
    assert front.get_ydata().tolist() == [0.1, 0.2, 0.3, 0.9]
    best = next(line for line in right.lines if line.get_label() == "best so far").get_ydata()
    np.testing.assert_array_equal(best, [0.1, 0.2, 0.2, 0.3, 0.3, 0.3, 0.3, *[0.9] * 5])
    to_png(figure, dpi=20)


def test_in_the_report(table):
    html = write_report(table.parent, "search").read_text()
    assert "The best of 12 candidates" in html
    lines = html.split("The best of 12 candidates")[1].split("</tr>")
    assert "7-0-1" in lines[1]
    assert "1.07 B" in lines[1]
    assert 'alt="Candidates 1"' in html
