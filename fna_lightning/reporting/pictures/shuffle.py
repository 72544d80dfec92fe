"""A network of ShuffleNetV2's blocks as a row of boxes."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from fna_lightning.architectures import ShuffleArchitecture
from fna_lightning.architectures.shuffle import STRIDE
from fna_lightning.architectures.shuffle_encodings import CANDIDATES, XCEPTION, kernel_of
from fna_lightning.reporting.pictures.architecture import draw_architecture
from fna_lightning.reporting.pictures.boxes import Box, Stage, draw_stages, kernel_colour, kernel_patch
from fna_lightning.reporting.pictures.style import COLOURS, INK

_HEIGHT = 1.2
"""Of a shuffle block, which has one depthwise convolution."""
_XCEPTION_HEIGHT = 2.0
_XCEPTION_COLOUR = COLOURS[4]


@draw_architecture.register
def draw_shuffle(architecture: ShuffleArchitecture) -> Figure:
    """Draw one box a block: darker for larger kernels, taller and of another colour for Xception blocks.

    Below every stage stand its number, its widths and its stride. The tail, which not every network builds, is
    left out.
    """
    stages = [
        Stage([_box(name) for name in stage.layers], in_width, stage.width, STRIDE)
        for in_width, stage in zip(architecture.in_widths, architecture.stages, strict=True)
    ]
    blocks = sum(len(stage.layers) for stage in architecture.stages)
    title = f"{blocks} blocks in {len(stages)} stages; layout {architecture.layout}"
    used = {name for stage in architecture.stages for name in stage.layers}
    legend = [_patch(name) for name in CANDIDATES if name in used]
    return draw_stages(stages, title, legend, row_height=_XCEPTION_HEIGHT)


def _box(name: str) -> Box:
    if name == XCEPTION:
        return Box(_XCEPTION_HEIGHT, "X3", _XCEPTION_COLOUR)
    return Box(_HEIGHT, f"k{kernel_of(name)}", kernel_colour(kernel_of(name)))


def _patch(name: str) -> Patch:
    if name == XCEPTION:
        return Patch(facecolor=_XCEPTION_COLOUR, edgecolor=INK, label="Xception 3×3")
    return kernel_patch(kernel_of(name))
