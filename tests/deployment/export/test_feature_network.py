"""The backbone of one file, in a process that has torch and nothing of ours."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from torch import nn

from fna_lightning.architectures import ResNetArchitecture
from fna_lightning.backbones import build_backbone
from fna_lightning.blocks import freeze
from fna_lightning.deployment import load
from fna_lightning.deployment.export.feature_network import FeatureNetwork
from fna_lightning.deployment.export.layers import steps
from fna_lightning.export import main

ALONE = """
import sys
for name in ("fna_lightning", "safetensors", "torchvision", "numpy"):
    sys.modules[name] = None
import torch
from cells import FeatureNetwork

network = FeatureNetwork.load("cells.safetensors")
images = torch.load("images.pt")
maps = network((images / 255 - network.mean) / network.std)
channels, reduction = network.feature_info.channels(), network.feature_info.reduction()
torch.save((maps, channels, reduction, network.training), "maps.pt")
"""


def test_the_file_alone_gives_our_maps(trained, pictures, tmp_path, capsys):
    run = trained("ssdlite")
    path = tmp_path / "made" / "cells.safetensors"
    assert main([f"checkpoint={run}", "format=safetensors", f"output={path}", f"images={pictures}"]) == 0
    assert "computes what the network does" in capsys.readouterr().out
    assert sorted(file.name for file in path.parent.iterdir()) == ["cells.py", "cells.safetensors"]
    shutil.move(path.parent, tmp_path / "elsewhere")
    images = torch.randint(256, (2, 3, 64, 96)).float()
    torch.save(images, tmp_path / "elsewhere" / "images.pt")
    subprocess.run([sys.executable, "-c", ALONE], cwd=tmp_path / "elsewhere", check=True)
    maps, channels, reduction, training = torch.load(tmp_path / "elsewhere" / "maps.pt", weights_only=True)
    assert not training

    module = load(run).module
    with torch.no_grad():
        wanted = module.maps(images)
    assert channels == list(module.backbone.out_channels.values())
    assert reduction == list(module.backbone.strides.values())
    for one, other in zip(maps, wanted.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_the_metadata_say_what_it_is(trained, pictures, tmp_path):
    path = tmp_path / "cells.safetensors"
    main([f"checkpoint={trained('ssdlite')}", "format=safetensors", f"output={path}", f"images={pictures}"])
    with safe_open(path, "pt") as file:
        metadata = {key: json.loads(value) for key, value in file.metadata().items()}
        assert "stages.0.conv.weight" in file.keys()  # noqa: SIM118 - no mapping
    assert metadata["class_names"] == ["lorry", "tram", "van"]
    assert metadata["mean"] == pytest.approx([0.485, 0.456, 0.406])
    assert metadata["std"] == pytest.approx([1 / 255] * 3)  # SSDLite's own


@pytest.mark.parametrize(
    ("name", "stages", "stride"),
    [("mobilenet", ["2", "6.expand", "7"], None), ("mobilenet", ["3", "7"], 16), ("shuffle_small", None, None)],
)
def test_every_kind_is_described(name, stages, stride, randomise, request):
    backbone = build_backbone(request.getfixturevalue(name), stages, output_stride=stride)
    check_described(randomise(backbone).eval())


@pytest.mark.parametrize("layout", ["detnas_supernet", "mmrazor"])
def test_layouts_of_shuffled_channels(layout, randomise):
    from fna_lightning.architectures import ShuffleArchitecture, ShuffleStage

    stages = (ShuffleStage(12, ("shuffle_3x3", "xception_3x3")), ShuffleStage(16, ("shuffle_5x5", "shuffle_3x3")))
    check_described(randomise(build_backbone(ShuffleArchitecture(layout, 4, stages, 10))).eval())


@pytest.mark.parametrize(("block", "stride"), [("basic", None), ("bottleneck", 16)])
@pytest.mark.parametrize("frozen", [False, True])
def test_residual_networks_with_norms_of_both_kinds(block, stride, frozen, randomise):
    backbone = randomise(
        build_backbone(ResNetArchitecture(block, (1, 2, 1, 1)), ["0", "2", "4"], output_stride=stride)
    )
    if frozen:
        freeze(backbone, 1, norms=True)
    check_described(backbone.eval())


def check_described(backbone):
    network = FeatureNetwork(json.loads(json.dumps(steps(backbone))), []).eval()
    missing, unexpected = network.load_state_dict(backbone.state_dict(), strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        maps, wanted = network(images), backbone(images)
    assert len(maps) == len(wanted)
    for one, other in zip(maps, wanted.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_it_can_be_trained_on(small, randomise):
    backbone = randomise(build_backbone(small, ["2", "3"]))
    network = FeatureNetwork(steps(backbone), [])
    sum(each.mean() for each in network(torch.randn(2, 3, 32, 32))).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert isinstance(network.get_submodule("stages.0"), nn.Sequential)


def test_another_file_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="describes no layers"):
        FeatureNetwork.load(tmp_path / "a.safetensors")
