"""Between networks of ShuffleNetV2's blocks: operations, depth, widths, layouts."""

from dataclasses import replace

import pytest
import torch

from fna_lightning.architectures import load_architecture, parse_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.blocks import ConvNorm
from fna_lightning.checkpoints import Seed
from fna_lightning.choices import Choices
from fna_lightning.errors import CheckpointError, ConfigError
from fna_lightning.remapping import STRATEGIES, plan_from_seed, remap
from fna_lightning.supernets import ShuffleSpace, build_supernet

OWN = "own initialisation"


def seed_of(text, randomise):
    architecture = parse_architecture(text)
    maps = [level.name for level in architecture.levels()]
    return Seed(architecture, randomise(build_backbone(architecture, maps)).state_dict(), "seed.pth")


@pytest.fixture
def seed(randomise):
    return seed_of("shuffle detnas: 4 | 8: 03 | 12: 21 | 16: 30 | 20", randomise)


def sources(report):
    return {entry.target: entry.source for entry in report.entries if entry.target.endswith("conv.weight")}


@pytest.mark.parametrize("strategy", [name for name, rule in STRATEGIES.items() if rule])
def test_a_plan_has_one_move_for_every_convolution_of_an_operation_that_is_kept(seed, strategy):
    network = build_backbone(seed.architecture, (4,))
    wider = parse_architecture("shuffle detnas: 6 | 12: 030 | 16: 21 | 20: 3 | 24")
    for target in (network, build_backbone(replace(wider, stages=wider.stages[:2]), (2,))):
        plan = plan_from_seed(target, seed, network, STRATEGIES[strategy])
        convolutions = {name: m.conv for name, m in target.named_modules() if isinstance(m, ConvNorm)}
        moved = {move.target for move in plan}
        fresh = {f"stages.1.2.main.{index}" for index in range(3)} if target is not network else set()
        assert moved | fresh >= set(convolutions)
        for move in plan:
            rows, columns, *_ = convolutions[move.target].weight.shape
            assert (len(move.outputs.sources), len(move.inputs.sources)) == (rows, columns)
            old = seed.state[f"{move.source}.conv.weight"].shape
            assert move.outputs.sources.max() < old[0]
            assert move.inputs.sources.max() < old[1]


@torch.no_grad()
def test_larger_kernels_compute_the_same(seed):
    """Of every block but Xception's; zeros lie around the taps of the seed."""
    target = build_backbone(parse_architecture("shuffle detnas: 4 | 8: 23 | 12: 22 | 16: 32 | 20"), (2, 4)).eval()
    report = remap(seed, target)
    assert {entry.how for entry in report.entries} == {"copied", "resized"}
    source = build_backbone(seed.architecture, (2, 4)).eval()
    source.load_state_dict(seed.state)
    images = torch.randn(2, 3, 64, 64)
    for name, feature in source(images).items():
        torch.testing.assert_close(target(images)[name], feature, rtol=1e-4, atol=1e-4)


def test_smaller_kernels_keep_the_middle(seed):
    target = build_backbone(parse_architecture("shuffle detnas: 4 | 8: 03 | 12: 00 | 16: 30 | 20"), (4,))
    remap(seed, target)
    for branch in ("main.1", "side.0"):
        name = f"stages.2.0.{branch}.conv.weight"
        assert torch.equal(target.state_dict()[name], seed.state[name][..., 2:5, 2:5])


def test_an_xception_block_from_a_shuffle_block(seed):
    target = build_backbone(parse_architecture("shuffle detnas: 4 | 8: 33 | 12: 21 | 16: 30 | 20"), (4,))
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    report = remap(seed, target)
    found = {name: source for name, source in sources(report).items() if name.startswith("stages.1.0.")}
    assert found == {
        "stages.1.0.main.0.conv.weight": "",
        "stages.1.0.main.1.conv.weight": "stages.1.0.main.0.conv.weight",
        "stages.1.0.main.2.conv.weight": "stages.1.0.main.1.conv.weight",
        "stages.1.0.main.3.conv.weight": "",
        "stages.1.0.main.4.conv.weight": "",
        "stages.1.0.main.5.conv.weight": "stages.1.0.main.2.conv.weight",
        "stages.1.0.side.0.conv.weight": "stages.1.0.side.0.conv.weight",
        "stages.1.0.side.1.conv.weight": "stages.1.0.side.1.conv.weight",
    }
    fresh = {entry.target for entry in report.entries if entry.how == OWN}
    assert {name.rsplit(".", 2)[0] for name in fresh} == {f"stages.1.0.main.{index}" for index in (0, 3, 4)}
    assert all(torch.equal(target.state_dict()[name], before[name]) for name in fresh)
    name = "stages.1.0.main.2.norm.running_var"
    assert torch.equal(target.state_dict()[name], seed.state["stages.1.0.main.1.norm.running_var"])


