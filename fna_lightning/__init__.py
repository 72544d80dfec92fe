"""Adapt trained networks to detection and segmentation by architecture search and parameter remapping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fna_lightning.deployment import load

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`load` when it is asked for: it comes with torch and all else, which importing the package does not need."""
    if name == "load":
        from fna_lightning.deployment import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
