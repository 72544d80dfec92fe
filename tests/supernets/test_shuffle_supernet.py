import pytest
import torch
from torch import nn

from fna_lightning.architectures import load_architecture, parse_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.blocks import Norm, ShuffleBlock, reestimate_statistics
from fna_lightning.choices import Choices
from fna_lightning.errors import ConfigError
from fna_lightning.supernets import ShuffleSpace, build_supernet

BASE = parse_architecture("shuffle detnas_supernet: 4 | 8: 03 | 12: 21 | 16: 30 | 20")


def test_all_blocks_in_the_order_of_the_integers():
    supernet = build_supernet(ShuffleSpace(load_architecture("shufflenet_300m")))
    choices = Choices(supernet)
    assert choices.sizes == (4,) * 20
    assert choices.names[:5] == ("stages.1.0", "stages.1.1", "stages.1.2", "stages.1.3", "stages.2.0")
    integers = [2, 1, 2, 0, 2, 1, 1, 2, 3, 3, 1, 3, 0, 0, 3, 1, 3, 1, 3, 2]
    published = load_architecture("detnas_coco_fpn_300m")
    assert supernet.architecture_of(integers).stages == published.stages
    assert choices.derive(integers)["backbone"].layout == "detnas_supernet"


def test_some_stages_and_candidates():
    space = ShuffleSpace(BASE, ("xception_3x3", "shuffle_7x7"), stages=[3, 2])
    supernet = build_supernet(space, (3, 4))
    assert Choices(supernet).names == ("stages.2.0", "stages.2.1", "stages.3.0", "stages.3.1")
    assert isinstance(supernet.stages[1][0], ShuffleBlock)
    assert str(supernet.architecture_of([0, 1, 1, 0])) == str(BASE).replace("21", "32").replace("30", "23")


def test_norms_are_scaled_tracked_and_synchronised():
    supernet = build_supernet(ShuffleSpace(BASE), (3,), norm=Norm(momentum=0.03))
    supernet = nn.SyncBatchNorm.convert_sync_batchnorm(supernet)
    norms = [each for each in supernet.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 1 + 3 * 4 * 2 * 3 + 3 * 2 * 3 + 3 * 4 * 2
    for norm in norms:
        assert isinstance(norm, nn.SyncBatchNorm)
        assert (norm.affine, norm.track_running_stats, norm.momentum) == (True, True, 0.03)


@torch.no_grad()
def test_statistics_of_a_path_are_estimated_without_the_others():
    supernet = build_supernet(ShuffleSpace(BASE), (3,)).eval()
    path = [0, 1, 2, 3, 0, 1]
    Choices(supernet).set_path(path)
    before = {name: buffer.clone() for name, buffer in supernet.named_buffers()}
    reestimate_statistics(supernet, [torch.randn(2, 3, 32, 32) for _ in range(2)])
    names = [
        f"{name}.candidates.{choice.names[index]}."
        for name, choice, index in zip(Choices(supernet).names, Choices(supernet), path, strict=True)
    ]
    for name, buffer in supernet.named_buffers():
        if name.endswith("running_var"):
            moved = name.startswith(("stages.0.", *names))
            assert torch.equal(buffer, before[name]) is not moved, name


@torch.no_grad()
def test_a_path_is_its_network_at_any_output_stride():
    supernet = build_supernet(ShuffleSpace(BASE), (3,), output_stride=8).eval()
    assert supernet.strides == {"3": 8}
    path = [3, 2, 1, 0, 3, 2]
    Choices(supernet).set_path(path)
    network = build_backbone(supernet.architecture_of(path), (3,), output_stride=8).eval()
    state = supernet.state_dict()
    for name in network.state_dict():
        stage, layer, rest = name.removeprefix("stages.").split(".", 2)
        if stage != "0":
            operation = supernet.architecture_of(path).stages[int(stage) - 1].layers[int(layer)]
            state[name] = state[f"stages.{stage}.{layer}.candidates.{operation}.{rest}"]
    network.load_state_dict({name: state[name] for name in network.state_dict()})
    images = torch.randn(1, 3, 48, 32)
    assert torch.equal(supernet(images)["3"], network(images)["3"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"candidates": []}, "give each operation once, and at least one"),
        ({"candidates": ["shuffle_3x3", "shuffle_3x3"]}, "give each operation once"),
        ({"candidates": ["shuffle_3x3", "skip"]}, "candidates name 'skip': choose among shuffle_3x3"),
        ({"stages": []}, "searches no stage: give stages such as"),
        ({"stages": [0]}, "stages name 0: searched stages are 1 to 3"),
        ({"stages": [2, 4]}, "stages name 4: searched stages are 1 to 3"),
    ],
)
def test_spaces_that_cannot_be(settings, words):
    with pytest.raises(ConfigError, match=words):
        ShuffleSpace(BASE, **settings)


def test_a_detector_that_does_not_reach_the_searched_stages():
    with pytest.raises(ConfigError, match="stage 3 is searched, but the detector reads only up to stage 2"):
        build_supernet(ShuffleSpace(BASE), (2,))
