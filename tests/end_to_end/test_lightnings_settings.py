"""Settings of Lightning's that its users know: what they do here, or one line."""

import csv
import json

import pytest


def small(cli, *given):
    names = {text.lstrip("+").split("=")[0] for text in given}
    return [text for text in cli.detection if text.split("=")[0] not in names] + list(given)


def results(cli):
    return json.loads((cli.here / "run" / "results.json").read_text())


def scored_iterations(cli):
    with (cli.here / "run" / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row.get("val/mAP")]


def checkpoints(cli):
    return sorted(path.name for path in (cli.here / "run" / "checkpoints").iterdir())


def test_without_validation_there_is_no_score(cli, capsys):
    cli.start("train", *small(cli, "trainer.limit_val_batches=0", "hydra.run.dir=run"))
    assert results(cli)["metrics"] == {"mAP": None}
    assert results(cli)["objective"] is None
    assert checkpoints(cli) == ["last.ckpt"]
    assert scored_iterations(cli) == []
    assert "mAP" in capsys.readouterr().out
    assert (cli.here / "run" / "report.html").exists()


@pytest.mark.parametrize(
    ("setting", "scored"),
    [
        ("trainer.check_val_every_n_epoch=2", [6]),
        ("trainer.check_val_every_n_epoch=3", []),
        ("+trainer.val_check_interval=0.5", [1, 2, 3, 4, 5, 6]),  # half of three batches, rounded down
        ("+trainer.val_check_interval=2", [2, 5]),
    ],
)
def test_validation_when_it_is_asked_for(cli, setting, scored):
    cli.start("train", *small(cli, setting, "trainer.limit_val_batches=1", "hydra.run.dir=run"))
    assert scored_iterations(cli) == scored
    assert checkpoints(cli) == (["best.ckpt", "last.ckpt"] if scored else ["last.ckpt"])
    assert results(cli)["metrics"]["mAP"] is not None


@pytest.mark.parametrize(
    ("entry", "given", "words"),
    [
        ("train", "trainer.limit_train_batches=0.01", "0.01 * 8 < 1"),
        ("train", "trainer.limit_val_batches=0.01", "0.01 * 2 < 1"),
        ("train", "+trainer.val_check_interval=4", "val_check_interval=4: an epoch has 3 batches; give no more"),
        ("evaluate", "trainer.limit_val_batches=0", "nothing would be scored"),
    ],
)
def test_nothing_to_do(cli, runs, capsys, entry, given, words):
    settings = small(cli, given) if entry == "train" else [f"checkpoint={runs.train}", given]
    with pytest.raises(SystemExit) as ended:
        cli.start(entry, *settings, "hydra.run.dir=run")
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: trainer")
    assert words in line
