"""What every search must hold to, over every space: limits, what a step may move, resume to the bit."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from systems import SEARCHES, SIZE, SYSTEMS, copy_of_state, job_of, table_of

from fna_lightning.choices import Choices
from fna_lightning.costs import count

everywhere = pytest.mark.parametrize(
    ("system", "search"),
    [(system, search) for system in SYSTEMS.values() for search in SEARCHES.values()],
    ids=[f"{system}-{search}" for system in SYSTEMS for search in SEARCHES],
)


@pytest.fixture
def run(adaptation, tmp_path):
    """run(system, search, *callbacks, **settings) -> its result and the module that was trained."""

    def run(system, search, *callbacks, epochs=2, **settings):
        record = SimpleNamespace(module=None)
        job = job_of(
            system,
            adaptation.data(),
            tmp_path,
            lambda: adaptation.trainer(*callbacks, max_epochs=epochs),
            record=record,
            **settings,
        )
        job.data.setup("fit")
        return search().run(job), record.module

    return run


@everywhere
def test_the_result_is_a_path_within_the_limit(system, search, run):
    """The limit halves what is between the cheapest and the dearest network."""
    network = system.searched()
    limit = sum(table_of(network).bounds()) / 2
    result, module = run(system, search, limit=limit)
    Choices(network).check_path(result.path)
    found = count(system.derived(network, list(result.path)), SIZE)
    assert found.madds <= limit
    assert result.metrics
    assert all(isinstance(value, float) for value in [*result.metrics.values(), result.objective])
    assert module.iteration > 0


class Steps(Callback):
    """Compares all parameters before and after every iteration."""

    def __init__(self):
        self.moved, self.off_path = [], []

    def on_train_batch_start(self, _, module, *__):
        self.before = copy_of_state(module)

    def on_train_batch_end(self, _, module, *__):
        after = module.state_dict()
        moved = {name for name, value in self.before.items() if not torch.equal(value, after[name])}
        self.moved.append(moved)
        resting = set()
        for name, choice in module.network.named_modules():
            on_path = choice in list(module.choices) and choice.active is not None
            if on_path and hasattr(choice, "candidates"):
                others = [key for index, key in enumerate(choice.names) if index != choice.active]
                resting |= {place for place in after for key in others if f"{name}.candidates.{key}." in place}
        self.off_path.append(moved & resting)


@everywhere
def test_a_step_moves_what_it_may_and_no_more(system, search, run):
    steps = Steps()
    _, module = run(system, search, steps)
    assert len(steps.moved) == module.iteration
    # Where a search scores paths in its last steps, these move nothing at all.
    trained = next((number for number, moved in enumerate(steps.moved) if not moved), module.iteration)
    assert trained >= module.iteration / 3
    assert all(any(name.startswith("network.") for name in moved) for moved in steps.moved[:trained])
    assert steps.moved[trained:] == [set()] * (module.iteration - trained)
    assert steps.off_path == [set()] * module.iteration
    alphas = [any(name.startswith("alphas.") for name in moved) for moved in steps.moved]
    # The search by gradients has one epoch of warm-up; others have no alphas at all.
    has_alphas = any(name.startswith("alphas.") for name in module.state_dict())
    half = len(alphas) // 2
    assert alphas == [False] * half + [has_alphas] * half


class SaveAt(Callback):
    def __init__(self, iteration, path):
        self.iteration, self.path = iteration, path

    def on_train_batch_end(self, trainer, module, *_):
        if module.iteration == self.iteration:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("iteration", [2, 5])
@everywhere
def test_resumed_equals_uninterrupted(system, search, iteration, run, tmp_path):
    """From the middle of an epoch, to the last bit, and to the same result."""
    result, whole = run(system, search, SaveAt(iteration, tmp_path / "kept.ckpt"))
    again, resumed = run(system, search, resume=str(tmp_path / "kept.ckpt"))
    wanted = whole.state_dict()
    assert [name for name, value in resumed.state_dict().items() if not torch.equal(value, wanted[name])] == []
    assert list(again.path) == list(result.path)
    assert again.metrics == result.metrics
