"""From a seed to an adapted detector, and what every run leaves behind."""

import csv
import json
import shlex

import pytest
import torch
import yaml

from fna_lightning.architectures import load_architecture, parse_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.checkpoints import load_seed
from fna_lightning.costs import count

LEFT = {
    "config.yaml",
    "architecture.yaml",
    "architecture.txt",
    "metrics.csv",
    "results.json",
    "report.html",
    "checkpoints",
    "remapping.csv",
}
TWELVE = ["mAP", "mAP_50", "mAP_75", "mAP_small", "mAP_medium", "mAP_large"]


def results(folder):
    return json.loads((folder / "results.json").read_text())


def tensors(folder, name="last"):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def same_tensors(one, two):
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


@pytest.mark.parametrize("name", ["seed", "search", "train"])
def test_run_directories(runs, name):
    folder = getattr(runs, name)
    found = {path.name for path in folder.iterdir()}
    assert found >= LEFT
    assert found >= ({"alphas.csv", "search.log"} if name == "search" else {"train.log"})
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert (folder / "checkpoints" / "best.ckpt").is_file() == (name != "search")
    assert load_architecture(folder / "architecture.yaml") == parse_architecture(
        (folder / "architecture.txt").read_text()
    )
    assert "<html" in (folder / "report.html").read_text()
    assert not [path for path in folder.rglob("*") if path.name.startswith(".") and path.name != ".hydra"]


@pytest.mark.parametrize("name", ["seed", "search", "train"])
def test_results(runs, name):
    found = results(getattr(runs, name))
    assert set(found) >= {"metrics", "cost", "time", "memory", "software", "config_hash"}
    assert found["entry"] == ("search" if name == "search" else "train")
    assert found["cost"]["input_size"] == [64, 64]
    assert found["cost"]["madds"] > 0
    assert found["time"]["training_seconds"] > 0
    assert found["time"]["images_per_second"] > 0
    assert found["memory"]["peak_bytes"] > 1e6
    assert set(found["software"]) >= {"torch", "lightning", "device", "git_revision"}
    wanted = {
        "seed": ["accuracy"],
        "search": ["entropy", "skip_share", "expected_madds"],
        "train": TWELVE,
    }[name]
    assert set(found["metrics"]) >= set(wanted)


def test_config_is_whole_and_plain(runs):
    for name in ("search", "train"):
        config = yaml.safe_load((getattr(runs, name) / "config.yaml").read_text())
        assert config["architecture"]["kind"] == "mobile"
        assert "path" not in config["architecture"]
        assert "???" not in str(config)


def test_search_cost_is_that_of_the_derived_backbone(runs):
    found = load_architecture(runs.search)
    cost = count(build_backbone(found, [3, 5, 7]), (64, 64))
    assert results(runs.search)["cost"]["madds"] == cost.madds
    assert results(runs.search)["cost"]["params"] == cost.params


def test_search_starts_from_the_seed(runs):
    table = rows(runs.search / "remapping.csv")
    assert {row["how"] for row in table} <= {"copied", "resized", "refitted", "zero"}
    assert len(rows(runs.search / "alphas.csv")) >= 5


def test_training_uses_the_found_architecture_and_the_seed(runs):
    assert load_architecture(runs.train) == load_architecture(runs.search)
    table = rows(runs.train / "remapping.csv")
    assert {row["how"] for row in table} <= {"copied", "resized", "refitted", "zero"}


def test_a_seed_is_read_from_its_run_directory(runs):
    seed = load_seed(runs.seed)
    assert seed.architecture == load_architecture("mobile_small")
    trained = tensors(runs.seed)
    for name, value in seed.state.items():
        assert torch.equal(trained[f"network.backbone.{name}"], value)


def test_metrics_are_logged(runs):
    search, train = rows(runs.search / "metrics.csv"), rows(runs.train / "metrics.csv")
    assert {"search/entropy", "search/skip_share", "search/expected_madds", "weight/loss", "arch/cost"} <= set(
        search[0]
    )
    assert {"train/loss", "val/mAP"} <= set(train[0])


