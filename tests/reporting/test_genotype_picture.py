"""Both towers of a genotype, drawn."""

import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch

from fna_lightning.architectures import Edge, HeadGenotype, TowerGenotype, load_architecture
from fna_lightning.reporting.pictures import draw_architecture, has_drawing, to_png

PAPER = load_architecture("fad")


def boxes(figure, name):
    found = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    return [box for box in found if box.get_gid() == name]


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def test_a_card_a_node_and_a_square_a_block():
    figure = draw_architecture(PAPER)
    assert has_drawing(PAPER)
    for name, graph in (("box", PAPER.box), ("class", PAPER.classes)):
        assert len(boxes(figure, f"{name} output")) == 1
        for number, edges in enumerate(graph.nodes, start=2):
            assert len(boxes(figure, f"{name} node {number}")) == 1
            for place, edge in enumerate(edges):
                blocks = boxes(figure, f"{name} node {number} edge {place}")
                assert len(blocks) == edge.chain.depth + bool(edge.chain.dilation)
                colours = {to_hex(block.get_facecolor()) for block in blocks}
                assert len(colours) == (2 if edge.chain.dilation else 1)


def test_operations_and_receptive_fields_are_written():
    written = texts(draw_architecture(PAPER))
    for tower in (PAPER.box, PAPER.classes):
        for edges in tower.nodes:
            for edge in edges:
                assert edge.operation in written
    assert {"13×13", "21×21", "23×23", "0  box tower", "1  level", "output"} <= set(written)
    assert "an output sees 13×13 pixels of the level, 25×25 in a tower of two cells" in written
    assert "an output sees 23×23 pixels of the level, 47×47 in a tower of two cells" in written


def test_nothing_leaves_the_picture():
    """Of large graphs and of small ones."""
    edges = [Edge("sinSep_conv_3x3_x3+dil_conv_3x3_r3", source) for source in range(4)]
    large = TowerGenotype(tuple(tuple(edges[: number + 2]) for number in range(6)), (2, 4, 7))
    small = TowerGenotype(((Edge("std_conv_3x3", 0),),), (2,))
    for architecture in (HeadGenotype(small, large), HeadGenotype(large, small), HeadGenotype(small, small)):
        figure = draw_architecture(architecture)
        figure.canvas.draw()
        whole = figure.bbox
        axes = figure.axes[0]
        for artist in [*axes.patches, *axes.texts, axes.get_legend()]:
            box = artist.get_window_extent()
            assert whole.x0 <= box.x0 <= box.x1 <= whole.x1
            assert whole.y0 <= box.y0 <= box.y1 <= whole.y1


@pytest.mark.parametrize("name", ["fad", "fad_other"])
def test_the_same_bytes_every_time(name):
    architecture = load_architecture(name)
    assert to_png(draw_architecture(architecture), 30) == to_png(draw_architecture(architecture), 30)
