"""`report.html`: one file with everything worth seeing of a run, readable for ever and without a network."""

from __future__ import annotations

import base64
import csv
import os
from collections import Counter
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fna_lightning.architectures import load_parts
from fna_lightning.errors import UserError
from fna_lightning.files import write_text
from fna_lightning.remapping.report import MAPS
from fna_lightning.reporting.candidates import CANDIDATES, read_candidates
from fna_lightning.reporting.pictures import (
    draw_alphas,
    draw_architecture,
    draw_candidates,
    draw_curves,
    has_drawing,
    to_png,
)
from fna_lightning.reporting.results import monitored, read_results
from fna_lightning.reporting.series import without_nul
from fna_lightning.reporting.tables import cost_lines
from fna_lightning.reporting.units import count_text, metric_text

FILE_NAME = "report.html"
_STYLE = Path(__file__).with_name("report.css")
_PICTURE_BYTES = 2_000_000
"""What all pictures may take before base64, so that the report stays below 3 MB."""
_RESOLUTIONS = (120, 90, 60, 40, 25)
"""Dots per inch, tried until the pictures fit."""
_BEST = 10
"""Candidates of a search that have a line."""
_TEXT_CHARACTERS = 60_000
"""Where a text is cut off."""


def write_report(folder: str | os.PathLike[str], title: str, pictures: Mapping[str, Figure] | None = None) -> Path:
    """Write `report.html` from the files of a run directory, whole or not at all.

    A file that is missing is passed over; one that is broken gives a note in its place, since a report
    shall not end a run that has trained for days.

    Args:
        folder: the run directory; the report is written into it.
        title: plain text.
        pictures: more figures by caption, shown after the results.

    Returns:
        The path of the report.
    """
    folder = Path(folder)
    sections = [
        _guarded("results.json", lambda: _results(folder)),
        _guarded("pictures", lambda: _pictures(folder, pictures or {})),
        _guarded(CANDIDATES, lambda: _best_candidates(folder / CANDIDATES)),
        _guarded("architecture", lambda: _architecture_text(folder)),
        _guarded("remapping.csv", lambda: _remapping(folder / "remapping.csv")),
        _guarded("config.yaml", lambda: _config(folder / "config.yaml")),
        _guarded("results.json", lambda: _software(folder)),
    ]
    body = "\n".join(filter(None, sections)) or '<p class="quiet">This folder holds nothing to report yet.</p>'
    path = folder / FILE_NAME
    write_text(path, _page(title, folder, body))
    return path


def _page(title: str, folder: Path, body: str) -> str:
    # The policy makes a browser refuse whatever might slip through the escaping.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{_STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
