from itertools import combinations, product

import pytest
import torch
from torch import nn

from fna_lightning.architectures import Chain, Edge, HeadGenotype, TowerGenotype, load_parts
from fna_lightning.architectures.genotype import CHAINS, CHAINS_WITH_DILATION_3
from fna_lightning.blocks import build_chain, build_towers
from fna_lightning.choices import Choices
from fna_lightning.costs import count
from fna_lightning.errors import ConfigError
from fna_lightning.search import Alphas
from fna_lightning.supernets import TowerSpace
from fna_lightning.supernets.towers import EdgeChoice, SearchedEdge, SharedChains

NONE = len(CHAINS)
PAPER, OTHER = (load_parts(name)["head"] for name in ("fad", "fad_other"))


def small(cells=1, channels=4, **settings):
    return build_towers(TowerSpace(**settings), 8, channels, cells, 2)


def params(module):
    return sum(parameter.numel() for parameter in module.parameters())


def edge_of(channels=96, width=256, groups=32, **settings):
    space = TowerSpace(**settings)
    return SearchedEdge(EdgeChoice(space.names), space, width, channels, groups)


def some_paths(supernet, number=3):
    return [Choices(supernet).draw(1, iteration) for iteration in range(number)]


def test_size_of_the_published_search():
    """A tower of 3,678,048 parameters, 9 edges and 768 channels; 198 alphas in all (spec FAD 3.2, 8)."""
    with torch.device("meta"):
        supernet = build_towers(TowerSpace(), 256, 96, 1)
    assert params(supernet.box.cells) == params(supernet.classes.cells) == 3_678_048
    assert supernet.box.reduce.in_channels == 768
    choices = Choices(supernet)
    assert choices.sizes == (11,) * 18
    assert choices.names[:5] == tuple(f"box.choices.{edge}" for edge in ("0.0", "0.1", "1.0", "1.1", "1.2"))
    assert {choice.names for choice in choices} == {(*CHAINS, "none")}
    # The detector of the search has 80 classes; 7,945,754 in its head.
    assert params(supernet) + 184_400 + 9_220 + 2_305 + 5 == 7_945_754


@pytest.mark.parametrize(
    ("settings", "sizes", "alphas"),
    [({"dilation_3": True}, 13, 18), ({"nodes": 2}, 11, 10), ({"nodes": 4}, 11, 28)],
)
def test_other_spaces(settings, sizes, alphas):
    assert Choices(small(**settings)).sizes == (sizes,) * alphas


def test_several_cells_have_one_choice_an_edge():
    """And weights of their own."""
    one, two = small(1), small(2)
    assert Choices(one).names == Choices(two).names
    assert sum(Choices(two).sizes) == 198
    assert params(two.box.cells[0]) == params(one.box.cells)
    assert params(two.box.cells) == 2 * params(one.box.cells) + 24 * 8 + 3 * 8
    path = two.path_of(PAPER)
    Choices(two).set_path(path)
    feature = torch.randn(1, 8, 4, 4)
    assert two(feature)[0].shape == feature.shape
    assert all(cell.nodes[0][0].choice is two.box.choices[0][0] for cell in two.box.cells)


def test_parameters_of_sharing():
    """Both families' stacks, and what they would be without (spec FAD 2.4)."""
    with torch.device("meta"):
        shared, separate = edge_of(), edge_of(sharing=False)
    assert [params(stack) for stack in shared.families.values()] == [289_056, 70_464]
    assert params(separate.families) == 884_256
    assert params(shared) == 359_520 + 2 * 256 * 96
    assert shared.reduce.bias is shared.expand.bias is None


def test_multiply_adds_of_sharing():
    """2.46 times fewer per edge and pixel, convolutions of the chains alone (spec FAD 2.4)."""

    def per_pixel(settings, dilation_3=False):
        space = TowerSpace(dilation_3=dilation_3, **settings)
        edge = edge_of(width=96, dilation_3=dilation_3, **settings)
        edge.choice.weights = torch.full((len(space.names),), 1 / len(space.names))
        for module in edge.modules():
            if isinstance(module, nn.Conv2d):
                module.bias = None  # which costs count, and the formulas do not
        return count(edge, (8, 8), 96).madds / 64

    base, dilated, decoupler = {"std": 9 * 96**2, "sep": 96**2 + 9 * 96}, 96**2 + 9 * 96, 96**2
    shared, separate = per_pixel({}), per_pixel({"sharing": False})
    assert (shared, separate) == (356_256, 877_536)
    assert round(separate / shared, 2) == 2.46
    assert shared == 3 * sum(base.values()) + 4 * dilated + 4 * decoupler
    assert per_pixel({"decoupling": False}) == shared - 4 * decoupler
    assert per_pixel({}, True) == 3 * sum(base.values()) + 6 * dilated + 4 * decoupler
    assert per_pixel({"sharing": False}, True) == 10 * sum(base.values()) + 6 * dilated


