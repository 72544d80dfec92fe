"""What happens at certain moments of a run."""

import csv
import math
import time

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from fna_lightning.architectures import load_architecture
from fna_lightning.callbacks import ArchitectureLog, BatchNormCalibration, RemappingCallback, Timekeeper, diagnose
from fna_lightning.checkpoints import Seed
from fna_lightning.choices import Choices
from fna_lightning.costs import tabulate
from fna_lightning.search import Alphas, SearchBatch
from fna_lightning.supernets import build_supernet


class Stop(Callback):
    """Ends a run before its first step."""

    def on_train_start(self, trainer, *_):
        trainer.should_stop = True
        trainer.fit_loop.max_epochs = 0


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def seed(small, randomise):
    from fna_lightning.backbones import build_backbone

    backbone = randomise(build_backbone(small, [3, 4]), seed=9)
    return Seed(small, backbone.state_dict(), "seed.pth")


# Remapping


def test_remaps_once_at_fit_and_reports_every_tensor(adaptation, seed, tmp_path):
    module = adaptation.train()
    callback = RemappingCallback(seed, report_path=tmp_path / "remapping.csv")
    trainer = adaptation.trainer(callback, Stop(), max_epochs=1)
    trainer.fit(module, adaptation.data())
    for name, value in module.backbone.state_dict().items():
        assert torch.equal(value, seed.state[name]), name
    table = rows(tmp_path / "remapping.csv")
    assert [row["target"] for row in table] == list(module.backbone.state_dict())
    assert {row["how"] for row in table} == {"copied"}

    report = callback.report
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    adaptation.trainer(callback, Stop(), max_epochs=1).fit(module, adaptation.data())
    assert callback.report is report
    assert all((parameter == 0).all() for parameter in module.parameters())


def test_supernets_are_remapped(adaptation, seed, tmp_path):
    module, data = adaptation.search()
    callback = RemappingCallback(seed, report_path=tmp_path / "remapping.csv")
    adaptation.trainer(callback, Stop(), max_epochs=1).fit(module, data)
    stem = module.backbone.state_dict()["stages.0.conv.weight"]
    assert torch.equal(stem, seed.state["stages.0.conv.weight"])
    table = rows(tmp_path / "remapping.csv")
    assert {row["target"] for row in table} == set(module.backbone.state_dict())
    assert {row["how"] for row in table} <= {"copied", "resized"}


def test_does_not_remap_in_validation_or_on_resume(adaptation, seed, tmp_path):
    module = adaptation.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    callback = RemappingCallback(seed)
    adaptation.trainer(callback).validate(module, adaptation.data(), verbose=False)
    assert callback.report is None
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())

    trainer = adaptation.trainer(max_epochs=1)
    trainer.fit(module, adaptation.data())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    trained = {name: value.clone() for name, value in module.state_dict().items()}
    other = adaptation.train()
    callback = RemappingCallback(seed, report_path=tmp_path / "remapping.csv")
    adaptation.trainer(callback, max_epochs=1).fit(
        other, adaptation.data(), ckpt_path=str(tmp_path / "a.ckpt"), weights_only=True
    )
    assert callback.report is None
    assert not (tmp_path / "remapping.csv").exists()
    assert all(torch.equal(trained[name], value) for name, value in other.state_dict().items())


# What the search thinks


@pytest.fixture
def searched(small_space):
    """(choices, alphas, cost) of a small search."""
    supernet = build_supernet(small_space, [3])
    choices = Choices(supernet)
    return choices, Alphas(choices), tabulate(supernet, (32, 32))


def costs_of(cost):
    return [term.costs for term in cost.terms]


def test_diagnosis_at_uniform_alpha(searched):
    _, alphas, cost = searched
    for value in alphas.values:
        nn.init.zeros_(value)
    found = diagnose(*searched)
    assert found["entropy"] == pytest.approx(1)
    assert found["skip_share"] == pytest.approx(1 / 4)
    assert found["expected_madds"] == pytest.approx(sum(row.mean() for row in costs_of(cost)) + cost.fixed)


def test_diagnosis_by_hand(searched):
    _, alphas, table = searched
    values = [[0.0, 1.0, 2.0], [0.0, 0.0, 0.0, 3.0], [1.0, 0.0, 0.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 5.0, 1.0]]
    entropies, skips, cost = [], [], 0.0
    for value, costs, row in zip(alphas.values, costs_of(table), values, strict=True):
        value.data = torch.tensor(row)
        parts = [math.exp(value) / sum(map(math.exp, row)) for value in row]
        entropies.append(-sum(p * math.log(p) for p in parts) / math.log(len(parts)))
        skips += parts[3:]
        cost += sum(p * c for p, c in zip(parts, costs.tolist(), strict=True))
    assert diagnose(*searched) == pytest.approx(
        {"entropy": sum(entropies) / 5, "skip_share": sum(skips) / 3, "expected_madds": cost + table.fixed},
        rel=1e-5,
    )


