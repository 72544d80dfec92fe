"""Batch-norm statistics estimated anew, against a direct computation."""

import copy

import pytest
import torch
from torch import nn

from fna_lightning.backbones import build_backbone
from fna_lightning.blocks import reestimate_statistics
from fna_lightning.choices import Choices, LayerChoice
from fna_lightning.detectors import FasterRCNN, SSDLite


class Norms(nn.Module):
    """Two norms in series, a third that no pass reaches, and one that only counts the batch at hand."""

    def __init__(self, momentum=0.1):
        super().__init__()
        self.first = nn.BatchNorm2d(3, momentum=momentum)
        self.second = nn.BatchNorm2d(3, momentum=momentum)
        self.idle = nn.BatchNorm2d(3, momentum=momentum)
        self.untracked = nn.BatchNorm2d(3, track_running_stats=False)
        for norm in (self.first, self.second, self.idle):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            norm.num_batches_tracked.fill_(7)

    def forward(self, x):
        return self.untracked(self.second(self.first(x).relu()))


@pytest.fixture
def images():
    """Five batches (4, 3, 6, 5), each of a mean and deviation of its own."""
    return [torch.randn(4, 3, 6, 5) * (number + 1) + number for number in range(5)]


def state(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def settings(network):
    return [(m.training, getattr(m, "momentum", None)) for m in network.modules()]


def mean_and_variance(batches):
    """Plain means over batches (N, C, H, W) of their means and unbiased variances."""
    pixels = [x.transpose(0, 1).flatten(1) for x in batches]
    return torch.stack([x.mean(1) for x in pixels]).mean(0), torch.stack([x.var(1) for x in pixels]).mean(0)


def assert_estimated(norm, batches):
    mean, variance = mean_and_variance(batches)
    torch.testing.assert_close(norm.running_mean, mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(norm.running_var, variance, rtol=1e-5, atol=1e-5)
    assert norm.num_batches_tracked == len(batches)


def normalised(norm, x):
    """What a norm in training makes of x, by its definition."""
    pixels = x.transpose(0, 1).flatten(1)
    mean, variance = (v.view(1, -1, 1, 1) for v in (pixels.mean(1), pixels.var(1, correction=0)))
    return ((x - mean) / (variance + norm.eps).sqrt() * norm.weight.view(1, -1, 1, 1)).detach()


@pytest.mark.parametrize("momentum", [0.1, 0.03, None])
@pytest.mark.parametrize("training", [True, False])
def test_statistics_are_means_over_the_batches(images, training, momentum):
    network = Norms(momentum).train(training)
    before = settings(network)
    reestimate_statistics(network, images)
    assert_estimated(network.first, images)
    assert_estimated(network.second, [normalised(network.first, x).relu() for x in images])
    assert settings(network) == before


def test_one_batch_gives_the_statistics_of_all_its_images(images):
    whole = torch.cat(images)
    network = Norms()
    reestimate_statistics(network, [whole])
    pixels = whole.transpose(0, 1).flatten(1)
    torch.testing.assert_close(network.first.running_mean, pixels.mean(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(network.first.running_var, pixels.var(1), rtol=1e-5, atol=1e-5)


def test_batches_of_one_size_give_the_mean_of_all_images(images):
    network = Norms()
    reestimate_statistics(network, images)
    torch.testing.assert_close(network.first.running_mean, torch.cat(images).mean((0, 2, 3)), rtol=1e-5, atol=1e-5)


def test_norms_that_no_pass_reaches_keep_everything(images):
    network = Norms()
    before = state(network.idle)
    reestimate_statistics(network, images)
    assert all(torch.equal(value, before[name]) for name, value in state(network.idle).items())
    assert network.untracked.running_mean is None


def test_no_input_changes_nothing():
    network = Norms()
    before = state(network)
    reestimate_statistics(network, [])
    assert all(torch.equal(value, before[name]) for name, value in state(network).items())


def test_nothing_runs_where_no_norm_keeps_statistics():
    def refuse():
        yield pytest.fail("an input was asked for")

    reestimate_statistics(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), refuse())


def test_a_second_estimate_forgets_the_first(images):
    once, twice = Norms(), Norms()
    twice.load_state_dict(once.state_dict())
    reestimate_statistics(twice, images[:2])
    for network in (once, twice):
        reestimate_statistics(network, iter(images[2:]))
    assert all(torch.equal(value, once.state_dict()[name]) for name, value in twice.state_dict().items())


def test_a_norm_that_an_input_passes_several_times_counts_each(images):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, pair):
            return [self.norm(x) for x in pair]

    network = Shared()
    reestimate_statistics(network, [images[:2], images[2:4]])
    assert_estimated(network.norm, images[:4])


def test_frozen_norms_of_a_network_in_training_work_with_their_own_statistics(images):
    network = Norms()
    network.first.eval()
    before, modes = state(network.first), settings(network)
    copied = copy.deepcopy(network.first)
    reestimate_statistics(network, images)
    assert all(torch.equal(value, before[name]) for name, value in state(network.first).items())
    assert_estimated(network.second, [copied(x).relu().detach() for x in images])
    assert settings(network) == modes


@pytest.mark.parametrize("training", [True, False])
def test_a_failing_pass_leaves_all_as_it_was(images, training):
    def broken():
        yield from images[:2]
        raise OSError("disk")

    network = Norms(0.03).train(training)
    before, modes = state(network), settings(network)
    for inputs, error in ((broken(), OSError), ([*images[:2], torch.zeros(1, 4, 2, 2)], RuntimeError)):
        with pytest.raises(error):
            reestimate_statistics(network, inputs)
        assert all(torch.equal(value, before[name]) for name, value in state(network).items())
        assert settings(network) == modes


def test_dropout_stays_off_in_a_network_that_is_scored(images):
    network = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3)).eval()
    reestimate_statistics(network, images)
    assert_estimated(network[1], images)
    torch.manual_seed(3)
    reestimate_statistics(network.train(), images)
    torch.manual_seed(3)
    assert_estimated(network[1], [nn.functional.dropout(x) for x in images])


