"""Seeds as wrappers save them, and files in which a number or a tensor is wrong."""

import functools
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from wrapped import Holder, assert_same, features, network, prefixed, state_of

from fna_lightning.backbones import build_backbone
from fna_lightning.checkpoints import load_seed, weights_of
from fna_lightning.errors import CheckpointError, UserError
from fna_lightning.remapping import remap
from fna_lightning.runs.build import load_parameters


def compiled_inside():
    """As `torch.compile` names parameters where the features alone are compiled."""
    return {name.replace("features.", "features._orig_mod."): tensor for name, tensor in state_of().items()}


WRAPPED = {
    "DataParallel": lambda: nn.DataParallel(network()).state_dict(),
    "Lightning": lambda: {"state_dict": Holder(model=network()).state_dict(), "epoch": 3, "loops": {"fit": {}}},
    "compiled": lambda: torch.compile(network()).state_dict(),
    "compiled inside": compiled_inside,
    "Lightning, compiled": lambda: {"state_dict": Holder(model=torch.compile(network())).state_dict()},
    "compiled, then wrapped": lambda: prefixed("module._orig_mod."),
    "wrapped, then compiled": lambda: prefixed("_orig_mod.module."),
    "sharded": lambda: prefixed("_fsdp_wrapped_module._checkpoint_wrapped_module."),
    "twice": lambda: prefixed("module.module."),
    "another attribute": lambda: {"state_dict": Holder(net=network()).state_dict()},
    "an attribute of an attribute": lambda: Holder(student=Holder(encoder=network())).state_dict(),
    "beside a head": lambda: Holder(backbone=network(), head=nn.Linear(3, 4)).state_dict(),
    "features of a detector": lambda: {"model": features("backbone.body.") | {"backbone.fpn.x": torch.zeros(3)}},
    "mapping in a mapping": lambda: {"model": {"state_dict": state_of()}},
    "pycls": lambda: {
        "model_state": state_of(),
        "optimizer_state": {"state": {0: {"m": torch.zeros(2, 2, 1, 1)}}},
    },
    "features": features,
    "features, compiled": lambda: features("_orig_mod."),
    "features in a wrapper": lambda: {"state_dict": features("module.")},
    "features in a sequence": lambda: nn.Sequential(network().features, nn.Flatten()).state_dict(),
    "parameters": lambda: dict(network().named_parameters()) | dict(network().named_buffers()),
}


@pytest.mark.parametrize("case", WRAPPED)
def test_a_wrapped_network_is_the_network(load, expected, case):
    assert_same(load(WRAPPED[case]()), expected)


@given(
    wrappers=st.lists(st.sampled_from(["module", "model", "_orig_mod", "network", "backbone"]), max_size=5),
    outside=st.sampled_from(["", "state_dict", "model", "model_state_dict"]),
    alone=st.booleans(),
    attribute=st.sampled_from(["", "net.", "student.encoder."]),
)
def test_wrappers_in_any_order(tmp_path_factory, expected, wrappers, outside, alone, attribute):
    prefix = "".join(f"{wrapper}." for wrapper in wrappers) + attribute
    state = features(prefix) if alone else prefixed(prefix)
    path = tmp_path_factory.getbasetemp() / "wrapped.pth"
    torch.save({outside: state, "epoch": 1, "best": torch.tensor(0.7)} if outside else state, path)
    assert_same(load_seed(path), expected)


def test_two_networks_in_one_file_are_named(load):
    with pytest.raises(CheckpointError, match=r"holds several networks \(student\., teacher\.\); save the one"):
        load(Holder(student=network(), teacher=network()).state_dict())


def test_mappings_that_hold_themselves_end():
    content = {"state_dict": {"a": torch.zeros(1)}}
    content["state_dict"]["state_dict"] = content
    assert set(weights_of(content).plain) == {"a"}


# Numbers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_precisions_become_32_bits(tmp_path, expected, dtype, suffix):
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in state_of().items()}
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    seed = load_seed(path)
    for name, tensor in seed.state.items():
        assert tensor.dtype == expected.state[name].dtype
        assert torch.equal(tensor, expected.state[name].to(dtype).to(tensor.dtype))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("features.3.conv.1.0.weight", float("nan"), "holds 1 NaN or infinite value(s) of "),
        ("features.0.1.bias", float("inf"), "holds 1 NaN or infinite value(s) of 32; "),
        ("features.9.1.running_mean", float("-inf"), "holds 1 NaN or infinite value(s) of 1280; "),
        ("features.1.conv.0.1.running_var", -1.0, "holds negative variances; "),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_numbers_that_are_none_are_named(load, name, value, words, dtype):
    state = {key: tensor.clone().to(dtype) for key, tensor in state_of().items()}
    assert name in state
    state[name].view(-1)[1] = value
    with pytest.raises(CheckpointError) as error:
        load({"state_dict": prefixed("module.", state)})
    assert f"weights.pth: the tensor {name} {words}" in str(error.value)
    assert str(error.value).endswith("give weights from before training went wrong")


