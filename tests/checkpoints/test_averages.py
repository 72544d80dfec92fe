"""Averages of weights (EMA) beside them or alone: which are taken, and that it is said."""

import re

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from omegaconf import OmegaConf
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from wrapped import FIRST, Holder, assert_same, changed, features, network, prefixed, state_of

from fna_lightning.backbones import build_backbone
from fna_lightning.checkpoints import weights_of
from fna_lightning.errors import CheckpointError
from fna_lightning.runs.build import build_seed


def averaged_model():
    """As torch keeps an average, with its own counter."""
    average = AveragedModel(network(), multi_avg_fn=get_ema_multi_avg_fn(0.9))
    average.module.load_state_dict(changed())
    return average


def lightnings():
    """As Lightning's own callback puts an average into a checkpoint."""
    module = L.LightningModule()
    module.model = network()
    callback = EMAWeightAveraging()
    callback._average_model = AveragedModel(module)
    callback._average_model.module.model.load_state_dict(changed())
    checkpoint = {"state_dict": module.state_dict(), "epoch": 3}
    callback.on_save_checkpoint(None, module, checkpoint)
    return checkpoint


BOTH = {
    "Lightning": lightnings,
    "timm": lambda: {"state_dict": state_of(), "state_dict_ema": changed(), "epoch": 3},
    "torchvision": lambda: {"model": state_of(), "model_ema": averaged_model().state_dict()},
    "RT-DETR": lambda: {"model": state_of(), "ema": {"module": changed(), "updates": 7}},
    "another": lambda: {"state_dict": state_of(), "ema_state_dict": prefixed("module.", changed())},
    "in a LightningModule": lambda: {
        "state_dict": Holder(model=network(), model_ema=averaged_model()).state_dict(),
    },
    "flat": lambda: state_of() | prefixed("ema.module.", changed()),
    "features": lambda: {
        "model": features(),
        "ema": {k.removeprefix("features."): t for k, t in changed().items()},
    },
}


@pytest.mark.parametrize("case", BOTH)
def test_weights_are_taken_unless_their_average_is_asked_for(load, expected, case):
    plain, average = load(BOTH[case]()), load(BOTH[case](), ema=True)
    assert_same(plain, expected)
    assert plain.notice == (
        f"{plain.source}: holds weights, which are taken, and their average (EMA), which seed.ema=true takes"
    )
    assert torch.equal(average.state[FIRST], expected.state[FIRST] + 1)
    assert average.state.keys() == expected.state.keys()
    assert average.notice == ""


@pytest.mark.parametrize("case", BOTH)
def test_an_average_alone_is_taken_and_said(load, expected, case):
    content = BOTH[case]()
    alone = {key: value for key, value in content.items() if "ema" in key} | {"best": torch.tensor(0.7)}
    if case == "Lightning":
        alone = {"ema": content["state_dict"]}
    if case == "in a LightningModule":
        alone = {"state_dict": {k: t for k, t in content["state_dict"].items() if "model_ema" in k}}
    seed = load(alone)
    assert torch.equal(seed.state[FIRST], expected.state[FIRST] + 1)
    assert seed.notice == f"{seed.source}: holds averaged weights (EMA) alone, which are taken"
    assert load(alone, ema=True).notice == ""


def shadows():
    return [parameter.detach() + 1 for parameter in network().parameters()]


LISTS = {
    "ema.shadow_params": lambda: {"ema": {"decay": 0.9, "num_updates": 3, "shadow_params": shadows()}},
    "ema_model.shadow_params": lambda: {"ema_model": {"shadow_params": shadows(), "collected_params": None}},
    "ema": lambda: {"ema": shadows()},
    "model_ema": lambda: {"model_ema": tuple(shadows())},
    "shadow_params": lambda: {"decay": 0.9, "shadow_params": shadows()},
}


@pytest.mark.parametrize("key", LISTS)
def test_an_average_without_names_is_told(load, expected, key):
    """As torch_ema and its like keep it: in the order of a module that nobody has."""
    seed = load({"state_dict": state_of(), **LISTS[key]()})
    assert_same(seed, expected)
    nameless = f"averaged weights (EMA) as a list, {key}, which does not say which tensor is which"
    assert seed.notice == f"{seed.source}: holds weights, which are taken, and {nameless}: that is passed over"
    for content, ema, mend in (
        ({"state_dict": state_of(), **LISTS[key]()}, True, "save them by name, or give seed.ema=false"),
        (LISTS[key](), False, "save them by name, as a state_dict"),
        (LISTS[key](), True, "save them by name, as a state_dict"),
    ):
        with pytest.raises(CheckpointError, match=re.escape(f"weights.pth: holds {nameless}; {mend}")):
            load(content, ema=ema)


def test_an_average_by_name_wins_over_a_list(load, expected):
    content = {"state_dict": state_of(), "ema": changed(), "ema_model": shadows()}
    assert "seed.ema=true takes" in load(content).notice
    assert torch.equal(load(content, ema=True).state[FIRST], expected.state[FIRST] + 1)


def test_an_average_that_is_not_there(load):
    assert load(state_of()).notice == ""
    with pytest.raises(
        CheckpointError, match=r"weights\.pth: holds no averaged weights \(EMA\); give seed\.ema=false"
    ):
        load(state_of(), ema=True)


def test_the_choice_is_a_setting(tmp_path, expected, caplog):
    torch.save(BOTH["timm"](), tmp_path / "both.pth")
    seed = {"weights": str(tmp_path / "both.pth"), "architecture": None}
    config = OmegaConf.create({"remap": {"strategy": "fna"}, "seed": seed})
    assert_same(build_seed(config), expected)  # as a run of before the setting has saved it
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/both.pth: holds weights, which are taken, and their average (EMA), which seed.ema=true takes"
    ]
    config.seed.ema = True
    assert torch.equal(build_seed(config).state[FIRST], expected.state[FIRST] + 1)
    assert len(caplog.records) == 1


def test_a_part_of_a_network_that_is_called_so_is_no_average():
    state = {"backbone.neck.ema.weight": torch.zeros(2), "backbone.conv.weight": torch.ones(2)}
    assert set(weights_of(state).plain) == {"neck.ema.weight", "conv.weight"}
    assert weights_of(state).averaged == {}


def test_torchs_average_of_a_model(small):
    """`AveragedModel` saved alone is an average, and said to be."""
    network = build_backbone(small, (small.head_stage,))
    averaged = torch.optim.swa_utils.AveragedModel(network)
    weights = weights_of(averaged.state_dict())
    assert weights.plain == {}
    assert set(weights.averaged) == set(network.state_dict())
