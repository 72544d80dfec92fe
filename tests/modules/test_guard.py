"""No weight changes where loss or gradient is not finite."""

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from fna_lightning.errors import ConfigError, TrainingError
from fna_lightning.modules import StepGuard
from fna_lightning.modules.guard import name_batch


class Spoil(Callback):
    """Makes the loss, or the gradient alone, of some iterations infinite or not a number."""

    def __init__(self, iterations, how):
        self.iterations, self.how = iterations, how
        self.before = {}

    def on_train_batch_start(self, _, module, *__):
        if module.iteration not in self.iterations:
            return
        self.before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        if self.how == "gradient":
            named = dict(module.named_parameters())  # a search moves alpha before the weights
            first = next((name for name in named if name.startswith("alphas.")), next(iter(named)))
            parameter = named[first]
            handle = parameter.register_hook(lambda gradient: gradient * float("inf"))
        else:  # by way of the forward pass, so that statistics are spoilt as well
            handle = module.network.register_forward_pre_hook(
                lambda _, inputs: tuple(x * float(self.how) for x in inputs)
            )
        self.handle = handle

    def on_train_batch_end(self, _, module, *__):
        if module.iteration - 1 in self.iterations:
            self.handle.remove()


def modules(adaptation, kind, guard):
    if kind == "search":
        module, data = adaptation.search(warmup_epochs=0)
    else:
        module, data = adaptation.train(), adaptation.data()
    module.guard = guard
    return module, data


@pytest.mark.parametrize("kind", ["train", "search"])
@pytest.mark.parametrize("how", ["nan", "inf", "gradient"])
def test_stops_before_anything_changes_and_names_the_batch(kind, how, adaptation):
    module, data = modules(adaptation, kind, StepGuard())
    spoil = Spoil({1}, how)
    named = r"no weight was changed: epoch 1, iteration 2, pictures .*\.jpg"
    with pytest.raises(TrainingError, match=named) as error:
        adaptation.trainer(spoil).fit(module, data)
    assert "\n" not in str(error.value)
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, spoil.before[name]), name


@pytest.mark.parametrize("kind", ["train", "search"])
def test_skipping_leaves_parameters_statistics_and_momentum_alone(kind, adaptation):
    module, data = modules(adaptation, kind, StepGuard("skip"))
    spoil = Spoil({1}, "nan")

    class Compare(Callback):
        def on_train_batch_end(self, _, module, *__):
            if module.iteration == 2:
                self.after = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    compare = Compare()
    trainer = adaptation.trainer(compare, spoil)
    trainer.fit(module, data)
    assert module.guard.skipped == (2 if kind == "search" else 1)  # weights and architecture, or weights
    assert all(torch.equal(spoil.before[name], value) for name, value in compare.after.items())
    assert all(torch.isfinite(value).all() for value in module.state_dict().values())
    moved = [name for name, p in module.named_parameters() if not torch.equal(p, spoil.before[name])]
    assert moved  # it went on
    assert module.iteration == 6 if kind == "search" else 12


def test_too_many_in_a_row(adaptation):
    module, data = modules(adaptation, "train", StepGuard("skip", most=2))
    with pytest.raises(TrainingError, match="3 times in a row"):
        adaptation.trainer(Spoil({1, 2, 3}, "nan")).fit(module, data)
    module, data = modules(adaptation, "train", StepGuard("skip", most=2))
    adaptation.trainer(Spoil({1, 2}, "nan"), Spoil({4, 5}, "nan")).fit(module, data)
    assert module.guard.skipped == 4


def test_counts_are_in_the_checkpoint(adaptation, tmp_path):
    module, data = modules(adaptation, "train", StepGuard("skip"))
    trainer = adaptation.trainer(Spoil({2}, "nan"), max_epochs=1)
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    other, data = modules(adaptation, "train", StepGuard("skip"))
    adaptation.trainer(max_epochs=2).fit(other, data, ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert other.guard.skipped == 1


def test_finite_steps_are_the_same_with_and_without(adaptation):
    """Clipping included: the guard reads gradients and leaves them as they are."""
    states = []
    for guard in (StepGuard(), StepGuard("skip")):
        module, data = modules(adaptation, "train", guard)
        adaptation.trainer(gradient_clip_val=0.5).fit(module, data)
        states.append(module.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_gradients_that_overflow_only_in_their_norm_are_refused():
    parameter = nn.Parameter(torch.zeros(4))
    parameter.grad = torch.full((4,), 3e38)
    with pytest.raises(TrainingError):
        StepGuard().allows(torch.tensor(1.0), [parameter], lambda: "batch")
    parameter.grad = torch.full((4,), 3.0)
    guard = StepGuard()
    assert guard.allows(torch.tensor(0.25), [parameter], lambda: "batch")
    assert guard.loss == 0.25


def test_batches_are_named_shortly():
    assert name_batch(3, 7, []) == "epoch 3, iteration 7"
    assert name_batch(3, 7, ["a.jpg", "b.jpg"]) == "epoch 3, iteration 7, pictures a.jpg, b.jpg"
    assert name_batch(1, 1, [str(n) for n in range(20)]).endswith("7 and 12 more")


@pytest.mark.parametrize(("how", "most"), [("stop", 3), ("skip", 0)])
def test_settings_are_checked(how, most):
    with pytest.raises(ConfigError):
        StepGuard(how, most)