def test_a_shuffle_block_from_an_xception_block(seed):
    target = build_backbone(parse_architecture("shuffle detnas: 4 | 8: 02 | 12: 21 | 16: 30 | 20"), (4,))
    report = remap(seed, target)
    assert [sources(report)[f"stages.1.1.main.{index}.conv.weight"] for index in range(3)] == [
        f"stages.1.1.main.{index}.conv.weight" for index in (1, 2, 5)
    ]
    assert OWN not in {entry.how for entry in report.entries}


def test_depth(randomise):
    """f(i) = min(i, l): the last block of a stage again and again."""
    seed = seed_of("shuffle mmrazor: 4 | 8: 01 | 12: 0 | 20", randomise)
    target = build_backbone(parse_architecture("shuffle mmrazor: 4 | 8: 0111 | 12: 01 | 20"), (2,))
    found = sources(remap(seed, target))
    assert [found[f"stages.1.{index}.main.0.conv.weight"] for index in range(4)] == [
        f"stages.1.{min(index, 1)}.main.0.conv.weight" for index in range(4)
    ]
    assert found["stages.2.1.main.0.conv.weight"] == "stages.2.0.main.0.conv.weight"


def test_hidden_channels_by_the_strategy(randomise):
    seed = seed_of("shuffle mmrazor: 4 | 16: 0 | 20", randomise)
    scale = torch.arange(8.0)
    scale[0] = 20
    seed.state["stages.1.0.main.0.norm.weight"].copy_(scale)
    target = build_backbone(parse_architecture("shuffle mmrazor: 4 | 8: 0 | 20"), (1,))
    remap(seed, target, "width_bn")
    kept = [0, 5, 6, 7]
    assert target.state_dict()["stages.1.0.main.0.norm.weight"].tolist() == [20, 5, 6, 7]
    assert torch.equal(
        target.state_dict()["stages.1.0.main.2.conv.weight"],
        seed.state["stages.1.0.main.2.conv.weight"][:4][:, kept],
    )


def test_biases_are_carried_over(seed):
    target = build_backbone(seed.architecture, (0, 4))
    seed.state["stages.0.conv.bias"].fill_(3)
    remap(seed, target)
    assert target.state_dict()["stages.0.conv.bias"].tolist() == [3] * 4


@pytest.mark.parametrize("layout", ["detnas_supernet", "mmrazor"])
def test_another_layout_is_refused(seed, layout):
    target = build_backbone(replace(seed.architecture, layout=layout), (3,))
    with pytest.raises(ConfigError, match=r"layout detnas, .* give architecture\.layout=detnas, or remap=random"):
        remap(seed, target)


def test_more_stages_than_the_seed_has(seed):
    target = build_backbone(parse_architecture("shuffle detnas: 4 | 8: 0 | 12: 0 | 16: 0 | 20: 0 | 24"), (4,))
    with pytest.raises(ConfigError, match="the target has a stage 4, the seed only 3 stages"):
        remap(seed, target)


@pytest.mark.parametrize("layout", ["detnas", "detnas_supernet", "mmrazor"])
@torch.no_grad()
def test_a_derived_network_computes_what_the_path_computed(layout, randomise):
    """In evaluation mode: scales and running statistics come from the supernet's blocks as well."""
    base = replace(load_architecture("shufflenet_300m"), layout=layout)
    supernet = randomise(build_supernet(ShuffleSpace(base), (3, 4, 5))).eval()
    path = [(3 * number + 1) % 4 for number in range(20)]
    Choices(supernet).set_path(path)
    target = build_backbone(supernet.architecture_of(path), (3, 4, 5)).eval()
    report = remap(None, target, supernet_state=supernet.state_dict())
    assert {entry.how for entry in report.entries} == {"copied"}
    images = torch.randn(1, 3, 64, 64)
    expected = supernet(images)
    assert all(torch.equal(feature, expected[name]) for name, feature in target(images).items())


def test_a_network_that_was_not_found_in_the_supernet():
    base = parse_architecture("shuffle detnas: 4 | 8: 00 | 20")
    supernet = build_supernet(ShuffleSpace(base, ("shuffle_3x3", "shuffle_5x5")), (1,))
    target = build_backbone(parse_architecture("shuffle detnas: 4 | 8: 02 | 20"), (1,))
    with pytest.raises(
        CheckpointError, match=r"lacks stages\.1\.1\.candidates\.shuffle_7x7\.main\.0\.conv\.weight"
    ):
        remap(None, target, supernet_state=supernet.state_dict())


def test_a_seed_fills_every_candidate(seed):
    supernet = build_supernet(ShuffleSpace(seed.architecture), (3,))
    report = remap(seed, supernet)
    fresh = {entry.target.split(".main")[0] for entry in report.entries if entry.how == OWN}
    # The blocks of the seed that are shuffle blocks give Xception's no more than they have.
    assert fresh == {f"stages.{place}.candidates.xception_3x3" for place in ("1.0", "2.0", "2.1", "3.1")}
