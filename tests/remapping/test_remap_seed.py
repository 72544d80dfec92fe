import copy
import csv
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fna_lightning.architectures import load_architecture, parse_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.checkpoints import Seed
from fna_lightning.errors import CheckpointError, ConfigError
from fna_lightning.remapping import STRATEGIES, remap
from fna_lightning.supernets import MobileSpace, build_supernet

NORM = ("weight", "bias", "running_mean", "running_var")


@pytest.fixture(scope="module")
def seed_of(randomise):
    """Architecture -> seed with random weights and statistics, last 1x1 included."""

    def make(architecture, seed=0):
        network = randomise(build_backbone(architecture, (architecture.head_stage,)), seed)
        return Seed(architecture, copy.deepcopy(network.state_dict()), "random.pth")

    return make


@pytest.fixture(scope="module")
def seed(seed_of, mobilenet):
    return seed_of(mobilenet)


@pytest.fixture(scope="module")
def small_seed(seed_of, small):
    return seed_of(small)


def state_of(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def with_kernel(architecture, kernel):
    return parse_architecture(str(architecture).replace("k3_", f"k{kernel}_"))


def remap4d(source, shape):
    """The rule of the paper for one weight: leading channels, centred kernel, zeros around."""
    out = torch.zeros(shape)
    o, i = min(source.shape[0], shape[0]), min(source.shape[1], shape[1])
    h, w = min(source.shape[2], shape[2]), min(source.shape[3], shape[3])
    th, tw = (shape[2] - h) // 2, (shape[3] - w) // 2
    sh, sw = (source.shape[2] - h) // 2, (source.shape[3] - w) // 2
    out[:o, :i, th : th + h, tw : tw + w] = source[:o, :i, sh : sh + h, sw : sw + w]
    return out


def reference(seed, architecture, own):
    """What the rules of the paper make of the target's own state."""
    expected = dict(own)

    def part(source, target):
        if f"{source}.conv.weight" not in seed.state or f"{target}.conv.weight" not in own:
            return
        name = f"{target}.conv.weight"
        expected[name] = remap4d(seed.state[f"{source}.conv.weight"], own[name].shape)
        for tensor in NORM:
            old, new = seed.state[f"{source}.norm.{tensor}"], own[f"{target}.norm.{tensor}"].clone()
            kept = min(len(old), len(new))
            new[:kept] = old[:kept]
            expected[f"{target}.norm.{tensor}"] = new
        name = "norm.num_batches_tracked"
        expected[f"{target}.{name}"] = seed.state[f"{source}.{name}"]

    part("stages.0", "stages.0")
    part(f"stages.{seed.architecture.head_stage}", f"stages.{architecture.head_stage}")
    for number, (old, new) in enumerate(zip(seed.architecture.stages, architecture.stages, strict=True), start=1):
        sources = [index for index, layer in enumerate(old.layers) if layer is not None]
        targets = [index for index, layer in enumerate(new.layers) if layer is not None]
        for i, target in enumerate(targets, start=1):
            source = sources[min(i, len(sources)) - 1]
            for name in ("expand", "depthwise", "project"):
                part(f"stages.{number}.{source}.{name}", f"stages.{number}.{target}.{name}")
    return expected


def assert_equal_states(state, expected):
    assert set(state) == set(expected)
    for name, tensor in state.items():
        assert torch.equal(tensor, expected[name]), name


@given(data=st.data(), stages=st.integers(1, 3))
def test_equals_the_rules_of_the_paper(mobile_architectures, seed_of, randomise, data, stages):
    architectures = mobile_architectures(stages)
    seed, architecture = seed_of(data.draw(architectures), 1), data.draw(architectures)
    target = randomise(build_backbone(architecture, (architecture.head_stage,)), 2)
    own = state_of(target)
    remap(seed, target)
    assert_equal_states(target.state_dict(), reference(seed, architecture, own))


@pytest.mark.parametrize("name", ["fna_retinanet", "fna_ssdlite", "fna_deeplabv3"])
def test_published_networks_equal_the_rules_of_the_paper(seed, name):
    architecture = load_architecture(name)
    target = build_backbone(architecture, (8,))
    own = state_of(target)
    remap(seed, target)
    assert_equal_states(target.state_dict(), reference(seed, architecture, own))


@pytest.mark.parametrize("kernel", [5, 7])
@torch.no_grad()
def test_larger_kernels_compute_the_same_bits(seed, mobilenet, kernel):
    source, target = build_backbone(mobilenet), build_backbone(with_kernel(mobilenet, kernel))
    remap(seed, source)
    remap(seed, target)
    images = torch.randn(2, 3, 64, 96)
    old, new = source.eval()(images), target.eval()(images)
    assert list(new) == ["2", "3", "5", "7"]
    for name, feature in new.items():
        assert feature.std() > 0.01
        assert (feature - old[name]).abs().max() == 0


@torch.no_grad()
def test_a_narrower_expansion_is_another_function(seed, mobilenet):
    target = build_backbone(parse_architecture(str(mobilenet).replace("_e6", "_e3")), (7,)).eval()
    source = build_backbone(mobilenet, (7,)).eval()
    remap(seed, target)
    remap(seed, source)
    images = torch.randn(1, 3, 64, 64)
    assert not torch.allclose(source(images)["7"], target(images)["7"])


def test_the_same_architecture_gets_the_same_tensors(seed, mobilenet):
    target = build_backbone(mobilenet, (8,))
    report = remap(seed, target)
    assert_equal_states(target.state_dict(), seed.state)
    assert {entry.how for entry in report.entries} == {"copied"}


def test_a_widened_projection(seed, mobilenet):
    text = str(mobilenet).replace("[160, 320]", "[160, 352]")
    target = build_backbone(parse_architecture(text), (7,))
    remap(seed, target)
    state = target.state_dict()
    weight = state["stages.7.0.project.conv.weight"]
    assert torch.equal(weight[:320], seed.state["stages.7.0.project.conv.weight"])
    assert weight[320:].shape == (32, 960, 1, 1)
    assert weight[320:].eq(0).all()
    for tensor, own in zip(NORM, (1, 0, 0, 1), strict=True):
        norm = state[f"stages.7.0.project.norm.{tensor}"]
        assert torch.equal(norm[:320], seed.state[f"stages.7.0.project.norm.{tensor}"])
        assert norm[320:].eq(own).all()


def test_skips_do_not_count_in_depth(small_seed):
    """['k3_e3', 'skip', 'k5_e3']: the k5_e3 is the second layer, so it is filled from the seed's second."""
    text = "[[8, 6], ['k3_e1'], 1]|[[6, 8], ['k3_e3'], 2]|[[8, 10], ['k3_e3', 'skip', 'k5_e3'], 2]"
    target = build_backbone(parse_architecture(text), (3,))
    remap(small_seed, target)
    got = target.state_dict()["stages.3.2.depthwise.conv.weight"]
    assert torch.equal(got[:, :, 1:4, 1:4], small_seed.state["stages.3.1.depthwise.conv.weight"])


def test_deeper_stages_repeat_the_last_layer(small_seed):
    text = "[[8, 6], ['k3_e1'], 1]|[[6, 8], ['k3_e3', 'k3_e3', 'k3_e3', 'k3_e3'], 2]"
    target = build_backbone(parse_architecture(text), (2,))
    remap(small_seed, target)
    state = target.state_dict()
    for layer, source in enumerate([0, 1, 1, 1]):
        for name in ("expand.conv.weight", "depthwise.norm.running_var", "project.conv.weight"):
            assert torch.equal(state[f"stages.2.{layer}.{name}"], small_seed.state[f"stages.2.{source}.{name}"])


def channels_by_loop(state, wanted, value):
    """Indices, ascending, of the hidden channels of largest value."""
    rows, scale = state["stages.3.0.expand.conv.weight"], state["stages.3.0.expand.norm.weight"]
    values = []
    for channel in range(len(rows)):
        row = rows[channel].flatten().tolist()
        mean = sum(row) / len(row)
        values.append(
            {
                "bn": abs(scale[channel].item()),
                "std": (sum((w - mean) ** 2 for w in row) / (len(row) - 1)) ** 0.5,
                "l1": sum(abs(w) for w in row),
            }[value]
        )
    return sorted(sorted(range(len(rows)), key=lambda channel: -values[channel])[:wanted])


@pytest.mark.parametrize("value", ["bn", "std", "l1"])
def test_hidden_channels_by_importance(small_seed, small, value):
    state = dict(small_seed.state)
    state["stages.3.0.expand.norm.weight"] = state["stages.3.0.expand.norm.weight"] * torch.tensor([1, -1] * 12)
    seed = Seed(small, state)
    target = build_backbone(parse_architecture(str(small).replace("'k3_e3', 'k3_e3', 'k3_e3'", "'k5_e2'")), (3,))
    remap(seed, target, f"width_{value}")
    kept = channels_by_loop(state, 16, value)
    assert kept != list(range(16))
    got = target.state_dict()
    layer = "stages.3.0"
    assert torch.equal(got[f"{layer}.expand.conv.weight"], state[f"{layer}.expand.conv.weight"][kept])
    taps = got[f"{layer}.depthwise.conv.weight"][:, :, 1:4, 1:4]
    assert torch.equal(taps, state[f"{layer}.depthwise.conv.weight"][kept])
    assert torch.equal(got[f"{layer}.project.conv.weight"], state[f"{layer}.project.conv.weight"][:, kept])
    for tensor in NORM:
        for part in ("expand", "depthwise"):
            assert torch.equal(got[f"{layer}.{part}.norm.{tensor}"], state[f"{layer}.{part}.norm.{tensor}"][kept])
        assert torch.equal(got[f"{layer}.project.norm.{tensor}"], state[f"{layer}.project.norm.{tensor}"])


@pytest.mark.parametrize("strategy", ["width_bn", "width_std", "width_l1"])
def test_importance_matters_only_where_channels_are_lost(small_seed, small, strategy):
    targets = [build_backbone(with_kernel(small, 5), (3,)) for _ in range(2)]
    remap(small_seed, targets[0], strategy)
    remap(small_seed, targets[1])
    assert_equal_states(targets[0].state_dict(), targets[1].state_dict())


@pytest.mark.parametrize(("kernel", "places"), [(5, [0, 2, 4]), (7, [0, 3, 6])])
def test_dilated_kernels(small_seed, small, kernel, places):
    target = build_backbone(with_kernel(small, kernel), (3,))
    remap(small_seed, target, "kernel_dilation")
    name = "stages.3.1.depthwise.conv.weight"
    expected = torch.zeros(30, 1, kernel, kernel)
    for i, row in enumerate(places):
        for j, column in enumerate(places):
            expected[:, 0, row, column] = small_seed.state[name][:, 0, i, j]
    assert torch.equal(target.state_dict()[name], expected)


def test_smaller_kernels_keep_the_centre(small, seed_of):
    wide = seed_of(with_kernel(small, 7))
    for strategy in ("fna", "kernel_dilation"):
        target = build_backbone(small, (3,))
        remap(wide, target, strategy)
        name = "stages.3.1.depthwise.conv.weight"
        assert torch.equal(target.state_dict()[name], wide.state[name][:, :, 2:5, 2:5])


@pytest.mark.parametrize("seeded", [True, False])
def test_random_changes_nothing(small_seed, small, seeded):
    target = build_backbone(small, (3,))
    before = state_of(target)
    report = remap(small_seed if seeded else None, target, "random")
    assert_equal_states(target.state_dict(), before)
    assert {entry.how for entry in report.entries} == {"own initialisation"}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_parameters_stay_the_same_objects(small_seed, small_space, strategy):
    supernet = build_supernet(small_space, (3,))
    before = {name: id(parameter) for name, parameter in supernet.named_parameters()}
    seeded = {name: tensor.clone() for name, tensor in small_seed.state.items()}
    remap(small_seed, supernet, strategy)
    assert {name: id(parameter) for name, parameter in supernet.named_parameters()} == before
    assert all(parameter.requires_grad and parameter.grad_fn is None for parameter in supernet.parameters())
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.zero_()
    assert_equal_states(small_seed.state, seeded)


def test_every_candidate_of_a_supernet(seed, retinanet_space):
    supernet = build_supernet(retinanet_space)
    remap(seed, supernet)
    depths = {2: 2, 3: 3, 4: 4, 5: 3, 6: 3, 7: 1}
    seen = set()
    for name, tensor in supernet.state_dict().items():
        match = re.fullmatch(r"stages\.(\d)\.(\d)\.candidates\.(k\d_e\d)\.(\w+\.conv\.weight)", name)
        if match:
            number, layer = int(match[1]), int(match[2])
            source = f"stages.{number}.{min(layer, depths[number] - 1)}.{match[4]}"
            assert torch.equal(tensor, remap4d(seed.state[source], tensor.shape)), name
            seen.add((number, layer, match[3]))
        else:
            assert torch.equal(tensor, seed.state[name]), name
    assert len(seen) == 6 * 21


def test_what_is_not_searched_in_a_supernet(seed, mobilenet):
    supernet = build_supernet(MobileSpace(mobilenet, {3: 2}), (8,))
    remap(seed, supernet)
    fixed = {name: t for name, t in supernet.state_dict().items() if not name.startswith("stages.3.")}
    assert_equal_states(fixed, {name: t for name, t in seed.state.items() if not name.startswith("stages.3.")})


def test_the_report_covers_every_tensor(seed, tmp_path):
    architecture = load_architecture("fna_retinanet")
    target = build_backbone(architecture, (8,))
    report = remap(seed, target)
    assert [entry.target for entry in report.entries] == list(target.state_dict())
    for entry in report.entries:
        assert entry.target_shape == tuple(target.state_dict()[entry.target].shape)
        assert entry.source_shape == tuple(seed.state[entry.source].shape)
        assert entry.how == ("copied" if entry.source_shape == entry.target_shape else "resized")
    hows = {entry.target: entry.how for entry in report.entries}
    assert hows["stages.3.0.depthwise.conv.weight"] == "resized"
    assert hows["stages.3.0.expand.conv.weight"] == "copied"
    sources = {entry.target: entry.source for entry in report.entries}
    assert sources["stages.6.3.project.norm.bias"] == "stages.6.2.project.norm.bias"
    assert (report.origin, report.strategy) == ("random.pth", "fna")
    assert str(len(report.entries)) in str(report)

    report.save(tmp_path / "report.csv")
    with (tmp_path / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["target"] for row in rows] == list(target.state_dict())
    assert rows[0] == {
        "target": "stages.0.conv.weight",
        "target_shape": "32x3x3x3",
        "source": "stages.0.conv.weight",
        "source_shape": "32x3x3x3",
        "how": "copied",
        "dead": "",
    }


def test_the_report_of_a_supernet(small_seed, small_space):
    supernet = build_supernet(small_space, (3,))
    report = remap(small_seed, supernet)
    assert [entry.target for entry in report.entries] == list(supernet.state_dict())
    assert {entry.how for entry in report.entries} <= {"copied", "resized"}


# What does not fit


@pytest.mark.parametrize(
    "name", ["stages.0.conv.weight", "stages.2.1.project.norm.running_var", "stages.3.0.expand.norm.weight"]
)
def test_a_missing_tensor_is_named(small_seed, small, name):
    state = {key: tensor for key, tensor in small_seed.state.items() if key != name}
    target = build_backbone(small, (3,))
    before = state_of(target)
    with pytest.raises(CheckpointError, match=f"seed.pth.*{re.escape(name)}"):
        remap(Seed(small, state, "seed.pth"), target)
    assert_equal_states(target.state_dict(), before)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("stages.2.1.project.conv.weight", torch.zeros(8, 23, 1, 1)),
        ("stages.2.1.project.norm.bias", torch.zeros(())),
        ("stages.0.conv.weight", torch.zeros(8, 3, 3)),
    ],
)
def test_a_wrong_shape_is_named(small_seed, small, name, tensor):
    target = build_backbone(small, (3,))
    before = state_of(target)
    with pytest.raises(
        CheckpointError, match=f"seed.pth.*{re.escape(name)}.*{re.escape(str(tuple(tensor.shape)))}"
    ):
        remap(Seed(small, {**small_seed.state, name: tensor}, "seed.pth"), target)
    assert_equal_states(target.state_dict(), before)


