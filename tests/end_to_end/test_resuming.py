"""What may change where a run goes on, and what is refused in one line."""

import json
import shutil

import pytest
import torch
import yaml

from fna_lightning.checkpoints import read_file


@pytest.fixture
def refused(cli, capsys):
    """refused(entry, *overrides) -> the one line on stderr; nothing has been written."""

    def run(entry, *overrides):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.start(entry, *overrides, "hydra.run.dir=again")
        captured = capsys.readouterr()
        assert ended.value.code == 2
        (line,) = captured.err.strip().splitlines()
        assert "Traceback" not in captured.out + captured.err
        assert not (cli.here / "again" / "config.yaml").exists()
        return line.removeprefix("error: ")

    return run


@pytest.fixture
def commands(cli, runs):
    """The command lines of `runs`, by entry."""
    train = [*cli.detection, *runs.from_seed, f"architecture={runs.search}"]
    return {"train": train, "search": [*cli.search, *runs.from_seed]}


def replaced(command, *given):
    keys = {text.lstrip("+~").split("=")[0] for text in given}
    return [text for text in command if text.split("=")[0] not in keys] + list(given)


def settings(folder):
    return yaml.safe_load((folder / "config.yaml").read_text())


def iteration(folder):
    return read_file(folder / "checkpoints" / "last.ckpt")["iteration"]


CHANGED = [
    ("train", ["optimizer.lr=0.5"], ["optimizer.lr=0.5 (was 0.002)", "checkpoint={train}"]),
    ("train", ["schedule=poly"], ["schedule=poly (was cosine)"]),
    ("train", ["schedule.warmup_steps=7"], ["schedule.warmup_steps=7 (was 20)"]),
    ("train", ["optimizer=sgd"], ["optimizer=SGD (was AdamW)"]),
    ("train", ["data.batch_size=4"], ["data.batch_size=4 (was 2)"]),
    ("train", ["data.flip=0.25"], ["data.flip=0.25 (was 0.5)"]),
    ("train", ["data.repeat=3"], ["data.repeat=3 (was 1)"]),
    ("train", ["clip=3"], ["clip=3 (was 10)"]),
    ("train", ["random_seed=3"], ["random_seed=3 (was 0)", "data.random_seed=3 (was 0)"]),
    ("train", ["trainer.limit_train_batches=2"], ["trainer.limit_train_batches=2 (was 3)"]),
    ("train", ["trainer.max_epochs=3"], ["trainer.max_epochs=3 (was 2)"]),  # of a cosine
    ("train", ["detector.fpn_channels=16"], ["detector.fpn_channels=16 (was 8)", "seed.weights={train}"]),
    ("train", ["architecture=fna_retinanet"], ["architecture is another", "seed.weights={train}"]),
    ("train", ["remap=width_l1"], ["remap.strategy=width_l1 (was preserving)"]),
    ("train", ["seed.weights=imagenet", "seed=mobilenet_v2"], ["seed.weights=imagenet (was "]),
    (
        "train",
        ["optimizer.lr=1", "clip=3", "data.flip=0", "optimizer.weight_decay=1", "schedule.warmup_steps=1"],
        ["clip=3 (was 10); data.flip=0 (was 0.5); ", " and 1 more; "],
    ),
    ("search", ["search.weights.lr=0.5"], ["search.weights.lr=0.5 (was "]),
    ("search", ["search.share=0.4"], ["search.share=0.4 (was 0.5)", "begin anew without resume"]),
    ("search", ["cost.weight=0.5"], ["cost.weight=0.5 (was "]),
    ("search", ["space.candidates=[k3_e3]"], ['space.candidates=["k3_e3"] (was ["k3_e3", "k5_e6"])']),
]


@pytest.mark.parametrize(
    ("entry", "given", "words"), CHANGED, ids=lambda value: " ".join(value) if isinstance(value, list) else value
)
def test_what_cannot_change(refused, commands, runs, entry, given, words):
    folder = getattr(runs, entry)
    command = replaced(commands[entry], *given)
    line = refused(entry, *command, f"resume={folder}")
    assert line.startswith(f"resume={folder}: cannot change in a run that goes on: ")
    assert [word for word in words if word.format(train=runs.train) not in line] == []