<p class="quiet">{escape(folder.absolute().name)}</p>
{body}
</main>
</body>
</html>
"""


def _guarded(name: str, make: Callable[[], str]) -> str:
    """The section, or a note that says why there is none."""
    try:
        return make()
    except Exception as error:  # whatever a damaged file does to its reader
        return f'<p class="note">{escape(name)}: {escape(str(error) or type(error).__name__)}</p>'


def _results(folder: Path) -> str:
    if not (folder / "results.json").exists():
        return ""
    results = read_results(folder)
    first = monitored(results["metrics"])
    tiles = [] if first is None else [_tile(first, metric_text(results["metrics"][first]), "tile first")]
    tiles += [_tile(name, text) for name, text in cost_lines(results)]
    parts = [f'<div class="tiles">{"".join(tiles)}</div>']
    if len(results["metrics"]) > 1:
        rows = [[name, metric_text(value)] for name, value in results["metrics"].items()]
        parts.append(_section("Metrics", _table(["metric", "value"], rows)))
    return "\n".join(parts)


def _software(folder: Path) -> str:
    try:
        results = read_results(folder)
    except UserError:
        return ""  # the results' section says so
    rows = [
        [name.replace("_", " "), str(value)] for name, value in results["software"].items() if value is not None
    ]
    return _section("Software", _table([], [*rows, ["hash of settings", str(results.get("config_hash", ""))]]))


def _pictures(folder: Path, given: Mapping[str, Figure]) -> str:
    """All pictures in sections, at the finest resolution at which they fit."""
    sections: dict[str, dict[str, Figure]] = {"Pictures": dict(given)}
    notes = []
    for name, file, draw in (
        ("Architecture", "architecture.yaml", _networks),
        ("Curves", "metrics.csv", draw_curves),
        ("Choices", "alphas.csv", lambda path: [draw_alphas(path)]),
        ("Candidates", CANDIDATES, lambda path: [draw_candidates(path)]),
    ):
        if (folder / file).exists():
            try:
                figures = draw(folder / file)
            except (UserError, ValueError, OSError) as error:
                notes.append(f'<p class="note">{escape(file)}: {escape(str(error))}</p>')
                continue
            sections[name] = {f"{name} {number}": figure for number, figure in enumerate(figures, start=1)}
    images = _fitting([figure for group in sections.values() for figure in group.values()])
    html = []
    for name, group in sections.items():
        shown = [_figure(next(images), label, caption=name == "Pictures") for label in group]
        html.append(_section(name, "\n".join(shown)) if shown else "")
    return "\n".join(filter(None, [*html, *notes]))


def _networks(path: Path) -> list[Figure]:
    """One figure for each part of the network whose kind of architecture has a drawing.

    Raises:
        ArchitectureError: where none has.
    """
    architectures = list(load_parts(path).values())
    drawn = list(filter(has_drawing, architectures))
    return [draw_architecture(architecture) for architecture in drawn or architectures]


def _fitting(figures: list[Figure]) -> Any:
    """The figures as PNG, in order."""
    images: list[bytes] = []
    for dpi in _RESOLUTIONS:
        images = [to_png(figure, dpi) for figure in figures]
        if sum(map(len, images)) <= _PICTURE_BYTES:
            break
    return iter(images)


def _figure(png: bytes, label: str, *, caption: bool) -> str:
    text = f"<figcaption>{escape(label)}</figcaption>" if caption else ""
    data = base64.b64encode(png).decode("ascii")
    return f'<figure>{text}<img alt="{escape(label)}" src="data:image/png;base64,{data}"></figure>'


def _best_candidates(path: Path) -> str:
    """The candidates of the highest scores, the earlier one first where they are equal."""
    if not path.exists():
        return ""
    candidates = read_candidates(path)
    best = sorted(candidates.rows, key=lambda row: -row.score)[:_BEST]
    rows = [[row.path, str(row.generation), *map(count_text, row.costs), metric_text(row.score)] for row in best]
    return _section(
        f"The best of {len(candidates.rows):,} candidates",
        _table(["path", "generation", *candidates.quantities, "score"], rows),
    )


def _architecture_text(folder: Path) -> str:
    path = folder / "architecture.txt"
    if not path.exists():
        return ""
    return _section("Architecture as text", f"<pre>{escape(_text(path))}</pre>")


def _remapping(path: Path) -> str:
    """How many tensors of each layer group came from where."""
    if not path.exists():
        return ""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        counts = Counter(row.get("how") or "unknown" for row in csv.DictReader(without_nul(file)))
    if not counts:
        return ""
    total = sum(counts.values())
    rows = [[how, str(number), f"{number / total:.0%}"] for how, number in counts.most_common()]
    maps = path.parent / MAPS
    off = [] if not maps.exists() else list(csv.DictReader(without_nul(_text(maps).splitlines())))
    beside = _table(["map", "difference from the seed's before training"], [list(row.values()) for row in off])
    content = _table(["how", "tensors", "share"], rows) + (beside if off else "")
    return _section("Where the parameters came from", content)


def _config(path: Path) -> str:
    if not path.exists():
        return ""
    text = f"<pre>{escape(_text(path))}</pre>"
    return _section("Settings", f"<details><summary>config.yaml</summary>{text}</details>")


def _text(path: Path) -> str:
    text = path.read_text(encoding="utf-8", errors="replace")
    return text if len(text) <= _TEXT_CHARACTERS else f"{text[:_TEXT_CHARACTERS]}\n... cut off here"


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>"


def _tile(name: str, value: str, kind: str = "tile") -> str:
    return f'<div class="{kind}"><b>{escape(value)}</b><span>{escape(name)}</span></div>'


def _table(head: list[str], rows: list[list[str]]) -> str:
    """The first column names things; where there is a head, the others are numbers."""
    kind = ' class="number"' if head else ""
    top = f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>" if head else ""
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td{kind}>{escape(cell)}</td>" for cell in others)
        lines.append(f"<tr><th>{escape(first)}</th>{cells}</tr>")
    return f'<div class="wide"><table>{top}{"".join(lines)}</table></div>'