def test_what_is_not_used_may_be_anything(load, expected):
    state = state_of()
    state["classifier.1.weight"] = torch.full((2, 1280), float("nan"))
    assert_same(load(state), expected)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(32, 3, 3, 3, dtype=torch.int8), "is of int8; save the weights as floating-point"),
        (torch.zeros(32, 3, 3, 3, dtype=torch.complex64), "is of complex64; save"),
        (torch.zeros(32, 3, 3, 3, device="meta"), "holds no plain numbers"),
        (torch.zeros(32, 3, 3, 3).to_sparse(), "holds no plain numbers"),
    ],
)
def test_tensors_that_are_no_floating_point_numbers(load, tensor, words):
    with pytest.raises(CheckpointError, match=rf"weights\.pth: the tensor features\.0\.0\.weight {words}"):
        load(state_of() | {"features.0.0.weight": tensor})


def test_a_runs_checkpoint_with_a_nan_is_refused_everywhere(tmp_path, expected):
    target = build_backbone(expected.architecture, (7,))
    net = Holder(backbone=target)
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "last.ckpt"
    content = {"state_dict": prefixed("network.", net.state_dict()), "architecture": str(expected.architecture)}
    torch.save(content, path)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    load_parameters(net, tmp_path)
    content["state_dict"]["network.backbone.stages.3.0.depthwise.norm.bias"][0] = float("nan")
    torch.save(content, path)
    net.load_state_dict(before)
    for read in (load_seed, functools.partial(load_parameters, net)):
        with pytest.raises(CheckpointError, match=r"stages\.3\.0\.depthwise\.norm\.bias holds 1 NaN or infinite"):
            read(tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize(
    "stored", [{}, torch.zeros(3), None, [], {3: torch.zeros(1)}, {"network.weight": 3}, {"network.weight": None}]
)
def test_a_runs_checkpoint_without_tensors_is_one_line(tmp_path, stored):
    torch.save({"state_dict": stored}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt: does not fit this network") as error:
        load_parameters(nn.Linear(2, 2), tmp_path / "last.ckpt")
    assert "\n" not in str(error.value)


# Any one thing wrong


def without(state, name):
    del state[name]


def to(change):
    """One tensor replaced by what `change` makes of it."""

    def apply(state, name):
        state[name] = change(state[name])

    return apply


def with_value(value):
    def change(state, name):
        state[name] = state[name].float().clone()
        state[name].view(-1)[-1] = value

    return change


def renamed(state, name):
    state[f"{name}s"] = state.pop(name)


def beside_others(state, name):
    state[f"auxiliary.{name}"] = torch.zeros(2, 2)
    state["epoch"] = 3


HARMLESS = {"half": to(torch.Tensor.half), "double": to(torch.Tensor.double), "others": beside_others}
HARMFUL = {
    "gone": without,
    "renamed": renamed,
    "no tensor": to(torch.Tensor.tolist),
    "NaN": with_value(float("nan")),
    "infinite": with_value(float("inf")),
    "integers": to(torch.Tensor.int),
    "truth": to(torch.Tensor.bool),
    "longer": to(lambda tensor: torch.cat([tensor.reshape(-1), torch.zeros(1)])),
    "of other dimensions": to(lambda tensor: tensor.reshape(1, -1, 1, 1, 1)),
}


@given(
    place=st.integers(0, 2**16),
    change=st.sampled_from(sorted(HARMLESS | HARMFUL)),
    wrapper=st.sampled_from(["", "module.", "model._orig_mod."]),
)
@settings(max_examples=80)
def test_a_change_is_read_right_or_one_line(tmp_path_factory, expected, place, change, wrapper):
    names = [name for name in state_of() if name.startswith("features.") and not name.endswith("tracked")]
    name = names[place % len(names)]
    state = {key: tensor.clone() for key, tensor in state_of().items()}
    (HARMLESS | HARMFUL)[change](state, name)
    path = tmp_path_factory.getbasetemp() / "changed.pth"
    torch.save({"state_dict": {wrapper + key: value for key, value in state.items()}}, path)
    target = build_backbone(expected.architecture, (8,))
    if change in HARMFUL:
        with pytest.raises(CheckpointError) as error:
            remap(load_seed(path), target)
        assert "changed.pth" in str(error.value)
        assert re.search(r"tensor|names|place|wants|stages|lacks", str(error.value))
        assert "\n" not in str(error.value)
    else:
        remap(load_seed(path), target)
        for key, tensor in target.state_dict().items():
            assert torch.equal(tensor, expected.state[key]), key


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\noid", b"<!DOCTYPE html>"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_stands_in_for_weights_is_named(tmp_path, content, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is a pointer or a web page in place of the weights; download"):
        load_seed(path)


def test_weights_that_are_all_zero_are_refused(tmp_path):
    torch.save({name: torch.zeros_like(tensor) for name, tensor in state_of().items()}, tmp_path / "seed.pth")
    with pytest.raises(CheckpointError, match=r"seed\.pth: all of its weights are zero; give those of a trained"):
        load_seed(tmp_path / "seed.pth")


@pytest.mark.parametrize("layer", [1, 5, 16])
def test_a_layer_that_is_missing_is_named(torchvision_net, tmp_path, layer):
    state = torchvision_net.state_dict()
    torch.save({k: v for k, v in state.items() if not k.startswith(f"features.{layer}.")}, tmp_path / "seed.pth")
    with pytest.raises(CheckpointError, match=f"the tensors of features.{layer} are missing"):
        load_seed(tmp_path / "seed.pth")
