"""Both LightningModules under a real trainer, against plain loops and uninterrupted runs."""

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.nn.utils import clip_grad_norm_

from fna_lightning.architectures import parse_architecture
from fna_lightning.errors import ConfigError
from fna_lightning.modules import ArchitectureAdaptation, SearchData


class Diary(Callback):
    """Notes rates and iterations, and saves checkpoints after the given iterations."""

    def __init__(self, folder=None, save=()):
        self.rates, self.iterations = [], []
        self.folder, self.save = folder, save

    def on_train_batch_start(self, trainer, pl_module, *_):
        self.rates.append([optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers])
        self.iterations.append(pl_module.iteration)

    def on_train_batch_end(self, trainer, pl_module, *_):
        if pl_module.iteration in self.save:
            trainer.save_checkpoint(self.folder / f"{pl_module.iteration}.ckpt")


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []


def rate(step, steps_per_epoch):
    """Milestones at epochs 1.5 and 3, four iterations of warm-up from a third."""
    drops = (step >= round(1.5 * steps_per_epoch)) + (step >= 3 * steps_per_epoch)
    return 0.05 * min(1, 1 / 3 + 2 / 3 * step / 4) * 0.1**drops


def test_search_counts_its_own_iterations(adaptation, tmp_path):
    module, data = adaptation.search()
    diary = Diary(tmp_path, save=[6])
    trainer = adaptation.trainer(diary)
    trainer.fit(module, data)
    assert module.iteration == 6
    assert diary.iterations == list(range(6))
    assert trainer.global_step == 9  # six of the weights, three of the architecture
    content = torch.load(tmp_path / "6.ckpt", weights_only=True)
    assert content["iteration"] == 6
    assert parse_architecture(content["architecture"]) == parse_architecture(adaptation.text)
    assert "hyper_parameters" not in content
    weights, architecture = content["optimizer_states"]
    assert all("momentum_buffer" in entry for entry in weights["state"].values())
    assert {int(entry["step"]) for entry in architecture["state"].values()} == {3}
    assert len(architecture["state"]) == len(module.choices) == 5


def test_search_schedule_steps_once_an_iteration(adaptation):
    module, data = adaptation.search()
    diary = Diary()
    adaptation.trainer(diary, max_epochs=4).fit(module, data)
    assert [weights for weights, _ in diary.rates] == pytest.approx([rate(k, 3) for k in range(12)])
    assert {architecture for _, architecture in diary.rates} == {0.05}  # constant


def test_schedule_knows_limited_epochs(adaptation):
    diary = Diary()
    adaptation.trainer(diary, max_epochs=4, limit_train_batches=2).fit(adaptation.train(), adaptation.data())
    assert [rates[0] for rates in diary.rates] == pytest.approx([rate(k, 2) for k in range(8)])


@pytest.mark.parametrize("warmup", [0, 1, 2])
def test_paths_are_uniform_until_the_architecture_moves(adaptation, warmup):
    module, data = adaptation.search(warmup)
    drawn, draw = [], module.choices.draw

    def spy(random_seed, iteration, probabilities):
        now = module.alphas.probabilities()
        if probabilities is not None:
            assert all(torch.equal(row, own) for row, own in zip(probabilities, now, strict=True))
        drawn.append((random_seed, iteration, "uniform" if probabilities is None else "probability"))
        return draw(random_seed, iteration, probabilities)

    module.choices.draw = spy
    before = [alpha.detach().clone() for alpha in module.alphas.values]
    adaptation.trainer(max_epochs=2).fit(module, data)
    wanted = ["uniform"] * 3 * warmup + ["probability"] * 3 * (2 - warmup)
    assert drawn == [(7, k, policy) for k, policy in enumerate(wanted)]
    moved = [not torch.equal(a, b) for a, b in zip(before, module.alphas.values, strict=True)]
    assert set(moved) == {warmup < 2}


