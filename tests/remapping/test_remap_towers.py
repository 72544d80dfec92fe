"""A genotype's towers from the supernet that it was found in."""

import pytest
import torch

from fna_lightning.architectures import load_parts
from fna_lightning.blocks import build_towers
from fna_lightning.checkpoints import Seed
from fna_lightning.choices import Choices
from fna_lightning.errors import CheckpointError, ConfigError
from fna_lightning.remapping import remap
from fna_lightning.supernets import TowerSpace

PAPER = load_parts("fad")["head"]
SPACES = {
    "published": (TowerSpace(), 1, 4),
    "two cells": (TowerSpace(), 2, 4),
    "twelve chains": (TowerSpace(dilation_3=True), 1, 4),
    "nothing shared": (TowerSpace(sharing=False), 1, 4),
    "nothing decoupled": (TowerSpace(decoupling=False), 2, 4),
    "no bottleneck": (TowerSpace(decoupling=False), 1, 8),
}


@torch.no_grad()
@pytest.mark.parametrize("name", SPACES)
def test_the_derived_towers_compute_what_the_path_computed(name, pyramid, genotype_paths):
    space, cells, channels = SPACES[name]
    network = pyramid(space, cells, channels)
    supernet, state = network.head, network.head.state_dict()
    feature = torch.randn(2, 8, 7, 6)
    for path in [*genotype_paths(supernet, 2), supernet.path_of(PAPER)]:
        Choices(supernet).set_path(path)
        target = build_towers(supernet.architecture_of(path), 8, channels, cells, 2)
        report = remap(None, target, supernet_state=state)
        assert {entry.how for entry in report.entries} <= {"copied", "zero"}
        for found, expected in zip(target(feature), supernet(feature), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_order_of_a_published_genotypes_edges_is_of_no_matter(pyramid):
    supernet = pyramid(TowerSpace(), 2).head
    Choices(supernet).set_path(supernet.path_of(PAPER))
    target = build_towers(PAPER, 8, 4, 2, 2)
    remap(None, target, supernet_state=supernet.state_dict())
    feature = torch.randn(2, 8, 5, 5)
    for found, expected in zip(target(feature), supernet(feature), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_what_the_report_says(pyramid):
    supernet = pyramid(TowerSpace()).head
    target = build_towers(PAPER, 8, 4, 1, 2)
    entries = {entry.target: entry for entry in remap(None, target, supernet_state=supernet.state_dict()).entries}
    bias = entries["box.cells.0.nodes.0.0.reduce.bias"]
    assert (bias.how, bias.source) == ("zero", "")
    # The third block of sinSep_conv_3x3_x3 from state 0; the dilated one of the class tower's first edge.
    block = entries["box.cells.0.nodes.0.0.chain.2.1.weight"]
    assert block.source == "box.cells.0.nodes.0.0.families.sinSep.root.2.1.weight"
    dilated = entries["classes.cells.0.nodes.0.0.chain.2.0.weight"]
    assert dilated.source == (
        "classes.cells.0.nodes.0.1.families.sinSep.branches.sinSep_conv_3x3_x2+dil_conv_3x3.0.weight"
    )


def test_what_does_not_fit(pyramid):
    state = pyramid(TowerSpace()).head.state_dict()
    for head, words in (
        (build_towers(PAPER, 8, 4, 2, 2), "lacks box.cells.1.*: was this architecture found in it"),
        (build_towers(PAPER, 8, 2, 1, 2), r"is \(.*\), the target's"),
    ):
        with pytest.raises(CheckpointError, match=words):
            remap(None, head, supernet_state=state)
    seed = load_parts("mobile_small")["backbone"]
    with pytest.raises(ConfigError, match="remap=random"):
        remap(Seed(seed, {}), build_towers(PAPER, 8, 4, 1, 2))
