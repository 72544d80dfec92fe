"""A small network as others save it: its tensors under their names, and what a reading of them must give."""

import functools

import torch
from torch import nn
from torchvision.models import mobilenet_v2

SETTING = [[1, 8, 1, 1], *[[2, width, 1 + (width == 24), 2] for width in (16, 24, 32, 40, 48, 56)]]
FIRST = "stages.0.conv.weight"


@functools.cache
def network():
    """A small MobileNetV2 of torchvision's, whose values survive half precision."""
    torch.manual_seed(0)
    net = mobilenet_v2(num_classes=2, inverted_residual_setting=SETTING)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.copy_(tensor.half().float() if tensor.is_floating_point() else tensor + 7)
    return net


def state_of(net=None):
    return dict((net or network()).state_dict())


def prefixed(prefix, state=None, **others):
    return {**{prefix + name: tensor for name, tensor in (state or state_of()).items()}, **others}


def changed(state=None):
    """Other weights of the same names."""
    return {name: t + 1 if t.is_floating_point() else t for name, t in (state or state_of()).items()}


def features(prefix=""):
    return prefixed(prefix, network().features.state_dict())


def assert_same(seed, expected):
    assert seed.architecture == expected.architecture
    assert seed.state.keys() == expected.state.keys()
    for name, tensor in seed.state.items():
        assert tensor.dtype == expected.state[name].dtype
        assert torch.equal(tensor, expected.state[name]), name


class Holder(nn.Module):
    """A module that holds networks under any names, as a user's LightningModule does."""

    def __init__(self, **networks):
        super().__init__()
        for name, net in networks.items():
            setattr(self, name, net)
        self.register_buffer("class_weights", torch.ones(3))
