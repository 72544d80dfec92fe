"""A network of inverted residual blocks as a row of boxes."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from fna_lightning.architectures import MobileArchitecture
from fna_lightning.architectures.mobile import Layer
from fna_lightning.reporting.pictures.architecture import draw_architecture
from fna_lightning.reporting.pictures.boxes import TALLEST, Box, Stage, draw_stages, kernel_colour, kernel_patch
from fna_lightning.reporting.pictures.style import FAINT

_LOWEST = 0.45
"""Height of a skip."""


@draw_architecture.register
def draw_mobile(architecture: MobileArchitecture) -> Figure:
    """Draw one box a layer: darker for larger kernels, taller for larger expansions, hollow for skips.

    Below every stage stand its number, its widths and its stride. The last 1x1 convolution, which not
    every network builds, is left out.
    """
    tallest = max(layer.expansion for stage in architecture.stages for layer in stage.operations)
    stages = [
        Stage([_box(layer, tallest) for layer in stage.layers], in_width, stage.width, stage.stride)
        for in_width, stage in zip(architecture.in_widths, architecture.stages, strict=True)
    ]
    return draw_stages(stages, _title(architecture), _legend(architecture))


def _box(layer: Layer, tallest: int) -> Box:
    if layer is None:
        return Box(_LOWEST, "skip", None)
    height = max(TALLEST * layer.expansion / tallest, 0.3)
    return Box(height, f"k{layer.kernel}\ne{layer.expansion}", kernel_colour(layer.kernel))


def _title(architecture: MobileArchitecture) -> str:
    layers = [layer for stage in architecture.stages for layer in stage.layers]
    skips = layers.count(None)
    skipped = f" and {skips} skip{'s' * (skips > 1)}" if skips else ""
    return f"{len(layers) - skips} layers in {len(architecture.stages)} stages{skipped}; height: expansion e"


def _legend(architecture: MobileArchitecture) -> list[Patch]:
    layers = [layer for stage in architecture.stages for layer in stage.layers]
    handles = [kernel_patch(kernel) for kernel in sorted({layer.kernel for layer in layers if layer is not None})]
    if None in layers:
        handles.append(Patch(facecolor="none", edgecolor=FAINT, linestyle="--", label="skip"))
    return handles
