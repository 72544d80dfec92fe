import hashlib
import json
import math
import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import fna_lightning
from fna_lightning.costs import Cost
from fna_lightning.errors import UserError
from fna_lightning.reporting.results import config_hash, monitored, read_results, write_results


def write(folder, config=None, **changes):
    settings = {"entry": "train", "metrics": {"mAP": 0.25}, "cost": Cost(10, 20), "input_size": (32, 48),
                "seconds": 4.0, "images": 10, "config": config or {"a": 1}}  # fmt: skip
    return write_results(folder, **(settings | changes))


def test_written_results_are_read_back(tmp_path):
    results = write(tmp_path)
    assert read_results(tmp_path) == results
    assert results["entry"] == "train"
    assert results["metrics"] == {"mAP": 0.25}
    assert results["cost"] == {"madds": 10, "params": 20, "input_size": [32, 48]}
    assert results["time"] == {"training_seconds": 4.0, "images_per_second": 2.5}
    assert results["memory"]["device"] in ("cpu", "cuda")
    assert results["memory"]["peak_bytes"] > 50e6  # torch alone takes more
    assert results["software"]["fna_lightning"] == fna_lightning.__version__
    assert {"python", "torch", "torchvision", "lightning", "device", "git_revision"} <= set(results["software"])


def test_values_that_json_does_not_know_become_null(tmp_path):
    results = write(tmp_path, metrics={"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1})
    assert results["metrics"] == {"a": None, "b": None, "c": None, "d": 1}
    json.loads((tmp_path / "results.json").read_text(), parse_constant=lambda name: pytest.fail(name))


def test_nothing_counted_and_no_time(tmp_path):
    results = write(tmp_path, cost=None, input_size=None, seconds=0.0)
    assert results["cost"] == {"madds": None, "params": None, "input_size": None}
    assert results["time"]["images_per_second"] is None


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    write(tmp_path)
    before = (tmp_path / "results.json").read_bytes()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, metrics={"mAP": 0.9})
    assert (tmp_path / "results.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"entry": "train", "met', "JSON"),
        ("[1]", "mapping"),
        ('{"metrics": 3}', "metrics"),
        ('{"metrics": {"mAP": "high"}, "cost": {}, "time": {}, "memory": {}, "software": {}}', "metrics.mAP"),
        ("\udcff", "JSON"),
    ],
)
def test_a_broken_file_is_named(tmp_path, text, word):
    (tmp_path / "results.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=word) as error:
        read_results(tmp_path)
    assert str(tmp_path / "results.json") in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_results(tmp_path)


def test_hash_is_of_canonical_json():
    assert config_hash({"b": [1, 2.5], "a": None}) == hashlib.sha256(b'{"a":null,"b":[1,2.5]}').hexdigest()


def test_hash_knows_neither_order_nor_place():
    here = {"a": {"x": 1, "y": [1, 2]}, "b": "t", "paths": {"output": "/here"}, "hydra": {"run": 1}}
    there = {"paths": {"output": "/there"}, "b": "t", "a": {"y": [1, 2], "x": 1}}
    assert config_hash(here) == config_hash(there)
    # Only at the top: a setting of the same name further down counts.
    assert config_hash({"a": {"paths": 1}}) != config_hash({"a": {"paths": 2}})
    assert config_hash({"a": [1, 2]}) != config_hash({"a": [2, 1]})


def test_hash_takes_what_hydra_gives():
    config = OmegaConf.create({"a": {"x": [1, 2]}, "b": "${a.x}", "p": Path("data")})
    assert config_hash(config) == config_hash({"p": "data", "b": [1, 2], "a": {"x": [1, 2]}})


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["loss", "accuracy", "mAP"], "mAP"), (["x", "accuracy", "mIoU"], "mIoU"), (["z", "a"], "z"), ([], None)],
)
def test_monitored_metric(names, expected):
    assert monitored(dict.fromkeys(names, 0.0)) == expected


def test_revision_needs_no_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert write(tmp_path)["software"]["git_revision"] is None