def test_diagnosis_of_a_collapsed_search(searched):
    for value in searched[1].values:
        value.data = torch.zeros(len(value))
        value.data[-1] = 200.0
    found = diagnose(*searched)
    assert found["entropy"] == pytest.approx(0, abs=1e-6)
    assert found["skip_share"] == pytest.approx(1)


def log_of(folder, every=50, limit=None):
    return ArchitectureLog(folder, {}, limit, every)


def test_architecture_log(adaptation, tmp_path):
    module, data = adaptation.search()
    (tmp_path / "alphas.csv").write_text("left over from another run\n")
    logger = CSVLogger(tmp_path, name="", version="")
    adaptation.trainer(log_of(tmp_path, every=2), max_epochs=2, logger=logger).fit(module, data)

    table = rows(tmp_path / "alphas.csv")
    iterations = [int(row.pop("iteration")) for row in table]
    assert sorted(set(iterations)) == [0, 2, 3, 4, 6]
    assert iterations == sorted(iterations)
    assert len(table[0]) == 3 + 4 + 4 + 3 + 4
    for row in table:
        by_choice = {}
        for name, value in row.items():
            by_choice.setdefault(name.rpartition("/")[0], []).append(float(value))
        assert [sum(values) for values in by_choice.values()] == pytest.approx([1] * 5, abs=1e-5)
    last = [float(value) for value in table[-1].values()]
    assert last == pytest.approx(torch.cat(module.alphas.probabilities()).tolist(), abs=1e-6)
    assert "stages.2.0/k3_e2" in table[0]

    derived = module.choices.derive(module.cost.best_within(None, module.alphas.probabilities()))["backbone"]
    assert load_architecture(tmp_path / "architecture.yaml") == derived
    assert load_architecture(tmp_path / "architecture.txt") == derived.__class__.from_text(str(derived))
    metrics = [row for row in rows(tmp_path / "metrics.csv") if row["search/entropy"]]
    found = {name: float(metrics[-1][f"search/{name}"]) for name in ("entropy", "skip_share", "expected_madds")}
    assert found == pytest.approx(diagnose(module.choices, module.alphas, module.cost))
    assert not any(name.startswith("alpha/") for name in metrics[0])


def test_target_holds_for_what_is_written(adaptation, tmp_path):
    module, data = adaptation.search()
    cheapest = sum(row.min() for row in costs_of(module.cost)) + module.cost.fixed
    module, data = adaptation.search(target=cheapest * 1.2)
    adaptation.trainer(log_of(tmp_path, limit=cheapest * 1.2)).fit(module, data)
    from fna_lightning.backbones import build_backbone
    from fna_lightning.costs import count

    found = build_backbone(load_architecture(tmp_path / "architecture.yaml"), [3])
    assert count(found, (32, 32)).madds <= cheapest * 1.2


# Statistics


