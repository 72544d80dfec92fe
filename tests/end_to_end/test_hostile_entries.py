"""Whatever file is handed to an entry point, nothing in it runs: one line, exit code 2."""

import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import OmegaConf


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path):
    """The file that is there as soon as something hostile has run."""
    return tmp_path / "it_ran"


@pytest.fixture
def trap(marker, tmp_path, monkeypatch):
    """Name of a function that can be imported and leaves the marker when it is called, with whatever."""
    (tmp_path / "modules").mkdir()
    code = f"from pathlib import Path\ndef spring(*_, **__):\n    Path({str(marker)!r}).touch()\n"
    (tmp_path / "modules" / "trap_of_this_test.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    yield "trap_of_this_test.spring"
    sys.modules.pop("trap_of_this_test", None)


@pytest.fixture
def refused(cli, capsys, marker):
    """refused(entry, *overrides) -> the one line; nothing hostile has run."""

    def run(entry, *overrides):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.start(entry, *overrides)
        captured = capsys.readouterr()
        assert ended.value.code == 2
        lines = captured.err.strip().splitlines()
        assert len(lines) == 1, captured.err
        assert lines[0].startswith("error: ")
        assert not marker.exists()
        return lines[0]

    return run


def loads(path, marker):
    """Whether the file runs what is in it when it is loaded without care."""
    assert not marker.exists()
    if path.suffix == ".pkl":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    return marker.exists()


@pytest.fixture
def weights(cli, marker):
    """weights(suffix, folder): a weight file that runs code when it is unpickled."""

    def write(suffix, folder=cli.here):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"last{suffix}"
        tensors = {"network.head.weight": torch.zeros(2)}
        torch.save({"state_dict": tensors, "epoch": 0, "global_step": 0, "loops": Hostile(marker)}, path)
        return path

    return write


READERS = {
    "seed.weights": ("train", ["seed=custom", "seed.weights={}"]),
    "seed.weights of a search": ("search", ["seed=custom", "seed.weights={}"]),
    "checkpoint": ("train", ["checkpoint={}"]),
    "resume": ("train", ["resume={}"]),
    "resume of a search": ("search", ["resume={}"]),
    "remap.supernet": ("train", ["remap.source=supernet", "remap.supernet={}"]),
    "evaluation's checkpoint": ("evaluate", ["checkpoint={}"]),
}


@pytest.mark.parametrize("suffix", [".ckpt", ".pth"])
@pytest.mark.parametrize("reader", READERS)
def test_weights(refused, cli, runs, weights, marker, reader, suffix):
    entry, overrides = READERS[reader]
    path = weights(suffix, cli.here / "handed over" / "checkpoints")
    shutil.copy(runs.train / "config.yaml", cli.here / "handed over")
    small = {"train": cli.detection, "search": cli.search, "evaluate": ()}[entry]
    line = refused(entry, *small, *(text.format(f"'{path}'") for text in overrides), "hydra.run.dir=run")
    assert f"{path}: holds objects other than tensors and plain data" in line
    assert loads(path, marker)


@pytest.mark.parametrize("key", ["seed.weights", "checkpoint", "resume"])
def test_run_directories_with_hostile_checkpoints(refused, cli, weights, marker, key):
    path = weights(".ckpt", cli.here / "handed_over" / "checkpoints")
    more = ["seed=custom"] if key == "seed.weights" else []
    line = refused("train", *cli.detection, *more, f"{key}={cli.here / 'handed_over'}", "hydra.run.dir=run")
    assert "last.ckpt: holds objects" in line
    assert loads(path, marker)


def architectures(marker):
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    return {
        "text": ("net.txt", f"[[8, 6], [{code}], 1]", lambda text: eval(text)),
        "yaml": (
            "net.yaml",
            f"kind: mobile\nstem: !!python/object/apply:os.open [{marker}, {os.O_CREAT}]\n",
            lambda text: yaml.unsafe_load(text),
        ),
        "target": (
            "net.yaml",
            yaml.safe_dump({"kind": "mobile", "_target_": "pathlib.Path.touch", "_args_": [str(marker)]}),
            lambda _: marker.touch(),
        ),
    }


@pytest.mark.parametrize("form", ["text", "yaml", "target"])
@pytest.mark.parametrize("key", ["architecture", "seed.architecture"])
def test_architectures(refused, cli, runs, marker, key, form):
    name, text, run = architectures(marker)[form]
    (cli.here / name).write_text(text)
    more = runs.from_seed if key == "seed.architecture" else []
    line = refused("train", *cli.detection, *more, f"{key}={name}", "hydra.run.dir=run")
    assert name in line
    run(text)
    assert marker.exists()


def test_annotations(refused, cli, marker):
    """JSON cannot run anything; a pickle under its name is not read as one."""
    for split in ("train", "val"):
        (cli.here / "set" / split).mkdir(parents=True)
        (cli.here / "set" / f"{split}.json").write_bytes(pickle.dumps(Hostile(marker)))
    keys = [f"data.{split}_{kind}" for split in ("train", "val") for kind in ("annotations", "images")]
    files = ["train.json", "train", "val.json", "val"]
    small = [text for text in cli.detection if not text.startswith("data.")]
    given = [f"{key}={file}" for key, file in zip(keys, files, strict=True)]
    line = refused("train", *small, "data=coco", f"data.root={cli.here / 'set'}", *given, "hydra.run.dir=run")
    assert "train.json" in line
    pickle.loads((cli.here / "set" / "train.json").read_bytes())
    assert marker.exists()


@pytest.fixture
def handed_over(runs, cli):
    """handed_over(changes): a finished run's directory whose config.yaml says something else in places."""

    def write(changes):
        folder = cli.here / "handed_over"
        shutil.copytree(runs.train, folder)
        config = OmegaConf.load(folder / "config.yaml")
        for key, value in changes.items():
            OmegaConf.update(config, key, value, force_add=True)
        OmegaConf.save(config, folder / "config.yaml")
        return folder

    return write


PLACES = {
    "the data set": {"data._target_": "TRAP"},
    "something nested": {"detector.features": [3, {"_target_": "TRAP"}]},
    "a new key": {"task.more": {"_target_": "TRAP"}},
    "the optimiser, built later": {"optimizer": {"_target_": "TRAP", "_partial_": True}},
    "an interpolation": {"schedule": "${oc.create:{_target_: TRAP}}"},
}
OF_HYDRA = {
    "a callback of Hydra's": {"hydra.callbacks.x._target_": "TRAP"},
    "a callback by interpolation": {"hydra.callbacks.x": "${oc.create:{_target_: TRAP}}"},
    "a callback's argument": {
        "hydra.callbacks.x": {"_target_": "fna_lightning.reporting.sweep.SweepSummary", "a": {"_target_": "TRAP"}}
    },
    "a log handler": {"hydra.job_logging.handlers.file": {"()": "TRAP"}},
    "a log handler's class": {"hydra.job_logging.handlers.file.class": "TRAP"},
    "a log formatter": {"hydra.job_logging.formatters.simple": {"()": "TRAP"}},
    "Hydra's own log": {"hydra.hydra_logging.handlers.console": {"()": "TRAP"}},
    "a stream": {"hydra.job_logging.handlers.console.stream": "ext://trap_of_this_test.spring"},
}


def with_trap(changes, trap):
    return json.loads(json.dumps(changes).replace("TRAP", trap))


@pytest.mark.parametrize("place", [*PLACES, *OF_HYDRA])
def test_configurations_handed_over(refused, cli, handed_over, trap, marker, place):
    folder = handed_over(with_trap((PLACES | OF_HYDRA)[place], trap))
    line = refused("train", "--config-dir", str(folder), "--config-name", "config", "hydra.run.dir=run")
    assert trap in line
    assert not (cli.here / "run").exists()
    __import__("trap_of_this_test").spring()
    assert marker.exists()


@pytest.mark.parametrize("place", PLACES)
def test_evaluation_of_a_run_handed_over(refused, handed_over, trap, place):
    folder = handed_over(with_trap(PLACES[place], trap))
    assert trap in refused("evaluate", f"checkpoint={folder}", "hydra.run.dir=run")


def test_a_recipe_from_somewhere_else(refused, cli, trap):
    folder = cli.here / "recipes" / "experiment"
    folder.mkdir(parents=True)
    (folder / "theirs.yaml").write_text(
        f"# @package _global_\nhydra:\n  callbacks:\n    x:\n      _target_: {trap}\n"
    )
    for more in ([], ["-m"], ["--cfg", "job"]):
        line = refused(
            "train", *more, "--config-dir", str(cli.here / "recipes"), "experiment=theirs", "hydra.run.dir=run"
        )
        assert f"hydra.callbacks.x._target_={trap}" in line
    assert not (cli.here / "run").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hydra.job.env_set": {"LD_PRELOAD": "theirs.so"}}, "hydra.job.env_set.LD_PRELOAD=theirs.so"),
        ({"hydra.job.env_set": {"FNA_LIGHTNING_ALLOW": "os"}}, "hydra.job.env_set.FNA_LIGHTNING_ALLOW=os"),
        ({"hydra.job_logging.handlers.file.filename": "other"}, "handlers.file.filename=other"),
        ({"hydra.launcher": {"_target_": "hydra_plugins.x.Y"}}, "hydra/launcher=<name>"),
        ({"hydra.sweeper": {"_target_": "hydra_plugins.x.Y"}}, "hydra/sweeper=<name>"),
        ({"hydra.overrides.hydra": ["hydra/launcher=x"]}, "hydra.overrides"),
    ],
    ids=str,
)
def test_other_powers_of_hydra(refused, handed_over, changes, words):
    folder = handed_over(changes)
    line = refused("train", "--config-dir", str(folder), "--config-name", "config", "hydra.run.dir=run")
    assert words in line
    assert "LD_PRELOAD" not in os.environ


