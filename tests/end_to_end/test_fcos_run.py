"""FCOS by the entry points, and runs from before biases had a rule."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from entries import DETECTION

FCOS = ("detector=fcos", "trainer.max_epochs=1")
QUIET = ("trainer.enable_progress_bar=false", "hydra.run.dir=scored")


def settings():
    return [each for each in DETECTION if "max_epochs" not in each]


def metrics(folder):
    return json.loads(Path(folder, "results.json").read_text())["metrics"]


def groups(folder):
    """(rate, decay, tensors) of the optimiser's groups."""
    state = torch.load(Path(folder, "checkpoints", "last.ckpt"), weights_only=True)["optimizer_states"][0]
    return [(group["initial_lr"], group["weight_decay"], len(group["params"])) for group in state["param_groups"]]


def test_training_and_scores(cli, runs):
    rule = ("parameters.bias_lr_factor=2", "parameters.bias_decay=false")
    cli.start("train", *settings(), runs.detection, *runs.from_seed, *FCOS, *rule, "hydra.run.dir=run")
    cli.start("evaluate", "checkpoint=run", *QUIET)
    assert {name: metrics("scored")[name] for name in metrics("run")} == metrics("run")
    found = groups("run")
    assert len(found) == 4  # backbone and the rest, weights and biases of each
    rate = found[0][0]
    biases = sum(number for lr, decay, number in found if (lr, decay) == (2 * rate, 0))
    weights = sum(number for lr, decay, number in found if lr == rate and decay > 0)
    state = torch.load("run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert biases == sum(name.endswith("bias") for name in state)
    assert {"network.head.scales", "network.head.towers.box.0.weight"} <= set(state)
    assert weights + biases == sum(number for _, _, number in found)


def test_runs_from_before_biases_had_a_rule(cli, runs):
    given = (*settings(), runs.detection, *runs.from_seed, "schedule=multistep", "trainer.max_epochs=1")
    cli.start("train", *given, "hydra.run.dir=run")
    assert len(groups("run")) == 1
    path = Path("run/config.yaml")
    config = yaml.safe_load(path.read_text())
    for group, names in {"parameters": ("bias_lr_factor", "bias_decay"), "schedule": ("warmup",),
                         "detector": ("tower_channels", "tower_cells")}.items():  # fmt: skip
        for name in names:
            del config[group][name]
    path.write_text(yaml.safe_dump(config))
    cli.start("evaluate", "checkpoint=run", *QUIET)
    assert metrics("scored")["mAP"] == pytest.approx(metrics("run")["mAP"])
    more = [each for each in given if "max_epochs" not in each]
    cli.start("train", *more, "trainer.max_epochs=2", "resume=run", "hydra.run.dir=on")
    assert len(groups("on")) == 1
