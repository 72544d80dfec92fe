"""A ResNet as a detector's backbone, from torchvision's weights, with its first stages and all its norms fixed."""

import json
from pathlib import Path

import pytest
import torch
from entries import DETECTION, start
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock

from fna_lightning.architectures import ResNetArchitecture, save_architecture
from fna_lightning.checkpoints import load_seed

GIVEN = (
    *(each for each in DETECTION if not each.startswith("detector.")),
    *("experiment=demo/train", "detector=faster_rcnn", "~detector.head_depth", "detector.fpn_channels=8"),
    *(
        "detector.box_width=16",
        "detector.test_proposals=20",
        "trainer.max_epochs=1",
        "remap.calibration_batches=1",
    ),
    *("architecture=net.yaml", "seed=custom", "seed.weights=resnet.pth"),
)


def results(folder):
    return json.loads(Path(folder, "results.json").read_text())


@pytest.fixture
def state(tmp_path, monkeypatch, randomise):
    """Torchvision's weights of a small ResNet, which also lie in the working directory with its architecture."""
    monkeypatch.chdir(tmp_path)
    save_architecture(ResNetArchitecture("basic", (1, 1, 1, 1)), tmp_path / "net.yaml")
    network = randomise(ResNet(BasicBlock, [1, 1, 1, 1]))
    torch.save(network.state_dict(), tmp_path / "resnet.pth")
    return network.state_dict()


def test_fixed_parts_are_the_seeds_to_the_end(state):
    start("train", *GIVEN, "parameters.frozen_stages=2", "parameters.frozen_norms=true", "hydra.run.dir=a")
    trained = torch.load("a/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    backbone = {
        name.removeprefix("network.backbone."): value for name, value in trained.items() if "backbone" in name
    }
    moved = {name for name, value in backbone.items() if not torch.equal(value, state[name])}
    norms = ("bn", "downsample.1")
    assert moved == {name for name in backbone if name[:6] in ("layer2", "layer3", "layer4") and
                     not any(norm in name for norm in norms)}  # fmt: skip
    assert not any(name.endswith("tracked") for name in backbone)

    start("evaluate", "checkpoint=a", "trainer.enable_progress_bar=false", "hydra.run.dir=b")
    assert results("b")["cost"] == results("a")["cost"]
    assert results("b")["metrics"]["mAP"] == pytest.approx(results("a")["metrics"]["mAP"])
    (share,) = results("a")["cost"]["shares"]
    assert share["number"] == 20
    assert "of it 20 proposals" in Path("a/report.html").read_text()

    seed = load_seed("a")
    assert seed.architecture == ResNetArchitecture("basic", (1, 1, 1, 1))
    assert all(torch.equal(seed.state[name], value) for name, value in backbone.items())


def test_more_stages_than_there_are(state, capsys):  # noqa: ARG001 - in whose folder it runs
    with pytest.raises(SystemExit):
        start("train", *GIVEN, "parameters.frozen_stages=6", "hydra.run.dir=a")
    assert "parameters.frozen_stages=6: the backbone has 5 stages that can be fixed" in capsys.readouterr().err
