"""Whether the first layer of a stage adds its input is said by the architecture (spec NAA 7.5)."""

import pytest
import torch
import yaml

from fna_lightning.architectures import MobileArchitecture, load_architecture, parse_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.choices import Choices
from fna_lightning.errors import ArchitectureError
from fna_lightning.supernets import MobileSpace, build_supernet

WITH = "[[8, 8], ['k3_e2', 'k3_e2'], 1]|\n[[8, 8], ['k3_e2', 'skip', 'k3_e2'], 2]|\n[[8, 12], ['k3_e2'], 1]"
WITHOUT = WITH.replace("1]|", "1, 'no_residual']|")


def residuals(network):
    return [[getattr(layer, "residual", None) for layer in stage] for stage in network.stages[1:]]


def test_shapes_decide_where_nothing_is_said():
    """As all released code does it; no published network is changed by that."""
    assert residuals(build_backbone(parse_architecture(WITH), (3,))) == [
        [True, True],
        [False, None, True],
        [False],
    ]
    densenas = build_backbone(load_architecture("naa_densenas"), (7,))
    assert residuals(densenas)[0] == [True]  # 16 -> 16 behind a stem of 16


def test_an_architecture_says_that_there_is_none():
    network = build_backbone(parse_architecture(WITHOUT), (3,))
    assert residuals(network) == [[False, True], [False, None, True], [False]]


@torch.no_grad()
def test_it_is_what_the_network_computes(randomise):
    """The two differ by the input of the first stage's first layer."""
    one, other = (build_backbone(parse_architecture(text), (0, 3)) for text in (WITH, WITHOUT))
    other.load_state_dict(randomise(one).state_dict())
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(one.stages[1][0](x), x + other.stages[1][0](x))


def test_not_even_where_a_stride_turns_into_dilation():
    assert residuals(build_backbone(parse_architecture(WITH), (3,), output_stride=2))[1] == [False, None, True]


@pytest.mark.parametrize("text", [WITH, WITHOUT])
def test_round_trips(text):
    architecture = parse_architecture(text)
    assert str(architecture) == text
    assert parse_architecture(yaml.safe_dump(architecture.to_dict())) == architecture
    assert parse_architecture(WITH) != parse_architecture(WITHOUT)


def test_files_of_before_say_nothing_and_nothing_is_added():
    assert all(
        set(stage) == {"width", "stride", "layers"} for stage in parse_architecture(WITH).to_dict()["stages"]
    )


def test_a_supernet_has_its_base_s():
    base = parse_architecture(WITHOUT)
    supernet = build_supernet(MobileSpace(base, {1: 2, 2: 1}, ("k3_e2", "k5_e2")), (3,))
    assert [
        {candidate.residual for name, candidate in choice.candidates.items() if name != "skip"}
        for choice in Choices(supernet)
    ] == [{False}, {True}, {False}]
    assert [stage.residual for stage in supernet.architecture_of([0, 0, 0]).stages] == [False, True, True]


def test_a_file_with_another_type():
    data = parse_architecture(WITHOUT).to_dict()
    data["stages"][0]["residual"] = "no"
    with pytest.raises(ArchitectureError, match="stage 1: residual is 'no'"):
        MobileArchitecture.from_dict(data)
