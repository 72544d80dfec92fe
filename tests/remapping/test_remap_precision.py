"""Seeds of another precision, and targets on another device, than the tensors usually have."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fna_lightning.architectures import parse_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.checkpoints import Seed
from fna_lightning.remapping import STRATEGIES, remap


@pytest.fixture
def state(randomise, small):
    return randomise(build_backbone(small, (small.head_stage,))).state_dict()


@pytest.fixture
def larger(small):
    return parse_architecture(str(small).replace("k3_", "k5_"))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_seed_of_another_precision_gives_the_targets(dtype, strategy, state, small, larger):
    """The numbers are those of the same seed in float32, as far as its own precision goes."""
    stored = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    rounded = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in stored.items()}
    found, wanted = (build_backbone(larger, (3,)) for _ in range(2))
    wanted.load_state_dict(found.state_dict())
    remap(Seed(small, stored), found, strategy)
    remap(Seed(small, rounded), wanted, strategy)
    for name, value in wanted.state_dict().items():
        assert found.state_dict()[name].dtype == value.dtype
        assert torch.equal(found.state_dict()[name], value), name


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_target_on_a_gpu_takes_a_seed_on_the_cpu(strategy, state, small, larger):
    """Lightning moves the module before the callback runs; tensors here have a device but no storage."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        target = build_backbone(larger, (3,))
    report = remap(Seed(small, state), target, strategy)
    assert {tensor.device.type for tensor in target.state_dict().values()} == {"cuda"}
    assert any(entry.source for entry in report.entries) == (strategy != "random")