def test_a_tensor_without_place_is_named(small_seed, small):
    state = {**small_seed.state, "stages.2.5.project.conv.weight": torch.zeros(8, 24, 1, 1)}
    with pytest.raises(CheckpointError, match=r"stages\.2\.5\.project\.conv\.weight has no place"):
        remap(Seed(small, state), build_backbone(small, (3,)))


def test_counters_of_batches_may_be_missing(small_seed, small):
    state = {name: tensor for name, tensor in small_seed.state.items() if not name.endswith("tracked")}
    target = build_backbone(small, (3,))
    report = remap(Seed(small, state), target)
    own = {entry.target for entry in report.entries if entry.how == "own initialisation"}
    assert own == {name for name in target.state_dict() if name.endswith("tracked")}
    assert target.state_dict()["stages.0.norm.num_batches_tracked"] == 0


def test_a_seed_without_last_1x1_serves_targets_without(small_seed, small):
    state = {name: tensor for name, tensor in small_seed.state.items() if not name.startswith("stages.4.")}
    target = build_backbone(small, (3,))
    remap(Seed(small, state), target)
    assert_equal_states(target.state_dict(), state)
    with pytest.raises(CheckpointError, match=r"stages\.4\.conv\.weight"):
        remap(Seed(small, state), build_backbone(small, (4,)))


def test_a_target_of_more_stages(small_seed, mobilenet):
    with pytest.raises(ConfigError, match="the seed only 3 stages"):
        remap(small_seed, build_backbone(mobilenet))


def test_an_unknown_strategy(small_seed, small):
    with pytest.raises(ConfigError, match="width_bn"):
        remap(small_seed, build_backbone(small, (3,)), "best")