@torch.no_grad()
@pytest.mark.parametrize("names", [CHAINS, CHAINS_WITH_DILATION_3], ids=len)
@pytest.mark.parametrize("family", ["std", "sinSep"])
def test_with_an_identity_to_decouple_the_outputs_are_those_of_the_chains(names, family):
    """Tensors match one to one, in order (spec FAD 2.2)."""
    chains = [chain for chain in map(Chain.parse, names) if chain.family == family]
    shared = SharedChains(chains, 8, True, 4)
    decouplers = {name: branch for name, branch in shared.branches.items() if isinstance(branch, nn.Conv2d)}
    assert list(decouplers) == [f"{family}_conv_3x3", f"{family}_conv_3x3_x2"]
    for convolution in decouplers.values():
        assert convolution.bias is None
        convolution.weight.copy_(torch.eye(8)[..., None, None])
    x = torch.randn(2, 8, 7, 6)
    outputs = shared(x)
    assert len(outputs) == len(chains)
    for chain, output in zip(chains, outputs, strict=True):
        alone = build_chain(chain, 8, 4)
        blocks = [*shared.root[: chain.depth], *([shared.branches[str(chain)]] if chain.dilation else [])]
        alone.load_state_dict(nn.Sequential(*blocks).state_dict())
        torch.testing.assert_close(output, alone(x), atol=1e-5, rtol=0)
        assert torch.equal(shared.only(str(chain), x), output)


@torch.no_grad()
@pytest.mark.parametrize("sharing", [True, False])
@pytest.mark.parametrize("channels", [4, 8])
def test_a_certain_mixture_is_the_path(sharing, channels):
    edge = edge_of(channels, 8, 2, sharing=sharing)
    x = torch.randn(2, 8, 5, 6)
    for index in range(NONE + 1):
        edge.choice.active, edge.choice.weights = None, torch.eye(NONE + 1)[index]
        mixed = edge(x)
        edge.choice.active, edge.choice.weights = index, None
        torch.testing.assert_close(mixed, edge(x))
    assert not edge(x).any()


@torch.no_grad()
def test_the_mixture_is_taken_before_the_expansion():
    """E(sum of a_k o_k(R x)), of which none has its part (spec FAD 2.3)."""
    edge = edge_of(4, 8, 2)
    x = torch.randn(1, 8, 5, 5)
    edge.choice.weights = weights = torch.softmax(torch.randn(NONE + 1), 0)
    parts = [output for family in edge.families.values() for output in family(edge.reduce(x))]
    expected = edge.expand(sum(weight * part for weight, part in zip(weights, parts, strict=False)))
    torch.testing.assert_close(edge(x), expected)