def test_evaluation_gives_the_figures_of_the_training(runs, cli):
    cli.start("evaluate", f"checkpoint={runs.train}", "hydra.run.dir=e", "trainer.enable_progress_bar=false")
    found, wanted = results(cli.here / "e")["metrics"], results(runs.train)["metrics"]
    assert {name: found[name] for name in wanted} == wanted
    assert results(cli.here / "e")["cost"] == results(runs.train)["cost"]
    detections = json.loads((cli.here / "e" / "detections.json").read_text())
    assert isinstance(detections, list)
    assert {"report.html", "config.yaml"} <= {path.name for path in (cli.here / "e").iterdir()}


def test_evaluation_by_the_other_library(runs, cli):
    cli.start(
        "evaluate",
        f"checkpoint={runs.train / 'checkpoints' / 'last.ckpt'}",
        "task.backend=pycocotools",
        "data.batch_size=3",
        "hydra.run.dir=e",
        "trainer.enable_progress_bar=false",
    )
    found, wanted = results(cli.here / "e")["metrics"], results(runs.train)["metrics"]
    assert {name: found[name] for name in TWELVE} == pytest.approx(
        {name: wanted[name] for name in TWELVE}, abs=1e-9
    )


def same_run(one, two, entry):
    assert results(one)["metrics"] == results(two)["metrics"]
    assert results(one)["config_hash"] == results(two)["config_hash"]
    for name in ("architecture.yaml", "architecture.txt", "config.yaml", "remapping.csv"):
        assert (one / name).read_text() == (two / name).read_text(), name
    if entry == "search":
        assert (one / "alphas.csv").read_text() == (two / "alphas.csv").read_text()
    same_tensors(tensors(one), tensors(two))


@pytest.mark.parametrize("entry", ["search", "train"])
def test_a_run_can_be_repeated_from_its_config(runs, cli, entry):
    folder = getattr(runs, entry)
    cli.start(entry, "--config-dir", str(folder), "--config-name", "config", "hydra.run.dir=again")
    same_run(folder, cli.here / "again", entry)


def test_worker_processes_change_nothing(runs, cli):
    cli.start("search", *cli.search, *runs.from_seed, "data.num_workers=2", "hydra.run.dir=again")
    assert (cli.here / "again" / "alphas.csv").read_text() == (runs.search / "alphas.csv").read_text()
    same_tensors(tensors(cli.here / "again"), tensors(runs.search))


def test_another_seed_of_chance_is_another_run(runs, cli):
    cli.start("search", *cli.search, *runs.from_seed, "random_seed=1", "hydra.run.dir=other")
    assert (cli.here / "other" / "alphas.csv").read_text() != (runs.search / "alphas.csv").read_text()


@pytest.mark.parametrize("entry", ["search", "train"])
def test_resume(runs, cli, entry):
    """One epoch, then another: the same as two."""
    given, whole = (*cli.search, *runs.from_seed), runs.search
    if entry == "train":
        # Not cosine, which would come down within the first run's one epoch.
        given = (*cli.detection, *runs.from_seed, f"architecture={runs.search}", "schedule=multistep")
        whole = cli.here / "whole"
        cli.start(entry, *given, f"hydra.run.dir={whole}")
    cli.start(
        entry, *(text for text in given if "max_epochs" not in text), "trainer.max_epochs=1", "hydra.run.dir=first"
    )
    cli.start(entry, *given, "resume=first", "hydra.run.dir=second")
    same_tensors(tensors(cli.here / "second"), tensors(whole))
    assert results(cli.here / "second")["metrics"] == results(whole)["metrics"]
    assert not (cli.here / "second" / "remapping.csv").exists()


def test_resuming_in_place_keeps_what_was_logged(runs, cli):
    given = (*(text for text in cli.search if "max_epochs" not in text), *runs.from_seed, "hydra.run.dir=run")
    cli.start("search", *given, "trainer.max_epochs=1")
    remapping = (cli.here / "run" / "remapping.csv").read_text()
    cli.start("search", *given, "trainer.max_epochs=2", "resume=run")
    metrics = rows(cli.here / "run" / "metrics.csv")
    assert sorted({int(row["step"]) for row in metrics if row["weight/loss"]}) == list(range(1, 7))
    assert {int(row["iteration"]) for row in rows(cli.here / "run" / "alphas.csv")} == {0, 2, 3, 4, 6}
    assert (cli.here / "run" / "remapping.csv").read_text() == remapping
    same_tensors(tensors(cli.here / "run"), tensors(runs.search))