def test_what_can(cli, commands, runs):
    """Of a run that is over, so that nothing but its score is computed anew."""
    moved = cli.here / "set"
    shutil.copytree(runs.folder / "detection", moved)
    given = [f"data.root={moved}", "data.num_workers=1", "data.check_images=none", "trainer.checkpoint_every=5"]
    given += ["trainer.on_nonfinite=skip", "trainer.log_every_n_steps=7", "logger=tensorboard", "data.prefetch=3"]
    cli.start("train", *replaced(commands["train"], *given), f"resume={runs.train}", "hydra.run.dir=again")
    assert iteration(cli.here / "again") if (cli.here / "again" / "checkpoints").exists() else True
    found, before = settings(cli.here / "again"), settings(runs.train)
    assert found["data"] == {
        **before["data"],
        **{"root": str(moved), "num_workers": 1, "check_images": "none", "prefetch": 3},
    }
    assert found["trainer"]["on_nonfinite"] == "skip"
    assert list(found["logger"]) == ["csv", "tensorboard"]
    scores = [
        json.loads((folder / "results.json").read_text())["metrics"] for folder in (cli.here / "again", runs.train)
    ]
    assert scores[0] == scores[1]


def test_a_run_that_is_over_is_whole_in_its_new_directory(cli, commands, runs):
    cli.start("train", *commands["train"], f"resume={runs.train}", "hydra.run.dir=again")
    assert iteration(cli.here / "again") == iteration(runs.train)
    cli.start("evaluate", "checkpoint=again", "hydra.run.dir=score")
    found, wanted = (json.loads((f / "results.json").read_text()) for f in (cli.here / "score", runs.train))
    assert {name: found["metrics"][name] for name in wanted["metrics"]} == wanted["metrics"]


@pytest.mark.parametrize("entry", ["train", "search"])
def test_fewer_epochs_than_there_were(refused, commands, runs, entry):
    folder = getattr(runs, entry)
    line = refused(entry, *replaced(commands[entry], "trainer.max_epochs=1"), f"resume={folder}")
    assert line == (
        f"resume={folder}: trainer.max_epochs=1, but the run is in its epoch 2 already; give 2 or more"
    )


def test_other_pictures_of_the_same_names(cli, commands, runs, capsys):
    shutil.copytree(runs.folder / "detection", cli.here / "set")
    first, *_, last = sorted((cli.here / "set" / "val2017").iterdir())
    shutil.copy(first, last)
    with pytest.raises(SystemExit):
        cli.start(
            "train", *replaced(commands["train"], "data.root=set"), f"resume={runs.train}", "hydra.run.dir=again"
        )
    assert "the validation set has as much in it" in capsys.readouterr().err


def test_more_epochs_where_the_schedule_counts_none(cli):
    short = replaced(
        cli.detection, "trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1"
    )
    short += ["schedule=multistep", "schedule.milestones=[1]"]
    long = replaced(short, "trainer.max_epochs=2")
    cli.start("train", *short, "hydra.run.dir=run")
    cli.start("train", *long, "hydra.run.dir=run", "resume=auto")
    cli.start("train", *long, "hydra.run.dir=whole")
    assert settings(cli.here / "run")["trainer"]["max_epochs"] == 2
    found, wanted = (read_file(cli.here / name / "checkpoints" / "last.ckpt") for name in ("run", "whole"))
    assert found["iteration"] == wanted["iteration"] == 4
    assert [
        name for name, value in wanted["state_dict"].items() if not torch.equal(value, found["state_dict"][name])
    ] == []
    assert (cli.here / "run" / "metrics.csv").read_bytes() == (cli.here / "whole" / "metrics.csv").read_bytes()


def test_the_run_of_another_entry(refused, commands, runs):
    line = refused("train", *commands["train"], f"resume={runs.search}")
    assert line == (
        f"resume={runs.search}: is a run of search.py, not of train.py; "
        f"train what it found by architecture={runs.search}"
    )
    line = refused("search", *commands["search"], f"resume={runs.train}")
    assert "is a run of train.py, not of search.py" in line
    assert f"seed.weights={runs.train}" in line


