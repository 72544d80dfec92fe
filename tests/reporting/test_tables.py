import io

import pytest
from rich.console import Console

from fna_lightning.reporting.results import read_results
from fna_lightning.reporting.tables import RunRow, print_summary, relative_path, runs_table
from fna_lightning.reporting.units import bytes_text, count_text, metric_text, seconds_text

COMMAND = "python evaluate.py checkpoint=outputs/train/2026-01-01_12-00-00/ data=coco " + "key=[a,b] " * 20


def printed(print_it, width=80, **options):
    console = Console(file=io.StringIO(), width=width, **options)
    print_it(console)
    return console.file.getvalue()


def test_summary_shows_every_figure_and_fits_80_columns(tmp_path, monkeypatch, fill):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "run")
    results = read_results(tmp_path / "run")
    text = printed(lambda console: print_summary("run", results, COMMAND, console))
    lines = text.splitlines()
    figures = {" ".join(line.split()) for line in lines}
    for figure in ("mAP 0.2213", "mAP_small -", "multiply-adds at 800x1088 133.05 B", "parameters 11.72 M",
                   "training time 1 h 15 min", "images per second 2.0"):  # fmt: skip
        assert figure in figures
    assert "Files in run/" in lines
    assert any(line.startswith("  results.json ") for line in lines)
    assert not any("report.html" in line for line in lines), "a file that is not there"
    assert max(len(line) for line in lines if line != COMMAND) <= 80


@pytest.mark.parametrize("terminal", [True, False])
def test_next_command_can_be_copied(tmp_path, fill, terminal):
    results = read_results(fill(tmp_path))
    text = printed(lambda c: print_summary(tmp_path, results, COMMAND, c), force_terminal=terminal)
    assert text.splitlines()[-1] == COMMAND


def test_runs_table_has_a_line_a_run_and_marks_the_best():
    rows = [
        RunRow("seed=[red]", 2e9, 3e6, {"mAP": 0.2, "loss": 1.0}),
        RunRow("b", 1e9, 3e6, {"mAP": 0.3, "loss": 2.0}),
        RunRow("c", failed=True),
    ]
    text = printed(lambda console: console.print(runs_table(rows)))
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert lines[0] == ["run", "multiply-adds", "parameters", "mAP", "loss"]
    assert lines[2:] == [
        ["seed=[red]", "2.00", "B", "3.00", "M", "0.2000", "1.0000"],
        ["b", "1.00", "B", "3.00", "M", "0.3000", "2.0000"],
        ["c", "failed", "-", "-", "-"],
    ]
    coloured = printed(lambda console: console.print(runs_table(rows)), force_terminal=True)
    bold = [part.split("\x1b[0m")[0].strip() for part in coloured.split("\x1b[1m")[1:]]
    # Fewer multiply-adds, more mAP, less loss; equal parameters are nobody's best.
    assert {"1.00 B", "0.3000", "1.0000"} <= set(bold)
    assert not {"2.00 B", "3.00 M", "0.2000", "2.0000"} & set(bold)


def test_long_labels_fold_within_80_columns():
    rows = [
        RunRow("a.very.long.override=" + "x" * 120, 1e9, 1e6, {"mAP": 0.1}),
        RunRow("b", 2e9, 1e6, {"mAP": 0.2}),
    ]
    lines = printed(lambda console: console.print(runs_table(rows))).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.count("x") for line in lines) == 120


def test_row_of_results():
    results = {"metrics": {"mAP_50": 0.4, "mAP": 0.2}, "cost": {"madds": 5, "params": None}}
    assert RunRow.of("a", results) == RunRow("a", 5, None, {"mAP": 0.2})


def test_paths_are_relative_where_they_can_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert relative_path(tmp_path / "a" / "b") == "a/b"
    assert relative_path(tmp_path.parent / "c") == str(tmp_path.parent / "c")


@pytest.mark.parametrize(
    ("make", "value", "text"),
    [
        (count_text, 133_051_234_567, "133.05 B"),
        (count_text, 999, "999"),
        (count_text, None, "-"),
        (seconds_text, 4.23, "4.2 s"),
        (seconds_text, 59.99, "1 min 00 s"),
        (seconds_text, 3599.7, "1 h 00 min"),
        (seconds_text, 200, "3 min 20 s"),
        (bytes_text, 1.5 * 2**30, "1.50 GiB"),
        (bytes_text, 10, "10 B"),
        (metric_text, 0.12345, "0.1235"),
        (metric_text, -1.0, "-"),
        (metric_text, -0.5, "-0.5000"),
    ],
)
def test_numbers_as_text(make, value, text):
    assert make(value) == text
