import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from fna_lightning.detectors.base import Detections
from fna_lightning.reporting import html
from fna_lightning.reporting.html import write_report
from fna_lightning.reporting.pictures import draw_detections, draw_pareto

HOSTILE = "<script>alert('x')</script>\"><img src=http://evil.example/x onerror=y>&"


@pytest.fixture(autouse=True)
def _blank(monkeypatch):
    """Rendering takes most of the time, and only two tests care how it looks."""
    monkeypatch.setattr(html, "to_png", lambda *_: b"\x89PNG")


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags are closed in order."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def named(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def read(path):
    return Page(path.read_text(encoding="utf-8"))


def headings(path):
    return re.findall("<h2>(.*?)</h2>", path.read_text(encoding="utf-8"))


def test_report_of_a_search(tmp_path, fill, monkeypatch):
    monkeypatch.undo()
    path = write_report(fill(tmp_path, entry="search"), "A search")
    assert path == tmp_path / "report.html"
    assert path.stat().st_size < 3_000_000
    assert headings(path) == ["Metrics", "Architecture", "Curves", "Choices", "Architecture as text",
                              "Where the parameters came from", "Settings", "Software"]  # fmt: skip
    page = read(path)
    assert len(page.named("img")) == 1 + 2 + 1
    for text in (
        "A search",
        "133.05 B",
        "0.2213",
        "k7_e6",
        "copied",
        "90%",
        "own initialisation",
        "root: /data/coco",
    ):
        assert text in page.text
    for image in page.named("img"):
        kind, data = image["src"].split(",", 1)
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")


def test_given_pictures_are_shown_with_their_captions(tmp_path, fill):
    path = write_report(fill(tmp_path), "t", {"Found & true": draw_pareto([("a", 1.0, 2.0)])})
    assert "<figcaption>Found &amp; true</figcaption>" in path.read_text()
    assert headings(path)[1] == "Pictures"


def test_nothing_outside_the_file_is_referred_to(tmp_path, fill):
    folder = fill(tmp_path, entry="search")
    page = read(write_report(folder, "t"))
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "a", "base", "form")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "data", "action"):
                assert value.startswith("data:image/png;base64,")
    style = re.search("<style>(.*?)</style>", (folder / "report.html").read_text(), re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    policy = [meta["content"] for meta in page.named("meta") if "http-equiv" in meta]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_hostile_text_is_only_text(tmp_path, fill):
    folder = fill(tmp_path, metrics={HOSTILE: 0.5, "b": 0.1})
    for name in ("config.yaml", "architecture.txt", "architecture.yaml", "metrics.csv", "alphas.csv"):
        (folder / name).write_text(HOSTILE)
    (folder / "remapping.csv").write_text(f'target,how\na,"{HOSTILE.replace(chr(34), chr(34) * 2)}"\n')
    page = read(write_report(folder, HOSTILE, {HOSTILE: draw_pareto([(HOSTILE, 1.0, 2.0)])}))
    assert page.named("script") == []
    assert all(image["src"].startswith("data:image/png") for image in page.named("img"))
    assert [image["alt"] for image in page.named("img")] == [HOSTILE]
    assert page.text.count(HOSTILE) >= 5


def test_an_empty_folder_gives_a_page(tmp_path):
    page = read(write_report(tmp_path, "Nothing"))
    assert "nothing to report" in page.text
    assert page.named("img") == []


def test_any_file_may_be_missing_or_broken(tmp_path, fill):
    folder = fill(tmp_path, entry="search")
    for file in [path for path in folder.iterdir() if path.is_file()]:
        content = file.read_bytes()
        file.write_bytes(b'{"\xff\x00,[[[')
        assert len(headings(write_report(folder, "t"))) >= 6, file
        file.unlink()
        assert len(headings(write_report(folder, "t"))) >= 6, file
        file.write_bytes(content)


def test_a_broken_file_is_named(tmp_path, fill):
    folder = fill(tmp_path)
    (folder / "results.json").write_text("{")
    (folder / "architecture.yaml").write_text("kind: mobile")
    text = read(write_report(folder, "t")).text
    assert re.search(r"results\.json: cannot be read as JSON", text)
    assert re.search(r"architecture\.yaml.*lacks the key", text)


def test_large_pictures_are_made_smaller(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(html, "_RESOLUTIONS", (60, 40, 20))
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 200, 200), dtype=np.uint8))
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    figure = draw_detections(image, [nothing], [(nothing.boxes, nothing.labels)], [])
    sizes = []
    for limit in (10**7, 100_000):
        monkeypatch.setattr(html, "_PICTURE_BYTES", limit)
        sizes.append(write_report(tmp_path, "t", {"noise": figure}).stat().st_size)
    assert sizes[0] > 150_000 > sizes[1]


def test_an_interrupted_write_leaves_the_old_report(tmp_path, fill, monkeypatch):
    path = write_report(fill(tmp_path), "old")
    before = path.read_bytes()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_report(tmp_path, "new")
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".report*"))