def test_bare_weights(refused, commands, runs, cli):
    content = read_file(runs.train / "checkpoints" / "last.ckpt")
    others = {key: value for key, value in content.items() if key not in ("iteration", "callbacks")}
    for name, weights, what in (
        ("state", content["state_dict"], "weights alone, without an optimiser's state"),
        ("wrapped", {"state_dict": content["state_dict"]}, "weights alone, without an optimiser's state"),
        ("lightnings", others, "another program, without callbacks"),
    ):
        torch.save(weights, cli.here / f"{name}.pth")
        assert refused("train", *commands["train"], f"resume={name}.pth") == (
            f"resume={name}.pth: is a file of {what} to go on from; begin a run from its weights by seed=custom "
            f"seed.weights={name}.pth"
        )


def test_a_checkpoint_away_from_its_run(refused, commands, runs, cli):
    shutil.copy(runs.train / "checkpoints" / "last.ckpt", cli.here / "alone.ckpt")
    assert "resume=alone.ckpt: no config.yaml in " in refused("train", *commands["train"], "resume=alone.ckpt")


@pytest.mark.parametrize("text", ["", "3", "a: [", "- 1"])
def test_a_broken_configuration(refused, commands, runs, cli, text):
    shutil.copytree(runs.train, cli.here / "run")
    (cli.here / "run" / "config.yaml").write_text(text)
    line = refused("train", *commands["train"], "resume=run")
    assert "run/config.yaml: is no run's configuration" in line


def test_the_checkpoint_of_another_run_in_its_place(cli, commands, runs, capsys):
    shutil.copytree(runs.train, cli.here / "run")
    shutil.copy(runs.search / "checkpoints" / "last.ckpt", cli.here / "run" / "checkpoints" / "last.ckpt")
    with pytest.raises(SystemExit) as ended:
        cli.start("train", *commands["train"], "resume=run", "hydra.run.dir=again")
    assert ended.value.code == 2
    assert "error: the checkpoint is of another network" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: c["categories"][0].update(name="moon"),
            "only the data set has 'moon', only the network has 'circle'",
        ),
        (lambda c: c["annotations"].pop(), "boxes, but had"),
        (
            lambda c: c["annotations"][0]["bbox"].__setitem__(2, 7.25),
            "but other pictures or annotations; give the same",
        ),
        (
            lambda c: c["annotations"][0].update(category_id=c["annotations"][0]["category_id"] % 4 + 1),
            "the training set has as much in it as when the run was begun, but other",
        ),
    ],
)
def test_another_set(cli, commands, runs, capsys, change, words):
    shutil.copytree(runs.folder / "detection", cli.here / "set")
    for name in ("train", "val"):
        file = cli.here / "set" / "annotations" / f"instances_{name}2017.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))
    with pytest.raises(SystemExit) as ended:
        cli.start(
            "train", *replaced(commands["train"], "data.root=set"), f"resume={runs.train}", "hydra.run.dir=again"
        )
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_an_evaluation_does_not_go_on(refused, runs):
    assert "an evaluation does not go on" in refused("evaluate", f"checkpoint={runs.train}", "resume=auto")


def test_old_runs_go_on(cli, commands, runs):
    """Settings and checkpoints from before there were strides, repeats, groups of parameters, names and counts."""
    for entry in ("train", "search"):
        folder = cli.here / entry
        shutil.copytree(getattr(runs, entry), folder)
        old = settings(folder)
        old["detector"] |= {"features": [3, 5, 7]}
        del old["detector"]["strides"], old["data"]["repeat"], old["data"]["augmentation"], old["parameters"]
        del old["trainer"]["max_nonfinite"], old["remap"]["calibration_batches"], old["random_seed"]
        if entry == "search":
            del old["search"]["_target_"], old["cost"]["quantity"], old["cost"]["limit"], old["train_with"]
        (folder / "config.yaml").write_text(yaml.safe_dump(old))
        content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("class_names", "data", "fingerprints", "processes"):
            del content[name]
        torch.save(content, folder / "checkpoints" / "last.ckpt")
        cli.start(entry, *commands[entry], f"hydra.run.dir={folder}", "resume=auto")
        assert "detector" in settings(folder)