def test_pickled_jobs_are_not_read(refused, cli, marker):
    path = cli.here / "config.pkl"
    path.write_bytes(pickle.dumps(Hostile(marker)))
    assert "a pickle can run code" in refused("train", "--experimental-rerun", str(path))
    assert loads(path, marker)


def test_a_run_directory_runs_again(cli, runs):
    """What is refused above is refused for what it holds: the same directory, unchanged, is taken."""
    cli.start(
        "train",
        "--config-dir",
        str(runs.train),
        "--config-name",
        "config",
        "hydra.run.dir=run",
        "trainer.max_epochs=1",
    )
    assert (cli.here / "run" / "results.json").is_file()


def test_a_package_that_the_user_trusts(cli, handed_over, tmp_path, monkeypatch):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "trusted_of_this_test.py").write_text(
        "from torch.optim import AdamW\nclass Slow(AdamW):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "modules")
    folder = handed_over({"optimizer._target_": "trusted_of_this_test.Slow"})
    given = ["--config-dir", str(folder), "--config-name", "config", "hydra.run.dir=run", "trainer.max_epochs=1"]
    with pytest.raises(SystemExit):
        cli.start("train", *given)
    monkeypatch.setenv("FNA_LIGHTNING_ALLOW", "trusted_of_this_test")
    cli.start("train", *given)
    assert (cli.here / "run" / "results.json").is_file()
    sys.modules.pop("trusted_of_this_test", None)
