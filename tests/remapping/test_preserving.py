"""Remapping that keeps the seed's function, against brute force and against the outputs themselves."""

import copy
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fna_lightning.architectures import parse_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.checkpoints import Moments, Seed
from fna_lightning.choices import Choices
from fna_lightning.remapping import differences, remap, seed_network, with_moments
from fna_lightning.remapping.refit import refit
from fna_lightning.supernets import MobileSpace, build_supernet

SMALL = """[[8, 8], ['k3_e1'], 1]|
[[8, 12], ['k3_e6', 'k3_e6'], 2]|
[[12, 16], ['k3_e6', 'k3_e6', 'k3_e6'], 2]"""


@pytest.fixture(scope="module")
def seed(randomise):
    architecture = parse_architecture(SMALL)
    network = randomise(build_backbone(architecture, (2, 3)))
    return Seed(architecture, copy.deepcopy(network.state_dict()), "random.pth")


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, 48, 64, generator=generator) for _ in range(3)]


def target_of(text):
    return build_backbone(parse_architecture(text), (2, 3))


def remapped(seed, target, images, strategy="preserving", refitting=True):
    beside = seed_network(seed, target)
    known = with_moments(seed, beside, images) if refitting else seed
    report = remap(known, target, strategy)
    return report, differences(seed, beside, target, images)


GROWN = (
    SMALL.replace("k3_e6", "k5_e6"),
    SMALL.replace("k3_e6", "k7_e6").replace("'k7_e6', 'k7_e6']", "'k7_e6', 'k7_e6', 'k5_e6', 'k3_e6']"),
    SMALL.replace("['k3_e6', 'k3_e6', 'k3_e6']", "['k3_e6', 'k3_e6', 'k3_e6', 'skip', 'k5_e3']"),
)


@pytest.mark.parametrize("text", GROWN)
def test_growth_of_kernel_and_depth_keeps_the_function(seed, images, text):
    target = target_of(text)
    _, off = remapped(seed, target, images)
    assert off.keys() == {"2", "3"}
    assert max(off.values()) < 1e-5
    if "k7" in text:
        _, published = remapped(seed, target_of(text), images, "fna")
        assert max(published.values()) > 0.1


@pytest.mark.parametrize("text", GROWN)
def test_everything_that_was_added_learns(seed, images, text):
    """In two steps: the scale of an identity first, what is behind it then."""
    target = target_of(text).train()
    remapped(seed, target, images)
    optimizer = torch.optim.SGD(target.parameters(), lr=0.1)
    begun = {name: parameter.detach().clone() for name, parameter in target.named_parameters()}
    for _ in range(2):
        optimizer.zero_grad()
        sum(each.square().mean() for each in target(images[0]).values()).backward()
        optimizer.step()
    still = [name for name, parameter in target.named_parameters() if torch.equal(parameter, begun[name])]
    assert not still
    for name, parameter in target.named_parameters():
        if name.endswith("conv.weight"):
            assert (parameter.grad.flatten(1).abs().sum(dim=1) > 0).any(), name


def test_the_path_of_the_seed_in_a_supernet_is_the_seed(seed, images):
    space = MobileSpace(seed.architecture, {2: 4, 3: 4}, ("k3_e3", "k3_e6", "k5_e6"), norms="kept")
    supernet = build_supernet(space, (2, 3))
    _, off = remapped(seed, supernet, images)
    assert max(off.values()) < 1e-5
    # Larger kernels, and identities behind it, are the seed as well.
    same = supernet.path_of(parse_architecture(SMALL.replace("k3_e6", "k5_e6")))
    deeper = [index if name != "skip" else 0 for index, name in zip(same, names_on(supernet, same), strict=True)]
    for path in (same, deeper):
        Choices(supernet).set_path(path)
        with torch.no_grad():
            theirs = seed_network(seed, supernet)(images[0])
            for name, ours in supernet.train()(images[0]).items():
                torch.testing.assert_close(ours, theirs[name], rtol=1e-4, atol=1e-4)


def names_on(supernet, path):
    return [choice.names[index] for choice, index in zip(Choices(supernet), path, strict=True)]


def test_narrower_blocks_are_nearer_to_the_seed(seed, images):
    text = SMALL.replace("k3_e6", "k3_e3")
    off = {
        strategy: remapped(seed, target_of(text), images, strategy, refitting)[1]
        for strategy, refitting in (("fna", False), ("width_bn", False), ("preserving", True))
    }
    for name in ("2", "3"):
        # Random channels have little in common: a trained network is nearer by far.
        assert off["preserving"][name] < 0.8 * min(off["fna"][name], off["width_bn"][name])


