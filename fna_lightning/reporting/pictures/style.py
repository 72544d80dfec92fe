"""What all pictures share: colours, plain axes, and PNG out."""

from __future__ import annotations

import io
import os

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from fna_lightning.files import replacing
from fna_lightning.reporting.units import count_text

# Okabe and Ito's colours, which the colour-blind can tell apart, without the yellow that white paper swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
INK = "#222222"
FAINT = "#8a8a8a"
SMALL = 8
"""Font size in points of ticks and notes."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure; width and height in inches."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def plain(axes: Axes, title: str = "", xlabel: str = "", ylabel: str = "") -> None:
    """A quiet frame and grid around `axes`, with a title at the left."""
    axes.set_title(literal(title), loc="left", fontsize=10, color=INK)
    axes.set_xlabel(literal(xlabel), fontsize=9, color=INK)
    axes.set_ylabel(literal(ylabel), fontsize=9, color=INK)
    axes.tick_params(labelsize=SMALL, colors=INK, length=3)
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#b0b0b0")


def counts_on(axis: object) -> None:
    """Write the ticks of `axis` (of matplotlib) as counts: 1.5 B, 300 M."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))  # pyright: ignore[reportAttributeAccessIssue]


def literal(text: str) -> str:
    """`text` as it is: matplotlib would read what stands between two dollars as a formula."""
    return text.replace("$", r"\$")


def shortened(text: str, length: int) -> str:
    """At most `length` characters, the end cut off."""
    return text if len(text) <= length else text[: length - 1] + "…"


def to_png(figure: Figure, dpi: int = 110) -> bytes:
    """The picture as PNG, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def save_picture(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write the picture as PNG, whole or not at all."""
    with replacing(os.fspath(path)) as temporary:
        temporary.write_bytes(to_png(figure))


def _tick(value: float) -> str:
    number, _, unit = count_text(value).partition(" ")
    short = number.rstrip("0").rstrip(".") if "." in number else number
    return f"{short} {unit}".strip()
