"""YOLOF by the entry points: trained, gone on with, scored, searched in both ways, and on a ResNet."""

import json
from pathlib import Path

import pytest
import torch
from entries import DETECTION

from fna_lightning.architectures import ResNetArchitecture, load_architecture, save_architecture
from fna_lightning.checkpoints import read_file

SMALL = (
    *(each for each in DETECTION if not each.startswith(("detector.", "trainer.max_epochs"))),
    "data=shapes_detection",
    "detector.channels=16",
    "detector.block_channels=8",
    "architecture=mobile_small",
)


def metrics(folder):
    return json.loads(Path(folder, "results.json").read_text())["metrics"]


@pytest.fixture
def given(runs):
    return [*SMALL, runs.detection, *runs.from_seed]


def test_training_going_on_and_scores(cli, given):
    train = ["experiment=bccd/yolof", *given, "schedule=multistep", "schedule.warmup_steps=1"]
    cli.start("train", *train, "trainer.max_epochs=1", "hydra.run.dir=run")
    cli.start("train", *train, "trainer.max_epochs=2", "hydra.run.dir=run", "resume=auto")
    cli.start("train", *train, "trainer.max_epochs=2", "hydra.run.dir=whole")
    found, wanted = (read_file(Path(name, "checkpoints", "last.ckpt"))["state_dict"] for name in ("run", "whole"))
    assert [name for name, value in wanted.items() if not torch.equal(value, found[name])] == []
    assert Path("run/metrics.csv").read_bytes() == Path("whole/metrics.csv").read_bytes()
    assert "network.encoder.blocks.3.1.0.weight" in found
    cli.start("evaluate", "checkpoint=run", "trainer.enable_progress_bar=false", "hydra.run.dir=scored")
    assert {name: metrics("scored")[name] for name in metrics("run")} == metrics("run")


@pytest.mark.parametrize("search", ["bilevel_bccd", "evolution"])
def test_searches(cli, given, search):
    """The last 1x1 convolution is in the network, and no choice of the search."""
    few = {
        "bilevel_bccd": ["search.warmup_epochs=1", "search.log_every=2"],
        "evolution": [
            *("search.generations=1", "search.population=2", "search.parents=1", "search.mutations=0"),
            *("search.crossovers=0", "search.statistics_batches=1", "search.share=0.25"),
        ],
    }[search]
    space = ["space.candidates=[k3_e3,k9_e9]", "cost.target=null", "cost.weight=0.01"]
    cli.start("search", "experiment=bccd/yolof_search", f"search={search}", *given, *few, *space,
              "trainer.max_epochs=2", "hydra.run.dir=found")  # fmt: skip
    state = read_file(Path("found/checkpoints/last.ckpt"))["state_dict"]
    base, found = load_architecture("mobile_small"), load_architecture("found")
    searched = {name.split(".")[3] for name in state if ".candidates." in name}
    assert searched == set("234567")
    assert state["network.backbone.stages.8.conv.weight"].shape == (base.head_width, 96, 1, 1)
    assert {str(layer) for stage in found.stages[1:] for layer in stage.operations} <= {"k3_e3", "k9_e9"}
    if search == "bilevel_bccd":
        cli.start("train", "experiment=bccd/yolof", *[each for each in given if "architecture" not in each],
                  "architecture=found", "trainer.max_epochs=1", "hydra.run.dir=run")  # fmt: skip
        assert load_architecture("run") == found


def test_on_a_resnet(cli, given):
    save_architecture(ResNetArchitecture("bottleneck", (1, 1, 1, 1)), "net.yaml")
    others = [each for each in given if not each.startswith(("architecture", "seed"))]
    cli.start("train", "experiment=bccd/yolof", *others, "architecture=net.yaml", "seed=none", "remap=random",
              "detector.strides=[last]", "trainer.max_epochs=1", "hydra.run.dir=run")  # fmt: skip
    state = read_file(Path("run/checkpoints/last.ckpt"))["state_dict"]
    assert state["network.encoder.project.0.0.weight"].shape == (16, 2048, 1, 1)


def test_a_resnet_has_no_last_1x1(cli, given, capsys):
    others = [each for each in given if not each.startswith(("architecture", "seed"))]
    with pytest.raises(SystemExit):
        cli.start("train", "experiment=bccd/yolof", *others, "architecture=resnet50", "seed=none", "remap=random")
    assert "error: detector.strides=['head']: the backbone has no map 'head': it has 2, 4, 8, 16, 32" in (
        capsys.readouterr().err
    )