def convolutions_run(network, x):
    found = []
    hooks = [
        module.register_forward_hook(lambda own, *_: found.append(own))
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    network(x)
    for hook in hooks:
        hook.remove()
    return found


def test_a_path_computes_its_chains_alone():
    """Up to their place in the root, and nothing of an edge that is left out."""
    edge = edge_of(4, 8, 2)
    x = torch.randn(1, 8, 4, 4)
    numbers = []
    for edge.choice.active in range(NONE + 1):
        numbers.append(len(convolutions_run(edge, x)))
    std, separable = (2, 3, 3, 4, 3), (3, 4, 5, 6, 6)  # of chains, with what decouples
    assert numbers == [2 + n for n in std + separable] + [0]


def test_every_alpha_has_a_gradient():
    """That of none as well, by the softmax (spec FAD 8)."""
    supernet = small()
    alphas = Alphas(Choices(supernet))
    Choices(supernet).set_mixture(alphas.weights())
    box, classes = supernet(torch.randn(2, 8, 6, 6))
    (box.square().sum() + classes.square().sum() * 1e4).backward()
    for alpha in alphas.values:
        assert alpha.grad.shape == (NONE + 1,)
        assert (alpha.grad != 0).all()
    assert all(parameter.grad is not None for parameter in supernet.parameters())


def test_nothing_runs_before_a_path_is_chosen():
    with pytest.raises(RuntimeError, match="set_path"):
        small()(torch.randn(1, 8, 4, 4))


@pytest.mark.parametrize(("operations", "dilation_3"), [(10, False), (12, True)])
def test_what_is_decided_together(operations, dilation_3):
    supernet = small(dilation_3=dilation_3)
    joint = supernet.joint()
    assert [id(choice) for own, _, _ in joint for choice in own] == [id(choice) for choice in Choices(supernet)]
    shapes = [(n * operations**2, k) for n, k in ((1, 2), (3, 3), (6, 4))]
    assert [each.options.shape for each in joint] == shapes * 2
    for own, rows, counted in joint:
        assert (counted.sum(axis=1) == 2).all()
        allowed = {
            row for row in product(range(operations + 1), repeat=len(own)) if row.count(operations) == len(own) - 2
        }
        assert set(map(tuple, rows.tolist())) == allowed
        assert len(allowed) == len(rows) == len(list(combinations(own, 2))) * operations**2


def test_genotypes_are_paths_and_paths_genotypes():
    supernet = small()
    for path in some_paths(supernet, 5):
        found = Choices(supernet).derive(path)
        assert list(found) == ["head"]
        assert supernet.path_of(found["head"]) == path
        assert supernet.architecture_of(path) == found["head"]
    for published in (PAPER, OTHER):
        found = supernet.architecture_of(supernet.path_of(published))
        for own, theirs in ((found.box, published.box), (found.classes, published.classes)):
            assert [set(edges) for edges in own.nodes] == [set(edges) for edges in theirs.nodes]
            assert own.concat == theirs.concat


def test_paths_that_are_no_genotypes():
    supernet = small()
    path = supernet.path_of(PAPER)
    for place, wrong, words in (
        (0, NONE, "1 edges to node 0 of the box"),
        (2, 0, "3 edges to node 1 of the box"),
        (16, NONE, "1 edges to node 2 of the classes"),
    ):
        with pytest.raises(ConfigError, match=f"{words} tower: choose none for all but 2"):
            supernet.architecture_of([*path[:place], wrong, *path[place + 1 :]])


def test_genotypes_that_are_no_paths():
    supernet = small()
    edge = Edge("std_conv_3x3", 0)
    twice = TowerGenotype(((edge, edge), *PAPER.box.nodes[1:]), (2, 3, 4))
    others = [
        HeadGenotype(twice, PAPER.classes),
        HeadGenotype(TowerGenotype(PAPER.box.nodes, (2, 4)), PAPER.classes),
        HeadGenotype(TowerGenotype(PAPER.box.nodes[:2], (2, 3)), PAPER.classes),
        HeadGenotype(TowerGenotype(((edge,), *PAPER.box.nodes[1:]), (2, 3, 4)), PAPER.classes),
        load_parts("mobilenet_v2")["backbone"],
    ]
    dilated = Edge("std_conv_3x3+dil_conv_3x3_r3", 0)
    others.append(
        HeadGenotype(
            TowerGenotype(((dilated, Edge("std_conv_3x3", 1)), *PAPER.box.nodes[1:]), (2, 3, 4)), PAPER.box
        )
    )
    assert [supernet.path_of(other) for other in others] == [None] * 6
    assert small(dilation_3=True).path_of(others[-1]) is not None


@pytest.mark.parametrize("nodes", [0, 5])
def test_spaces_that_cannot_be(nodes):
    with pytest.raises(ConfigError, match=f"nodes={nodes}: give 1 to 4"):
        TowerSpace(nodes=nodes)


def test_channels_that_cannot_be():
    with pytest.raises(ConfigError, match="100 channels: group norms of 32 groups"):
        build_towers(TowerSpace(), 256, 100, 1)


@pytest.mark.parametrize("raw", [True, False])
def test_derivation_keeps_the_two_best_edges_of_a_node(raw):
    """By their best operations, whatever is thought of none (spec FAD 3.5), as a plain loop over nodes says."""
    supernet = small()
    choices, generator = Choices(supernet), torch.Generator().manual_seed(0)
    for _ in range(20):
        alphas = [torch.randn(11, generator=generator) for _ in range(len(choices))]
        for row in alphas:
            row[-1] += 3
        rows = [row.exp() if raw else row.softmax(0) for row in alphas]
        found = supernet.architecture_of(choices.decisions.most_probable(rows))
        left = iter(rows)
        for tower in (found.box, found.classes):
            for number, edges in enumerate(tower.nodes):
                own = [next(left)[:-1] for _ in range(2 + number)]
                best = sorted(range(2 + number), key=lambda source: -float(own[source].max()))[:2]
                expected = {(supernet.space.names[int(own[source].argmax())], source) for source in best}
                assert {(edge.operation, edge.source) for edge in edges} == expected
