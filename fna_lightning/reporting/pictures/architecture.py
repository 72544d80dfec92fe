"""One function for pictures of architectures of every kind."""

from __future__ import annotations

from functools import singledispatch

from matplotlib.figure import Figure

from fna_lightning.architectures import Architecture
from fna_lightning.errors import ArchitectureError


@singledispatch
def draw_architecture(architecture: Architecture) -> Figure:
    """Draw an architecture; each kind registers its own drawing, in a file that this room imports.

    Raises:
        ArchitectureError: for a kind of network that there is no drawing of.
    """
    raise ArchitectureError(f"{type(architecture).__name__}: there is no picture of this kind of network")


def has_drawing(architecture: Architecture) -> bool:
    """Whether `draw_architecture` draws its kind."""
    return draw_architecture.dispatch(type(architecture)) is not draw_architecture.dispatch(object)
