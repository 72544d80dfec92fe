"""Plans and placing by their properties: totals, permutations, copies that share."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import conv2d

from fna_lightning.backbones import build_backbone
from fna_lightning.blocks import ConvNorm
from fna_lightning.checkpoints import Seed
from fna_lightning.remapping import STRATEGIES, ChannelMap, Move, Strategy, place_seed, plan_from_seed
from fna_lightning.remapping.placing import place_vector, place_weight
from fna_lightning.supernets import build_supernet

FNA = Strategy()
widths = st.integers(1, 9)


def weight(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture
def seed(small, randomise):
    return Seed(small, randomise(build_backbone(small, (small.head_stage,))).state_dict(), "seed.pth")


@pytest.mark.parametrize("strategy", [name for name, rule in STRATEGIES.items() if rule])
def test_a_plan_has_one_move_for_every_convolution(seed, small, small_space, strategy):
    network = build_backbone(small, (small.head_stage,))
    shapes = {name: tensor.shape for name, tensor in seed.state.items()}
    for target in (network, build_supernet(small_space, (3,))):
        plan = plan_from_seed(target, seed, network, STRATEGIES[strategy])
        convolutions = {name: m.conv for name, m in target.named_modules() if isinstance(m, ConvNorm)}
        assert sorted(move.target for move in plan) == sorted(convolutions)
        for move in plan:
            rows, columns, *_ = convolutions[move.target].weight.shape
            assert (len(move.outputs.sources), len(move.inputs.sources)) == (rows, columns)
            old_rows, old_columns, *_ = shapes[f"{move.source}.conv.weight"]
            assert move.outputs.sources.max() < old_rows
            assert move.inputs.sources.max() < old_columns


def test_writer_and_reader_of_a_hidden_stream_share_its_map(seed, small):
    network = build_backbone(small, (small.head_stage,))
    plan = {move.target: move for move in plan_from_seed(network, seed, network, STRATEGIES["width_l1"])}
    block = "stages.3.1"
    assert plan[f"{block}.expand"].outputs is plan[f"{block}.depthwise"].outputs
    assert plan[f"{block}.project"].inputs is plan[f"{block}.depthwise"].outputs


@given(rows=widths, columns=widths, old=st.sampled_from([1, 3, 5]), new=st.sampled_from([1, 3, 5, 7]))
def test_all_channels_and_a_larger_kernel_compute_the_same(rows, columns, old, new):
    source = weight(rows, columns, old, old)
    own = weight(rows, columns, new, new)
    placed = place_weight(source, own, ChannelMap.first(rows, rows), ChannelMap.first(columns, columns), FNA)
    if new >= old:
        x = weight(1, columns, 6, 6)
        torch.testing.assert_close(conv2d(x, placed, padding=new // 2), conv2d(x, source, padding=old // 2))
    else:
        edge = (old - new) // 2
        assert torch.equal(placed, source[..., edge : old - edge, edge : old - edge])


@given(data=st.data(), rows=widths, columns=widths)
def test_permuted_maps_give_permuted_tensors(data, rows, columns):
    """What stands at a permuted place is what stood there before."""
    source, bias = weight(rows, columns, 3, 3), weight(rows)
    own = weight(data.draw(widths), data.draw(widths), 5, 5)
    shape = own.shape
    outputs, inputs = ChannelMap.first(shape[0], rows), ChannelMap.first(shape[1], columns)
    new_rows, new_columns = (torch.tensor(data.draw(st.permutations(range(n)))) for n in shape[:2])
    permuted = [ChannelMap(m.sources[p]) for m, p in ((outputs, new_rows), (inputs, new_columns))]
    placed = place_weight(source, own, outputs, inputs, FNA)
    assert torch.equal(place_weight(source, own, *permuted, FNA), placed[new_rows][:, new_columns])
    zeros = torch.zeros(shape[0], dtype=torch.float64)
    assert torch.equal(place_vector(bias, zeros, permuted[0]), place_vector(bias, zeros, outputs)[new_rows])


@given(given_=widths, more=st.integers(0, 12), columns=widths, last=widths, nested=st.booleans())
def test_copies_that_are_read_by_their_share_keep_the_function(given_, more, columns, last, nested):
    """A hidden stream that holds every channel several times (spec NAA 8.4)."""
    first, second, x = weight(given_, columns, 3, 3), weight(last, given_, 1, 1), weight(2, columns, 5, 5)
    hidden = ChannelMap.grown(torch.randperm(given_), given_ + more, copies=True, nested=nested)
    ends = ChannelMap.first(columns, columns), ChannelMap.first(last, last)
    wide = weight(given_ + more, columns, 3, 3), weight(last, given_ + more, 1, 1)
    grown = place_weight(first, wide[0], hidden, ends[0], FNA), place_weight(second, wide[1], ends[1], hidden, FNA)
    torch.testing.assert_close(
        conv2d(conv2d(x, grown[0]).relu(), grown[1]), conv2d(conv2d(x, first).relu(), second)
    )


def test_channels_without_a_source_keep_their_norms_and_weigh_nothing():
    outputs, inputs = ChannelMap(torch.tensor([2, -1, 0])), ChannelMap(torch.tensor([-1, 1]))
    source = weight(3, 2, 1, 1)
    drawn, old = weight(3, 2, 1, 1), source[..., 0, 0]
    placed = place_weight(source, drawn, outputs, inputs, FNA)[..., 0, 0]
    assert placed.tolist() == [[0, old[2, 1]], [0, 0], [0, old[0, 1]]]
    placed = place_weight(source, drawn, outputs, inputs, Strategy(grow="random"))[..., 0, 0]
    own = drawn[..., 0, 0]
    assert placed.tolist() == [[own[0, 0], old[2, 1]], [own[1, 0], own[1, 1]], [own[2, 0], old[0, 1]]]
    own = torch.tensor([7.0, 8.0, 9.0])
    assert place_vector(torch.tensor([1.0, 2.0, 3.0]), own, outputs).tolist() == [3, 8, 1]


def test_placing_follows_the_plan(seed, randomise, small):
    target = randomise(build_backbone(small, (3,)), 5)
    own = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    move = Move("stages.1.0.project", "stages.1.0.project", ChannelMap.first(6, 6), ChannelMap.first(8, 8))
    placed = place_seed([move], seed, own, FNA)
    assert {name.rpartition(".")[0] for name in placed} == {f"{move.target}.conv", f"{move.target}.norm"}
    assert all(torch.equal(value, seed.state[source]) for source, value in placed.values())