def test_calibration_is_the_mean_of_batch_statistics(adaptation):
    module, data = adaptation.train(), adaptation.data()
    adaptation.trainer(BatchNormCalibration(3), Stop(), max_epochs=1).fit(module, data)
    network = adaptation.train().network.train()
    stem = network.backbone.stages[0]
    means, variances = [], []
    for batch in list(data.train_dataloader())[:3]:
        with torch.no_grad():
            x = stem.conv(network.normalize(batch.images)).transpose(0, 1).flatten(1)
        means.append(x.mean(1))
        variances.append(x.var(1))
    found = module.network.backbone.stages[0].norm
    torch.testing.assert_close(found.running_mean, torch.stack(means).mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.running_var, torch.stack(variances).mean(0), rtol=1e-4, atol=1e-5)
    assert found.num_batches_tracked == 3
    assert {m.momentum for m in module.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


class Reversed:
    def __init__(self, loader):
        self.loader = loader

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        return reversed(list(self.loader))

    def set_epoch(self, epoch):
        self.loader.set_epoch(epoch)


def test_calibration_does_not_depend_on_order(adaptation):
    results = []
    for turn in (lambda loader: loader, Reversed):
        module, data = adaptation.train(dropout=0.0), adaptation.data()
        loader = data.train_dataloader
        data.train_dataloader = lambda loader=loader, turn=turn: turn(loader())
        one_pass = BatchNormCalibration(24 // 4)
        adaptation.trainer(one_pass, Stop(), max_epochs=1).fit(module, data)
        results.append([b.clone() for name, b in module.network.named_buffers() if "running" in name])
    for forwards, backwards in zip(*results, strict=True):
        torch.testing.assert_close(forwards, backwards, rtol=1e-4, atol=1e-5)


def test_calibration_takes_as_many_passes_as_it_needs(adaptation):
    """FNA's 2000 batches are more than a pass over Cityscapes has."""
    module, data = adaptation.train(dropout=0.0), adaptation.data()
    data.setup()
    loader = data.train_dataloader()
    number = len(loader) + 2
    adaptation.trainer(BatchNormCalibration(number), Stop(), max_epochs=1).fit(module, data)
    network = adaptation.train(dropout=0.0).network.train()
    stem, means = network.backbone.stages[0], []
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        for batch in loader:
            with torch.no_grad():
                means.append(stem.conv(network.normalize(batch.images)).transpose(0, 1).flatten(1).mean(1))
    found = module.network.backbone.stages[0].norm
    assert found.num_batches_tracked == number < len(means)
    torch.testing.assert_close(found.running_mean, torch.stack(means[:number]).mean(0), rtol=1e-4, atol=1e-5)


def test_calibration_moves_no_parameter(adaptation):
    module = adaptation.train()
    before = [parameter.detach().clone() for parameter in module.parameters()]
    adaptation.trainer(BatchNormCalibration(2), Stop(), max_epochs=1).fit(module, adaptation.data())
    assert all(torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True))


class Save(Callback):
    def on_train_epoch_end(self, trainer, *_):
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(f"{trainer.default_root_dir}/a.ckpt")


def test_calibration_happens_at_a_runs_start_alone(adaptation, tmp_path):
    module = adaptation.train()
    adaptation.trainer(BatchNormCalibration(2), Save(), max_epochs=2).fit(module, adaptation.data())
    other = adaptation.train()
    adaptation.trainer(BatchNormCalibration(2), max_epochs=2).fit(
        other, adaptation.data(), ckpt_path=str(tmp_path / "a.ckpt"), weights_only=True
    )
    wanted = module.state_dict()
    assert [name for name, value in other.state_dict().items() if not torch.equal(wanted[name], value)] == []


def test_architecture_log_goes_on_after_a_resume(adaptation, tmp_path):
    for epochs, start in ((1, None), (2, str(tmp_path / "a.ckpt"))):
        module, data = adaptation.search()
        adaptation.trainer(log_of(tmp_path, 3), Save(), max_epochs=epochs).fit(
            module, data, ckpt_path=start, weights_only=True
        )
    assert {int(row["iteration"]) for row in rows(tmp_path / "alphas.csv")} == {0, 3, 6}


def test_training_sees_the_same_batches_after_calibration(adaptation):
    class Images(Callback):
        def __init__(self):
            self.seen = []

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):  # noqa: ARG002
            self.seen.append(batch.images.clone())

    runs = []
    for callbacks in ([], [BatchNormCalibration(2)]):
        images = Images()
        adaptation.trainer(*callbacks, images, max_epochs=1).fit(adaptation.train(), adaptation.data())
        runs.append(images.seen)
    assert len(runs[0]) == len(runs[1]) == 6
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


# Time


class Slow(Callback):
    def on_train_batch_start(self, *_):
        time.sleep(0.02)

    def on_validation_start(self, *_):
        time.sleep(0.5)


def test_clock_counts_training_alone(adaptation):
    clock = Timekeeper()
    start = time.perf_counter()
    adaptation.trainer(Slow(), clock, max_epochs=2).fit(adaptation.train(), adaptation.data())
    assert clock.images == 2 * 24
    assert 12 * 0.02 <= clock.seconds <= time.perf_counter() - start - 2 * 0.5


class SaveAt(Callback):
    def on_train_batch_end(self, trainer, module, *_):
        if module.iteration == 3:
            trainer.save_checkpoint(f"{trainer.default_root_dir}/a.ckpt")


def test_clock_goes_on_in_the_middle_of_an_epoch(adaptation, tmp_path):
    adaptation.trainer(Timekeeper(), SaveAt(), max_epochs=1).fit(adaptation.train(), adaptation.data())
    before = torch.load(tmp_path / "a.ckpt", weights_only=True)["callbacks"]["Timekeeper"]
    clock, start = Timekeeper(), time.perf_counter()
    adaptation.trainer(clock, max_epochs=1).fit(
        adaptation.train(), adaptation.data(), ckpt_path=str(tmp_path / "a.ckpt"), weights_only=True
    )
    assert clock.images == 24
    assert before["seconds"] < clock.seconds < before["seconds"] + time.perf_counter() - start


def test_clock_counts_both_batches_of_a_search(adaptation):
    module, data = adaptation.search(weight_steps=2)
    clock = Timekeeper()
    adaptation.trainer(clock, max_epochs=2).fit(module, data)
    assert clock.images == (6 + 2) * 4
    clock.on_train_batch_end(None, module, None, SearchBatch(range(4), None), 0)
    assert clock.images == (6 + 2) * 4 + 4
