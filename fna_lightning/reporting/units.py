"""Numbers as people read them."""

from __future__ import annotations

MISSING = "-"
"""Stands for a figure that is not there."""
NOTHING_TO_FIND = -1.0
"""COCO's value of a figure that no annotation counts for, such as mAP_small without a small object."""


def count_text(value: float | None) -> str:
    """A count such as multiply-adds or parameters: `133.05 B`, `3.50 M`, `412`."""
    if value is None:
        return MISSING
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:,.2f} {unit}"
    return f"{value:,.0f}"


def seconds_text(value: float | None) -> str:
    """A duration given in seconds: `2 h 05 min`, `3 min 20 s`, `4.2 s`."""
    if value is None:
        return MISSING
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(value / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def bytes_text(value: float | None) -> str:
    """A size given in bytes, in binary units: `1.53 GiB`."""
    if value is None:
        return MISSING
    for size, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value:.0f} B"


def metric_text(value: float | None) -> str:
    """A score or a loss, to four digits; a dash where there was nothing to score."""
    if value is None or value == NOTHING_TO_FIND:
        return MISSING
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"


def rate_text(value: float | None) -> str:
    """Something per second."""
    if value is None:
        return MISSING
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"