def test_a_detectors_head_is_estimated_with_its_backbone(small, randomise):
    network = randomise(SSDLite(build_backbone(small, [2, 3]), 2)).eval()
    before = state(network)
    reestimate_statistics(network, [torch.rand(2, 3, 64, 64) * 255 for _ in range(3)])
    counts = {name: int(value) for name, value in state(network).items() if name.endswith("num_batches_tracked")}
    assert any(not name.startswith("backbone.") for name in counts)
    assert set(counts.values()) == {3}
    for name, value in network.named_parameters():
        assert torch.equal(value, before[name]), name


def test_layers_beside_the_active_path_keep_their_statistics(images, randomise):
    choices = [LayerChoice({"a": nn.BatchNorm2d(3), "b": nn.BatchNorm2d(3)}) for _ in range(2)]
    network = randomise(nn.Sequential(*choices)).eval()
    for path in ([0, 1], [1, 1]):
        before = state(network)
        Choices(network).set_path(path)
        reestimate_statistics(network, images)
        active = [choice.candidates["ab"[index]] for choice, index in zip(choices, path, strict=True)]
        assert_estimated(active[0], images)
        assert_estimated(active[1], [normalised(active[0], x) + active[0].bias.view(1, -1, 1, 1) for x in images])
        for number, (choice, index) in enumerate(zip(choices, path, strict=True)):
            name = "ba"[index]
            for what, value in choice.candidates[name].state_dict().items():
                assert torch.equal(value, before[f"{number}.candidates.{name}.{what}"])


@pytest.mark.parametrize("training", [True, False])
def test_norms_of_a_box_head_are_reached_by_the_losses(small, randomise, training):
    network = FasterRCNN(build_backbone(small, [2, 3]), 2, fpn_channels=8, box_width=8)
    network = randomise(network).train(training)
    batches = [
        (torch.rand(2, 3, 64, 64) * 255, [torch.tensor([[5.0, 9.0, 40.0, 50.0]]), torch.zeros(0, 4)])
        for _ in range(3)
    ]

    def run(batch):
        network.loss(network(batch[0]), batch[1], [torch.zeros(len(each)).long() for each in batch[1]])

    before = state(network)
    reestimate_statistics(network, batches, run)
    after = state(network)
    counts = {name: int(value) for name, value in after.items() if name.endswith("num_batches_tracked")}
    assert sum(name.startswith("box_head.") for name in counts) == 4
    assert set(counts.values()) == {3}
    assert all(torch.equal(before[name], after[name]) for name, _ in network.named_parameters())
    assert all(module.training == training for module in network.modules())