@pytest.mark.parametrize("kind", ["search", "train"])
@pytest.mark.parametrize("at", [3, 8])
def test_resumed_run_equals_the_uninterrupted_one(adaptation, tmp_path, kind, at):
    """At the end of an epoch and in the middle of one, before and after the search's warm-up."""

    def make():
        return adaptation.search() if kind == "search" else (adaptation.train(), adaptation.data())

    module, data = make()
    adaptation.trainer(Diary(tmp_path, save=[at]), max_epochs=4).fit(module, data)
    wanted = state(module)
    module, data = make()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)  # all of it must come from the checkpoint
    diary = Diary()
    trainer = adaptation.trainer(diary, max_epochs=4)
    trainer.fit(module, datamodule=data, ckpt_path=str(tmp_path / f"{at}.ckpt"), weights_only=True)
    steps = 3 if kind == "search" else 6
    assert diary.iterations == list(range(at, 4 * steps))
    assert [rates[0] for rates in diary.rates] == pytest.approx([rate(k, steps) for k in range(at, 4 * steps)])
    assert_same(state(module), wanted)


def test_two_searches_are_one(adaptation):
    states = []
    for workers in (0, 0, 2):
        module, data = adaptation.search(num_workers=workers)
        torch.manual_seed(workers)  # what was drawn before has no say
        adaptation.trainer().fit(module, data)
        states.append(state(module))
    assert_same(states[1], states[0])
    assert_same(states[2], states[0])


@pytest.mark.parametrize("precision", ["16-true"])
def test_half_precision_is_refused_before_the_first_step(adaptation, precision):
    module, data = adaptation.search()
    with pytest.raises(ConfigError, match=f"trainer.precision={precision}: the search runs in 32-true"):
        adaptation.trainer(precision=precision).fit(module, data)
    assert module.iteration == 0


def test_bfloat16_runs(adaptation):
    module, data = adaptation.search()
    adaptation.trainer(precision="bf16-mixed").fit(module, data)
    assert module.iteration == 6
    assert all(torch.isfinite(value).all() for value in state(module).values())


def test_search_wants_a_supernet(adaptation):
    module, _ = adaptation.search()
    fixed = adaptation.train()
    with pytest.raises(ConfigError, match="supernet as its backbone"):
        ArchitectureAdaptation(
            fixed.network, module.task, adaptation.text, module.cost, module._weights, module._architecture, 0
        )


@pytest.mark.parametrize("clip", [None, 0.5])
def test_training_equals_a_plain_loop(adaptation, clip):
    module, data = adaptation.train(dropout=0.0), adaptation.data()
    plain = adaptation.train(dropout=0.0).network
    adaptation.trainer(max_epochs=2, gradient_clip_val=clip).fit(module, data)

    plain.train()
    optimizer = adaptation.sgd(plain.parameters())
    loader, step = data.train_dataloader(), 0
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            optimizer.param_groups[0]["lr"] = rate(step, 6)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(plain(batch.images), batch.labels).backward()
            if clip is not None:
                clip_grad_norm_(plain.parameters(), clip)
            optimizer.step()
            step += 1
    assert step == module.iteration == 12
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(module.network.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_validation_scores_every_image_in_eval_mode(adaptation):
    module, data = adaptation.train(), adaptation.data()
    trainer = adaptation.trainer()
    trainer.fit(module, data)
    before = state(module)
    trainer.validate(module, data, verbose=False)
    found = module.scores["accuracy"]
    assert_same(state(module), before)
    module.eval()
    with torch.no_grad():
        right = sum((module.network(b.images).argmax(1) == b.labels).sum().item() for b in data.val_dataloader())
    assert found == pytest.approx(right / 8)


@pytest.mark.parametrize("augment", [True, False])
def test_search_data_halves_are_disjoint(adaptation, augment):
    inner = adaptation.data()
    data = SearchData(inner, 0.25, augment, 0, 1)
    data.setup("fit")
    loader = data.train_dataloader()
    halves = [set(half.dataset.indices.tolist()) for half in inner.search_dataloaders(0.25, augment)]
    assert halves[0] & halves[1] == set()
    assert [len(half) for half in halves] == [18, 6]
    assert len(loader) == 4
    data.teardown("fit")