def test_the_report_says_what_was_computed(seed, images):
    text = SMALL.replace("['k3_e6', 'k3_e6']", "['k3_e3', 'k3_e6', 'k3_e6']")
    report, _ = remapped(seed, target_of(text), images)
    how = {entry.target: entry.how for entry in report.entries}
    assert how["stages.2.0.project.conv.weight"] == how["stages.2.0.project.norm.weight"] == "refitted"
    assert how["stages.2.2.project.norm.weight"] == how["stages.2.2.project.norm.bias"] == "zero"
    assert how["stages.2.1.project.norm.weight"] == "copied"
    assert how["stages.2.0.expand.conv.weight"] == "resized"


def test_without_moments_the_largest_scales_stay(seed):
    """As from Python, where nobody has given pictures."""
    text = SMALL.replace("k3_e6", "k3_e3")
    ours, theirs = target_of(text), target_of(text)
    remap(seed, ours, "preserving")
    remap(seed, theirs, "width_bn")
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, theirs.state_dict()[name])


@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(1, 5))
@settings(max_examples=40)
def test_a_refit_is_least_squares_over_the_channels_that_stay(random_seed, channels, wanted):
    generator = torch.Generator().manual_seed(random_seed)
    wanted = min(wanted, channels)
    samples = torch.randn(400, channels, generator=generator, dtype=torch.float64) @ torch.randn(
        channels, channels, generator=generator, dtype=torch.float64
    )
    weight = torch.randn(3, channels, generator=generator, dtype=torch.float64)
    moments = Moments(samples.mean(0), samples.T.cov(correction=0))
    found = refit(weight, torch.ones(3), moments, wanted)
    assert found.kept.tolist() == sorted(set(found.kept.tolist()))
    centred = samples - samples.mean(0)
    outputs = centred @ weight.T
    solution = torch.linalg.lstsq(centred[:, found.kept], outputs).solution.T
    torch.testing.assert_close(found.weight, solution, rtol=1e-2, atol=1e-3)
    written = samples[:, found.kept] @ found.weight.T
    torch.testing.assert_close(found.mean, written.mean(0))
    torch.testing.assert_close(found.variance, written.var(0, correction=0))
    torch.testing.assert_close(found.ratio, (written.std(0) / outputs.std(0)).clamp(max=1), rtol=1e-4, atol=1e-6)


def test_the_first_channel_to_go_is_the_one_that_costs_least():
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        samples = torch.randn(300, 6, generator=generator, dtype=torch.float64)
        samples = samples @ torch.randn(6, 6, generator=generator, dtype=torch.float64)
        weight = torch.randn(4, 6, generator=generator, dtype=torch.float64)
        scale = torch.rand(4, generator=generator) + 0.5
        centred = samples - samples.mean(0)
        outputs = centred @ weight.T / (centred @ weight.T).std(0, correction=0) * scale

        def loss(kept, centred=centred, outputs=outputs):
            part = centred[:, list(kept)]
            return float((part @ torch.linalg.lstsq(part, outputs).solution - outputs).square().sum())

        best = min(combinations(range(6), 5), key=loss)
        found = refit(weight, scale, Moments(samples.mean(0), samples.T.cov(correction=0)), 5)
        assert tuple(found.kept.tolist()) == best


def test_channels_that_never_change_cost_nothing():
    samples = torch.randn(200, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    samples[:, 1] = 3.0
    samples[:, 3] = samples[:, 2]
    weight = torch.ones(2, 4)
    moments = Moments(samples.mean(0), samples.T.cov(correction=0))
    found = refit(weight, torch.ones(2), moments, 2)
    assert set(found.kept.tolist()) in ({0, 2}, {0, 3})
    torch.testing.assert_close(found.ratio, torch.ones(2, dtype=torch.float64), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("before", "after"), [("12", "8"), ("12", "20")])
def test_refitted_blocks_may_have_other_widths_as_well(seed, images, before, after):
    """What they write is chosen for the whole stream, or has copies behind it."""
    text = SMALL.replace(f"8, {before}]", f"8, {after}]").replace(f"[[{before}, ", f"[[{after}, ")
    target = target_of(text.replace("k3_e6", "k3_e3"))
    report, _ = remapped(seed, target, images)
    assert any(entry.how == "refitted" for entry in report.entries)
    same = target_of(SMALL.replace("k3_e6", "k3_e3"))
    remapped(seed, same, images)
    scale = seed.state["stages.2.0.project.norm.weight"].abs() + seed.state["stages.2.1.project.norm.weight"].abs()
    kept = (
        scale.topk(min(int(before), int(after))).indices.sort().values
    )  # the largest of the stream (spec NAA 8.4)
    sources = kept[torch.arange(int(after)) % len(kept)]  # and copies of them
    first = "stages.2.0.project"
    for name in ("conv.weight", "norm.weight", "norm.running_mean", "norm.running_var"):
        own, expected = target.state_dict()[f"{first}.{name}"], same.state_dict()[f"{first}.{name}"]
        assert torch.equal(own, expected[sources])