def test_remapping_from_the_supernet(runs, cli):
    cli.start(
        "train",
        *cli.detection,
        *runs.from_seed,
        f"architecture={runs.search}",
        "remap.source=mixed",
        f"remap.supernet={runs.search}",
        "remap.calibration_batches=2",
        "trainer.max_epochs=1",
        "hydra.run.dir=mixed",
    )
    sources = {row["source"] for row in rows(cli.here / "mixed" / "remapping.csv")}
    assert any(".candidates." in source for source in sources)
    assert any(source.endswith("running_mean") for source in sources)


def test_training_goes_on_from_all_parameters_of_a_run(runs, cli):
    cli.start(
        "train",
        *cli.detection,
        *runs.from_seed,
        f"architecture={runs.search}",
        f"checkpoint={runs.train}",
        "optimizer.lr=0",
        "optimizer.weight_decay=0",
        "trainer.max_epochs=1",
        "hydra.run.dir=on",
    )
    wanted = {
        name: value
        for name, value in tensors(runs.train).items()
        if "running" not in name and "tracked" not in name
    }
    found = tensors(cli.here / "on")
    same_tensors({name: found[name] for name in wanted}, wanted)


def test_seed_network_under_the_same_budget(runs, cli):
    cli.start("train", *cli.detection, *runs.from_seed, "hydra.run.dir=seed", "trainer.max_epochs=1")
    assert load_architecture(cli.here / "seed") == load_architecture("mobile_small")
    assert {row["how"] for row in rows(cli.here / "seed" / "remapping.csv")} == {"copied"}
    cli.start("train", *cli.detection, "remap=random", "hydra.run.dir=random", "trainer.max_epochs=1")
    assert {row["how"] for row in rows(cli.here / "random" / "remapping.csv")} == {"own initialisation"}


SHORT = (
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=1",
    "trainer.limit_val_batches=1",
    "trainer.log_every_n_steps=1",
)


def test_tensorboard(cli):
    cli.start("search", *cli.search, *SHORT, "logger=tensorboard", "search.warmup_epochs=0", "hydra.run.dir=r")
    assert list((cli.here / "r" / "tensorboard").rglob("events.out.tfevents.*"))
    assert (cli.here / "r" / "metrics.csv").is_file()


def test_wandb_offline(cli, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(cli.here))
    cli.start("search", *cli.search, *SHORT, "logger=wandb", "search.warmup_epochs=0", "hydra.run.dir=r")
    assert list((cli.here / "r").rglob("*.wandb"))
    assert (cli.here / "r" / "metrics.csv").is_file()


def test_last_lines(runs, cli, capsys):
    """The result in a table, where the files are, and the next command, which runs."""
    cli.start("search", *cli.search, *SHORT, *runs.from_seed, "hydra.run.dir=a search")
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[-2] == "Next:"
    assert lines[-1].startswith("python train.py experiment=demo/train")
    words = shlex.split(lines[-1])[2:]
    cli.start(
        "train",
        *words,
        "hydra.run.dir=next",
        *SHORT,
        "trainer.enable_progress_bar=false",
        "cost.input_size=[64,64]",
    )
    assert load_architecture(cli.here / "next") == load_architecture(cli.here / "a search")
    assert capsys.readouterr().out.strip().splitlines()[-1] == "python evaluate.py checkpoint=next"


def test_sweep(runs, cli, capsys):
    cli.start("train", "-m", "remap=fna,random", *cli.detection, *runs.from_seed, *SHORT, "hydra.sweep.dir=sweep")
    assert {path.name for path in (cli.here / "sweep").iterdir()} >= {"0", "1", "sweep.csv"}
    table = rows(cli.here / "sweep" / "sweep.csv")
    assert [row["status"] for row in table] == ["finished", "finished"]
    assert "remap=random" in capsys.readouterr().out
