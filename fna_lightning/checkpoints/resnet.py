"""Weight files of residual networks, whose names are torchvision's everywhere, and what their shapes show."""

from __future__ import annotations

import re

from torch import Tensor

from fna_lightning.architectures import ResNetArchitecture
from fna_lightning.checkpoints.dialects import PUBLISHED, READERS, Dialect, SeedReader, State
from fna_lightning.errors import ArchitectureError

_OF_STAGE = re.compile(r"layer[1-4]\.\d+\.(conv[123]|bn[123]|downsample\.[01])\.\w+")
_OF_STEM = re.compile(r"(conv1|bn1)\.\w+")


def _backbone(state: State) -> State:
    """All but the classifier."""
    return {key: tensor for key, tensor in state.items() if _OF_STAGE.fullmatch(key) or _OF_STEM.fullmatch(key)}


def infer_resnet(state: State) -> ResNetArchitecture:
    """The architecture that a state's names and shapes show.

    Raises:
        ArchitectureError: where a tensor is missing or a stage has a gap.
    """
    depths = tuple(_depth(state, stage) for stage in range(1, 5))
    if not any(key.startswith("layer1.0.conv3.") for key in state):
        return ResNetArchitecture("basic", depths)  # pyright: ignore[reportArgumentType] - four
    inner = _weight(state, "layer1.0.conv2.weight")
    groups = inner.shape[0] // inner.shape[1]
    return ResNetArchitecture("bottleneck", depths, groups, inner.shape[1])  # pyright: ignore[reportArgumentType]


def _depth(state: State, stage: int) -> int:
    found = {int(m[1]) for key in state if (m := re.match(rf"layer{stage}\.(\d+)\.", key))}
    if found != set(range(len(found))) or not found:
        raise ArchitectureError(f"the tensors show no whole stage layer{stage}")
    return len(found)


def _weight(state: State, name: str) -> Tensor:
    tensor = state.get(name)
    if tensor is None:
        raise ArchitectureError(f"the tensor {name} is missing")
    if tensor.dim() != 4 or tensor.numel() == 0:
        raise ArchitectureError(f"the tensor {name} is {tuple(tensor.shape)}, which no convolution has")
    return tensor


READERS[ResNetArchitecture.kind] = SeedReader(
    dialects=(Dialect("torchvision", lambda key: _OF_STAGE.fullmatch(key) is not None, _backbone),),
    infer=infer_resnet,
)
PUBLISHED.update(
    resnet50="ResNet50_Weights", resnet101="ResNet101_Weights", resnext101_64x4d="ResNeXt101_64X4D_Weights"
)
