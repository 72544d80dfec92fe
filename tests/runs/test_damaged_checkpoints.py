"""A run that goes on from a checkpoint whose contents were damaged is the same run, or one line; never another."""

import copy
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning.pytorch.loggers import CSVLogger

from fna_lightning.callbacks import LastCheckpoint, RunLog, Timekeeper
from fna_lightning.errors import CheckpointError
from fna_lightning.runs.checkpoint_io import WholeCheckpoints, restoring

STOP = 7
PARTS = (
    *("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks"),
    *("iteration", "guard", "epoch", "global_step", "pytorch-lightning_version"),
)


class Keep(L.Callback):
    """Keeps the checkpoint of a moment."""

    def __init__(self, path):
        self.path = path

    def on_train_batch_end(self, trainer, pl_module, *_):
        if pl_module.iteration == STOP:
            trainer.save_checkpoint(self.path)


@pytest.fixture
def begun(adaptation, tmp_path):
    """A run of 12 iterations, its checkpoint after 7, and go_on(content) -> the module and log of one resumed."""

    def fit(folder, *callbacks, resume=None):
        torch.manual_seed(1 if resume is None else 2)
        trainer = L.Trainer(
            max_epochs=2,
            accelerator="cpu",
            callbacks=[*callbacks, Timekeeper(), RunLog(folder, 2), LastCheckpoint(folder / "last.ckpt")],
            logger=CSVLogger(folder, name="", version=""),
            plugins=[WholeCheckpoints()],
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
        module = adaptation.train()
        with restoring(trainer, resume):
            trainer.fit(module, datamodule=adaptation.data(), ckpt_path=resume)
        return module.state_dict(), (folder / "metrics.csv").read_bytes()

    def go_on(content):
        torch.save(content, tmp_path / "damaged.ckpt")
        return fit(tmp_path / "again", resume=str(tmp_path / "damaged.ckpt"))

    whole = fit(tmp_path / "whole", Keep(tmp_path / "kept.ckpt"))
    content = torch.load(tmp_path / "kept.ckpt", weights_only=True)
    return SimpleNamespace(whole=whole, content=content, go_on=go_on)


def assert_same(one, other):
    assert one[1] == other[1]
    assert one[0].keys() == other[0].keys()
    for name, tensor in one[0].items():
        assert torch.equal(tensor, other[0][name]), name


def places(value, place=()):
    """Every place in mappings and lists, from the outside inwards."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if place or key in PARTS:
            yield (*place, key)
            yield from places(item, (*place, key))


def damaged(content, place, how):
    content = copy.deepcopy(content)
    owner = content
    for key in place[:-1]:
        owner = owner[key]
    if how == "gone":
        del owner[place[-1]]
    else:
        owner[place[-1]] = DAMAGES[how](owner[place[-1]])
    return content


def of_tensors(change):
    return lambda value: change(value) if isinstance(value, torch.Tensor) and value.numel() else None


def of_numbers(change):
    return lambda value: change(value) if isinstance(value, (int, float)) else "x"


DAMAGES = {
    "gone": None,
    "nothing": lambda _: None,
    "a text": lambda _: "1.0.0",
    "a list": lambda _: [],
    "a mapping": lambda _: {},
    "another number": of_numbers(lambda number: number + 1),
    "negative": of_numbers(lambda number: -1 - number),
    "not a number": lambda value: (
        value * float("nan") if isinstance(value, (float, torch.Tensor)) else float("nan")
    ),
    "other values": of_tensors(lambda tensor: tensor + 1),
    "truncated": of_tensors(lambda tensor: tensor.reshape(-1)[:-1]),
    "longer": of_tensors(lambda tensor: torch.cat([tensor.reshape(-1), torch.zeros(1)])),
    "another shape": of_tensors(lambda tensor: tensor.reshape(1, -1, 1)),
    "one for all": of_tensors(lambda tensor: tensor.reshape(-1)[:1]),
    "half": of_tensors(torch.Tensor.half),
}
TELLING = {"gone", "nothing", "a text", "a list", "not a number", "truncated", "longer"}
"""What is told without checksums, of weights and what the optimisers keep for them."""


def outcome(begun, content):
    """The line by which a run does not go on; None where it goes on as the whole one went."""
    try:
        resumed = begun.go_on(content)
    except CheckpointError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert "; give " in str(error)  # noqa: PT017
        return str(error)
    assert_same(resumed, begun.whole)
    return None


@given(data=st.data())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_is_a_line_or_nothing(begun, data):
    part = data.draw(st.sampled_from(PARTS))
    place = data.draw(st.sampled_from([place for place in places(begun.content) if place[0] == part]))
    how = data.draw(st.sampled_from(sorted(DAMAGES)))
    outcome(begun, damaged(begun.content, place, how))


@given(data=st.data())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_of_old_checkpoints(begun, data):
    """Without checksums, what is not as tensors and their optimisers' states must be."""
    content = {key: value for key, value in begun.content.items() if key != "checksums"}
    inner = [("state_dict",), ("optimizer_states",), ("optimizer_states", 0, "state")]
    tensors = [place for place in places(content) if place[0] in ("state_dict", "optimizer_states")]
    tensors = [place for place in tensors if place[-1] == "momentum_buffer" or place[0] == "state_dict"]
    place = data.draw(st.sampled_from([*inner, *tensors]))
    how = data.draw(st.sampled_from(sorted(TELLING)))
    if place[-1] == "momentum_buffer" and how in ("gone", "nothing"):
        return  # a parameter that has not been trained
    outcome(begun, damaged(content, place, how))


def test_what_is_not_damaged_goes_on(begun):
    assert outcome(begun, begun.content) is None
    old = {key: value for key, value in begun.content.items() if key != "checksums"}
    assert outcome(begun, old) is None
    assert outcome(begun, {**begun.content, "pytorch-lightning_version": "2.0.0", "class_names": []}) is None


@pytest.mark.parametrize(
    ("place", "how", "words"),
    [
        (("optimizer_states",), "gone", "lacks optimizer_states; give a run's own checkpoint as it was written"),
        (("iteration",), "a text", "iteration is a str, not a whole number"),
        (("loops",), "nothing", "loops is a NoneType, not a mapping"),
        (("optimizer_states", "lr"), "another number", "optimizer_states was changed since"),
        (("lr_schedulers", "last_epoch"), "another number", "lr_schedulers was changed since it was written"),
        (("pytorch-lightning_version",), "gone", "lacks pytorch-lightning_version"),
    ],
)
def test_lines(begun, place, how, words):
    place = next(other for other in places(begun.content) if other[0] == place[0] and other[-1] == place[-1])
    assert words in outcome(begun, damaged(begun.content, place, how))


@pytest.mark.parametrize(
    ("place", "how", "words"),
    [
        (("state_dict", "alone"), "a mapping", "state_dict is empty"),
        (("state_dict", "network.backbone.stages.0.conv.weight"), "gone", "is of another network: Missing key(s)"),
        (("optimizer_states", "momentum_buffer"), "truncated", "the checkpoint has momentum_buffer ("),
        (("optimizer_states", "momentum_buffer"), "one for all", "the checkpoint has momentum_buffer (1,) for "),
        (("optimizer_states", "momentum_buffer"), "not a number", "momentum_buffer holds "),
        (("optimizer_states", "param_groups"), "a list", "cannot be restored (ValueError: loaded state dict has"),
        (("optimizer_states",), "a list", "optimizer_states is empty"),
        (("callbacks", "LastCheckpoint"), "a text", "cannot be restored (TypeError: "),
        (("guard",), "a mapping", "guard is empty; give a run's own checkpoint as it was written"),
    ],
)
def test_lines_of_old_checkpoints(begun, place, how, words):
    content = {key: value for key, value in begun.content.items() if key != "checksums"}
    place = next((other for other in places(content) if (other[0], other[-1]) == (place[0], place[-1])), place[:1])
    with pytest.raises(CheckpointError) as refused:
        begun.go_on(damaged(content, place, how))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
